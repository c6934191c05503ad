# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches at boot: a Debian with systemd, its initramfs made by the hook, three boots of one disk.

The first loads from the initramfs.  In the second the root file system is read-only there, so systemd's
unit loads, and one of the patches crashes the machine.  The third must not load any, until it is told to.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import BootReport, Outcome, render_report
from tests import rootfs

pytestmark = [pytest.mark.kernel, pytest.mark.boot]

RUNTIME = Path(__file__).parents[2] / "runtime"
UP = GuestStep("the machine is up", "systemctl is-system-running --wait", essential=True, timeout=240)

FIRST = (
    UP,
    GuestStep(
        "loaded from the initramfs",
        "dmesg | grep -F 'kpatch (initramfs): alpha: applied' && cat /proc/cmdline",
        contains="alpha\n",
    ),
    GuestStep(
        "the unit had nothing to do", "systemctl is-active kpatch && kpatch list", contains="alpha (kpatch)"
    ),
    GuestStep("the boot has come to its end", "sleep 3; kpatch guard", contains="no boot has ended"),
    GuestStep("unload, load by name", "kpatch unload --all && kpatch load alpha", contains="alpha: applied"),
    GuestStep("status", "kpatch status", stdout="alpha: applied (kpatch)\n  vmlinux: patched"),
    GuestStep(
        "kpatch=off",
        "kpatch unload --all; tr '\\n' ' ' </proc/cmdline >/run/line; echo kpatch=off >>/run/line; "
        "mount --bind /run/line /proc/cmdline; kpatch load --all --boot; s=$?; umount /proc/cmdline; "
        "kpatch status; exit $s",
        contains="no patch is loaded\n",
    ),
    GuestStep("install one that crashes", "kpatch install /root/patches/kpatch-crash.ko; sync"),
)
THIRD = (
    GuestStep("the machine is up", "systemctl is-system-running --wait", 1, "degraded", timeout=240),
    GuestStep("which is told", "systemctl status kpatch", 3, contains="did not get to its end"),
    GuestStep("nothing was loaded", "kpatch status", stdout="no patch is loaded"),
    GuestStep("nothing in the initramfs either", "dmesg | grep -c 'kpatch: alpha: applied'", 1, stdout="0"),
    GuestStep("the guard says so", "kpatch guard", 5, contains="until `kpatch guard --reset'"),
    GuestStep(
        "told to",
        "kpatch uninstall crash && kpatch guard --reset && systemctl restart kpatch && kpatch status",
        contains="alpha: applied (kpatch)",
    ),
    GuestStep(
        "guarded again", "kpatch guard; kpatch guard --booted; kpatch guard", contains="no boot has ended"
    ),
)


@pytest.fixture(scope="module")
def machine(
    debian12: TargetKernel, modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Its disk, and its initramfs."""
    home = tmp_path_factory.mktemp("machine")
    root = rootfs.unpacked(debian12, "amd64", home / "root")
    shutil.copy(RUNTIME / "kpatch", root / "usr/sbin/kpatch")
    for unit in ("kpatch.service", "kpatch-booted.service"):
        shutil.copy(RUNTIME / unit, root / "usr/lib/systemd/system" / unit)
        rootfs.chroot(root, "systemctl", "enable", unit)
    for script in ("hooks/kpatch", "scripts/init-bottom/kpatch"):
        shutil.copy(RUNTIME / "initramfs-tools" / script, root / "usr/share/initramfs-tools" / script)
    (root / "var/lib/kpatch").mkdir()
    patches = root / "root/patches"
    patches.mkdir()
    for name in ("kpatch.ko", "kpatch-alpha.ko", "kpatch-crash.ko"):
        shutil.copy(modules / name, patches)
    alpha = root / "usr/lib/kpatch" / debian12.release / "alpha"
    alpha.mkdir(parents=True)
    for name in ("kpatch.ko", "kpatch-alpha.ko"):
        shutil.copy(modules / name, alpha)
    initramfs = Path(shutil.copy(rootfs.initramfs(root, debian12), home / "initramfs"))
    return rootfs.disk(root, home / "disk"), initramfs


def start(
    kernel: TargetKernel, machine: tuple[Path, Path], steps: tuple[GuestStep, ...], append: str, folder: Path
) -> BootReport:
    disk, initramfs = machine
    guest = Guest(
        steps,
        memory=768,
        start_timeout=300,
        append=f"root=/dev/vda {append}",
        one_thread=True,
        disk=disk,
        initramfs=initramfs,
    )
    return boot(kernel.boot_image, guest, folder)


def test_boots(debian12: TargetKernel, machine: tuple[Path, Path], tmp_path: Path) -> None:
    first = start(debian12, machine, FIRST, "rw", tmp_path / "first")
    assert first.outcome is Outcome.PASSED, render_report(first)
    second = start(debian12, machine, (UP,), "ro", tmp_path / "second")
    assert second.outcome in (Outcome.NEVER_STARTED, Outcome.PANICKED), render_report(second)
    assert "the patch of the test" in second.console
    assert "cannot be written, so no patch is loaded" in second.console
    third = start(debian12, machine, THIRD, "rw", tmp_path / "third")
    assert third.outcome is Outcome.PASSED, render_report(third)
