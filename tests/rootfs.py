# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian of its own for tests that need systemd, dpkg and an initramfs: as a disk that QEMU boots.

The file system is made once, by mmdebstrap, with the kernel's package installed as an administrator would
install it, and kept as a tarball in the user's cache, keyed by what decides about it.  A test unpacks it
into a folder (`unpacked`), changes what it likes there, `chroot`s into it for programs of the Debian itself
(update-initramfs), and makes a disk of it (`disk`); no loop device, no mount.

A guest with `disk` runs its steps like any other (kbuild_py/vm/guest.py).  They come on a second disk, from
which a service of systemd takes and runs them: tests/rootfs.sh.  The guest's `files` lie below /run/guest.

mmdebstrap and chroot need root.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kbuild_py import run
from kbuild_py.files import cache_folder, sha256
from kbuild_py.kernel.hold import taken
from kbuild_py.kernel.lock import read_lock
from kbuild_py.kernel.packages import stored
from kbuild_py.kernel.target import TargetKernel
from tests.conftest import description_of

HERE = Path(__file__).parent
RUNNER = HERE / "rootfs.sh"
PACKAGES = "systemd-sysv,udev,kmod,initramfs-tools,linux-base,cpio,busybox,zstd"
SIZE = "1500M"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# The guest has few devices; what it never loads is not unpacked, but for the ones that patches are for.
LEFT_OUT = tuple(
    f"path-exclude=/lib/modules/*/kernel/{folder}/*"
    for folder in (
        "sound",
        *(f"drivers/{name}" for name in ("gpu", "media", "net/ethernet", "net/wireless", "staging")),
        *(f"drivers/{name}" for name in ("infiniband", "iio", "isdn", "usb", "scsi", "input", "mtd")),
    )
)

SERVICE = """\
[Unit]
Description=Steps of a test
[Service]
Type=simple
ExecStart=/bin/sh /usr/local/sbin/rootfs-steps
TimeoutStopSec=5
[Install]
WantedBy=multi-user.target
"""

# In the root file system, before the kernel's package is installed.
SET_UP = """\
set -eu
printf '%s\\n' virtio_pci virtio_blk ext4 >>"$1/etc/initramfs-tools/modules"
sed -i -e 's/^MODULES=.*/MODULES=list/' "$1/etc/initramfs-tools/initramfs.conf"
echo '/dev/vda / ext4 errors=remount-ro 0 1' >"$1/etc/fstab"
echo guest >"$1/etc/hostname"
"""


def unpacked(kernel: TargetKernel, flavour: str, folder: Path) -> Path:
    """The Debian with `kernel` (its description's flavour: amd64), unpacked into `folder`; returns that.

    Skips the test when it cannot be made here (not root, a tool is missing), and fails it in CI.
    """
    missing = [name for name in ("mmdebstrap", "mke2fs", "chroot", "tar") if shutil.which(name) is None]
    if os.geteuid() != 0:
        missing.append("root's rights")
    if missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"missing: {', '.join(missing)}")
        pytest.skip(f"missing: {', '.join(missing)}")
    folder.mkdir(parents=True)
    run.run(["tar", "-x", "--numeric-owner", "-f", _tarball(kernel, flavour), "-C", folder])
    shutil.copy(RUNNER, folder / "usr/local/sbin/rootfs-steps")
    (folder / "etc/systemd/system/rootfs-steps.service").write_text(SERVICE)
    wants = folder / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "rootfs-steps.service").symlink_to("/etc/systemd/system/rootfs-steps.service")
    return folder


def _tarball(kernel: TargetKernel, flavour: str) -> Path:
    """The cached tarball, made when it is not there."""
    lock = read_lock(description_of(kernel.name, flavour))
    (image,) = (package for package in lock.packages if package.name == f"linux-image-{kernel.release}")
    key = sha256("\0".join((PACKAGES, SET_UP, image.sha256, *LEFT_OUT)).encode())[:12]
    home = cache_folder() / "rootfs"
    path = home / f"{kernel.release}-{key}.tar"
    home.mkdir(parents=True, exist_ok=True)
    with taken(home / f"{path.name}.lock", "waiting for another test that makes a root file system"):
        if path.exists():
            return path
        hook = home / f"{path.name}.sh"
        hook.write_text(SET_UP)
        half = home / f"{key}.half.tar"
        options = [word for option in LEFT_OUT for word in ("--dpkgopt", option)]
        install = 'chroot "$1" sh -c "dpkg -i /kernel.deb && rm /kernel.deb"'
        # fmt: off
        run.run(["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={PACKAGES}", *options,
                 f"--customize-hook=sh '{hook}' \"$1\"",
                 f"--customize-hook=upload '{stored(image)}' /kernel.deb",
                 f"--customize-hook={install}",
                 "bookworm", half], timeout=1200)
        # fmt: on
        hook.unlink()
        half.rename(path)
    return path


def chroot(folder: Path, *argv: str) -> str:
    """Run a program of the root file system in it; returns what it prints."""
    command = ["chroot", str(folder), "/usr/bin/env", "-i", f"PATH={PATH}", "LC_ALL=C", *argv]
    return run.run(command).stdout


def initramfs(folder: Path, kernel: TargetKernel) -> Path:
    """Make the initramfs anew, by the Debian's own tools; returns the file."""
    chroot(folder, "update-initramfs", "-u", "-k", kernel.release)
    return folder / "boot" / f"initrd.img-{kernel.release}"


def disk(folder: Path, path: Path) -> Path:
    """An ext4 file system with what is in `folder`, in the file `path`; returns that."""
    run.run(["mke2fs", "-q", "-t", "ext4", "-F", "-d", folder, path, SIZE])
    return path
