# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages in a Debian with systemd: installed in a chroot and in the running kernel, upgraded, removed.

One boot with every step, of packages that `doit package` made.  What the kernel does with them is looked at
in /proc/meminfo, which the patch changes.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import Outcome, render_report
from tests import rootfs
from tests.projects import throw_away

pytestmark = [pytest.mark.kernel, pytest.mark.boot]

NAME = "meminfo-string"
PACKAGE = f"kpatch-{NAME}-6.1.0-50-amd64"
FOLDER = f"/usr/lib/kpatch/6.1.0-50-amd64/{NAME}"
OLD, NEW, NEWER = "VmallocTotal", "VMALLOCTOTAL", "VMALLOC_TOTA"


def shows(text: str) -> GuestStep:
    return GuestStep(f"meminfo shows {text}", f"grep -c '^{text}:' /proc/meminfo", stdout="1")


# Looks at meminfo all the time, so as to see any moment without a patch.
WATCH = f"""\
while [ ! -e /run/enough ]; do
	grep -q '^{OLD}:' /proc/meminfo && echo unpatched
done >/run/watched 2>&1 &
sleep 1
dpkg -i /root/2.deb; status=$?
touch /run/enough; wait
cat /run/watched
exit $status
"""

STEPS = (
    GuestStep("the machine is up", "systemctl is-system-running --wait", essential=True, timeout=240),
    GuestStep("what the chroot installed was loaded at boot", "kpatch status", contains=f"{NAME}: applied"),
    shows(NEW),
    GuestStep("dpkg finds its files whole", f"dpkg --verify {PACKAGE} kbuild-py-kpatch", stdout=""),
    GuestStep("reinstalled", "dpkg -i /root/1.deb", contains="the patch is loaded already", timeout=200),
    GuestStep("removed", f"dpkg -r {PACKAGE}", contains=f"{NAME}: unloaded", timeout=200),
    shows(OLD),
    GuestStep("nothing is left", f"ls {FOLDER} /sys/module/kpatch_meminfo_string", 2),
    GuestStep("installed", "dpkg -i /root/1.deb", contains=f"{NAME}: applied", timeout=200),
    shows(NEW),
    GuestStep("upgraded, and never unpatched", WATCH, absent="unpatched", contains="applied", timeout=200),
    shows(NEWER),
    GuestStep("the old one is gone", "kpatch list", absent=f" {NAME} ("),
    GuestStep("only the new one is there", "ls /sys/kernel/kpatch/patches", stdout=f"{NAME}-2"),
    GuestStep("its files too", f"test ! -e {FOLDER} && test -e {FOLDER}-2/record.json"),
    GuestStep("purged", f"dpkg -P {PACKAGE}", timeout=200),
    shows(OLD),
    GuestStep(
        "a patch that the kernel refuses fails",
        "mv /usr/sbin/kpatch /root; printf '#!/bin/sh\\nexit 1\\n' >/usr/sbin/kpatch; "
        "chmod +x /usr/sbin/kpatch; dpkg -i /root/1.deb; status=$?; mv /root/kpatch /usr/sbin/; exit $status",
        1,
        contains="the fix is NOT in effect",
        timeout=200,
    ),
    GuestStep("and says how to try again", f"dpkg --configure {PACKAGE}", contains="applied", timeout=200),
    shows(NEW),
    GuestStep(
        "an unsigned module where signatures are enforced",
        f"dpkg -r {PACKAGE}; mount --bind /root/yes /sys/module/module/parameters/sig_enforce; "
        "dpkg -i /root/1.deb; status=$?; umount /sys/module/module/parameters/sig_enforce; exit $status",
        1,
        contains="is not signed",
        timeout=200,
    ),
    GuestStep("which is removed all the same", f"dpkg -P {PACKAGE} kbuild-py-kpatch", timeout=200),
    GuestStep("no complaint of the kernel", "dmesg | grep -E 'BUG:|WARNING:|Oops'", 1),
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, debian12: TargetKernel) -> Path:
    """1.deb, 2.deb (the next version, which changes another word) and runtime.deb."""
    home = tmp_path_factory.mktemp("packages")
    project = throw_away(home / "project")
    project.built(f"package:{NAME}")
    (runtime,) = (project.root / "build" / "core").glob("*.deb")
    shutil.copy(runtime, home / "runtime.deb")
    for number in (1, 2):
        (made,) = project.folder(NAME).glob("*.deb")
        shutil.copy(made, home / f"{number}.deb")
        if number == 1:
            manifest = project.manifest(NAME)
            manifest.write_text(manifest.read_text().replace("\nname:", "\nversion: 2\nname:"))
            patch = manifest.with_name(f"{NAME}.patch")
            patch.write_text(patch.read_text().replace(f"{NEW}: ", f"{NEWER}: "))
            project.built(f"package:{NAME}")
    return home


@pytest.mark.skipif(shutil.which("lintian") is None, reason="no lintian")
def test_lintian_of_the_command(packages: Path) -> None:
    argv = ["lintian", "--no-cfg", "--fail-on", "error,warning,info", "-IE", str(packages / "runtime.deb")]
    done = subprocess.run(argv, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if not line.startswith("N:")]
    assert (done.returncode, found) == (0, [])


def test_life_of_a_package(debian12: TargetKernel, packages: Path, tmp_path: Path) -> None:
    root = rootfs.unpacked(debian12, "amd64", tmp_path / "root")
    for name in ("1.deb", "2.deb", "runtime.deb"):
        shutil.copy(packages / name, root / "root" / name)
    (root / "root/yes").write_text("Y\n")
    said = rootfs.chroot(root, "dpkg", "-i", "/root/runtime.deb", "/root/1.deb")
    assert "installed and not loaded" in said
    assert (root / "etc/systemd/system/sysinit.target.wants/kpatch.service").is_symlink()
    image = f"boot/initrd.img-{debian12.release}"
    assert f"{FOLDER[1:]}/kpatch.ko" in rootfs.chroot(root, "lsinitramfs", f"/{image}")
    initramfs = Path(shutil.copy(root / image, tmp_path / "initramfs"))
    # Seen above; in the guest it would take most of the time.
    (root / "etc/initramfs-tools/update-initramfs.conf").write_text("update_initramfs=no\n")
    guest = Guest(
        STEPS,
        memory=768,
        start_timeout=300,
        timeout=900,
        append="root=/dev/vda rw",
        one_thread=True,
        disk=rootfs.disk(root, tmp_path / "disk"),
        initramfs=initramfs,
    )
    report = boot(debian12.boot_image, guest, tmp_path / "boot")
    assert report.outcome is Outcome.PASSED, render_report(report)
