# SPDX-License-Identifier: GPL-2.0-or-later
"""The store of downloaded packages, keyed by content, and how a package gets into it.

`<cache>/packages/SHA256/NAME_VERSION_ARCH.deb` holds each package once, whichever kernels use it.  A
package enters the store only under the digest that its lock names, and is read again in full each time
it is unpacked: a file that rotted, or was tampered with, is refused then.

A locked version is looked for in three places, in this order: the lists of the system's sources as they
are, the same lists fetched anew, and snapshot.debian.org at the time the lock was made.  The last one is
asked with short waits: where it cannot be reached, the answer (with the command that moves the lock)
should come within a minute or so.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from kbuild_py.errors import Problems, UserError, refuse
from kbuild_py.files import cache_folder, sha256_file
from kbuild_py.kernel.apt import Archive, Package, Unavailable
from kbuild_py.kernel.hold import holding, taken
from kbuild_py.kernel.lock import Lock, lock_path, missing_version, refresh, system_archive
from kbuild_py.manifest.model import KernelDescription
from kbuild_py.progress import say, step
from kbuild_py.run import run

SNAPSHOT = "https://snapshot.debian.org/archive"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SNAPSHOT_PATIENCE = 10  # seconds that a silent server is waited for
SNAPSHOT_TIMEOUT = 180  # seconds for its package lists


def stored(package: Package) -> Path:
    """Where the store has (or will have) a package."""
    return cache_folder() / "packages" / package.sha256 / package.file_name


def need_room(folder: Path, size: int, what: str) -> None:
    """Refuse early when `folder`'s disk has fewer than `size` bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size:
        raise refuse(
            folder,
            f"{what} needs {size >> 20} MB, but only {free >> 20} MB are free",
            "make room, or set KBUILD_PY_CACHE to a folder on a larger disk",
        )


def fetch(description: KernelDescription, lock: Lock) -> None:
    """Bring all packages of `lock` into the store; those that are there are not asked for again."""
    with taken(cache_folder() / "packages.lock", "waiting for another build that downloads"):
        missing = [package for package in lock.packages if not stored(package).exists()]
        if not missing:
            return
        need_room(cache_folder(), sum(package.size for package in missing), "the download of the packages")
        archive = system_archive(description)
        complaints = "" if archive.has_lists() else refresh(archive)
        if _get(archive, missing, description):
            return
        complaints = complaints or refresh(archive)
        if _get(archive, missing, description):
            return
        said = _get_from_snapshot(description, lock, missing)
        if not said:
            return
        gone = [package.name for package in missing if archive.find(package.name, package.version) is None]
        if gone:
            raise missing_version(archive, description, gone, complaints, said)
        names = ", ".join(package.name for package in missing)
        raise refuse(names, f"the archive lists version {lock.version} but does not serve it\n{said}")


def _get(archive: Archive, packages: Sequence[Package], description: KernelDescription) -> bool:
    """Download `packages` from `archive`; False when it does not have them all."""
    problems = Problems()
    for package in packages:
        offered = archive.find(package.name, package.version)
        if offered is None:
            return False
        if offered.sha256 != package.sha256:
            problems.add(
                lock_path(description),
                f"locks {package.name} {package.version} as {package.sha256}, "
                f"but the archive's file of that version is {offered.sha256}",
                f"if you trust the archive more than the lock: kbuild-py kernel lock {description.name}",
            )
    problems.raise_if_any()
    # One folder for all downloads: whoever comes next goes on with the packages that came whole.
    folder = cache_folder() / "packages" / "partial"
    for package in packages:
        path = folder / package.file_name
        # apt takes a file of the right size for the right file.
        if path.exists() and path.stat().st_size >= package.size and sha256_file(path) != package.sha256:
            path.unlink()
    size = sum(package.size for package in packages)
    with step(
        f"downloading {len(packages)} packages of linux {packages[0].version}, {size >> 20} MB"
    ) as shown:
        try:
            archive.download(packages, folder, shown)
        except Unavailable as error:
            say(str(error))
            return False
    for package in packages:
        path = folder / package.file_name
        try:
            verify(path, package)
        except UserError:
            path.unlink(missing_ok=True)
            raise
        stored(package).parent.mkdir(parents=True, exist_ok=True)
        path.rename(stored(package))
    return True


def _get_from_snapshot(description: KernelDescription, lock: Lock, packages: Sequence[Package]) -> str:
    """Download from snapshot.debian.org; returns "" on success, else why not (one line)."""
    if not KEYRING.exists():
        return "snapshot.debian.org was not asked: install the package debian-archive-keyring"
    if not lock.seen or not lock.suites:
        return "snapshot.debian.org was not asked: the lock does not say when the archive had this version"
    architecture = system_archive(description).architecture
    archive = Archive(
        cache_folder() / "apt" / f"{architecture}-{lock.seen}",
        architecture,
        sources=snapshot_sources(lock),
        patience=SNAPSHOT_PATIENCE,
    )
    archive.configure()
    with step(f"asking snapshot.debian.org for the archive of {lock.seen}"):
        try:
            complaints = archive.update(timeout=SNAPSHOT_TIMEOUT)
        except UserError as error:
            complaints = str(error)
    try:
        if _get(archive, packages, description):
            return ""
    except UserError as error:
        complaints = complaints or str(error)
    first = complaints.splitlines()[0] if complaints else "it does not have these packages either"
    return f"snapshot.debian.org was asked too: {first}"


def snapshot_sources(lock: Lock) -> str:
    """The sources.list for the archive as it was when the lock was made."""
    lines = []
    for row in lock.suites:
        suite, component = row.split()
        archive = "debian-security" if suite.endswith(("-security", "/updates")) else "debian"
        lines.append(f"deb [signed-by={KEYRING}] {SNAPSHOT}/{archive}/{lock.seen}/ {suite} {component}")
    return "\n".join(lines) + "\n"


def verify(path: Path, package: Package) -> None:
    """Refuse a file that is not the locked package, byte for byte."""
    if not path.exists():
        raise refuse(path, f"the package {package.name} is not there", "build again")
    size = path.stat().st_size
    found = sha256_file(path)
    if found != package.sha256:
        raise refuse(
            path,
            f"is not the locked package: its SHA-256 is {found} ({size} bytes), "
            f"the lock says {package.sha256} ({package.size} bytes)",
            "remove the file and build again",
        )


def unpack(package: Package, folder: Path, hold: Path) -> None:
    """Unpack a stored package's files into `folder`, after verifying it.  `hold`: see hold.py."""
    path = stored(package)
    verify(path, package)
    run([*holding(hold), "dpkg-deb", "-x", path, folder])
