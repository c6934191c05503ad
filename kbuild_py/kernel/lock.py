# SPDX-License-Identifier: GPL-2.0-or-later
"""Lock files: the exact packages that a kernel's description stands for.

`manifests/kernels/NAME.lock.json` lies beside `NAME.yaml`, is committed, and lists every package that a
build uses with its SHA-256.  A build uses exactly these bytes or refuses, so two people who build the same
commit start from the same kernel.

The archive moves on: a stable release keeps its newest kernel and drops older ones after a while.  The
lock therefore also records when its packages were seen in the archive, and in which suites, which is all
that snapshot.debian.org needs to serve them later.  `move_lock` is the other way out: it takes a version
that the archive has now.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cmp_to_key
from pathlib import Path
from typing import Any

from kbuild_py.errors import Problems, UserError, refuse
from kbuild_py.files import cache_folder, read_json, write_atomic, write_json
from kbuild_py.kernel.apt import Archive, Package
from kbuild_py.kernel.hold import taken
from kbuild_py.manifest.model import KernelDescription
from kbuild_py.progress import step
from kbuild_py.run import run

SCHEMA = 1
# The kernel's name of an architecture -> Debian's.
DEBIAN_ARCHITECTURES = {"x86_64": "amd64"}


@dataclass(frozen=True, slots=True)
class Lock:
    """What a lock file says.

    kernel:   the description's name
    release:  what `uname -r` prints
    version:  the version of all packages
    seen:     when the archive had the packages, as snapshot.debian.org writes it (20260702T120000Z)
    suites:   where they were, as `suite component`
    packages: sorted by name
    """

    kernel: str
    release: str
    version: str
    seen: str
    suites: tuple[str, ...]
    packages: tuple[Package, ...]


@dataclass(frozen=True, slots=True)
class PackageNames:
    """The packages of one kernel release: for each, the names it may have, the preferred one first."""

    image: tuple[str, ...]  # signed, or not
    headers: tuple[str, ...]
    common: tuple[str, ...]
    kbuild: tuple[str, ...]  # one per release since 6.12, one per series before
    config: tuple[str, ...]
    source: tuple[str, ...]

    @property
    def all(self) -> tuple[tuple[str, ...], ...]:
        """Every package's names."""
        return (self.image, self.headers, self.common, self.kbuild, self.config, self.source)


def series(version: str) -> str:
    """The upstream series that names some packages: 6.1 for 6.1.176-1."""
    found = re.match(r"(\d+\.\d+)[.~+-]", version + "-")
    if not found:
        raise refuse(version, "this is not the version of a Debian kernel package", "for example 6.1.176-1")
    return found.group(1)


def package_names(release: str, version: str, flavour: str) -> PackageNames:
    """The names of the packages that `release` (at package version `version`) consists of."""
    if not release.endswith(f"-{flavour}"):
        raise refuse(release, f"the release does not end in its flavour, -{flavour}")
    # Real-time flavours have headers of their own: rt-amd64 comes with common-rt.
    featureset = "-rt" if flavour.startswith("rt-") else ""
    number = series(version)
    plain = release.removesuffix(f"-{flavour}")
    return PackageNames(
        image=(f"linux-image-{release}", f"linux-image-{release}-unsigned"),
        headers=(f"linux-headers-{release}",),
        common=(f"linux-headers-{plain}-common{featureset}",),
        kbuild=(f"linux-kbuild-{plain}", f"linux-kbuild-{number}"),
        config=(f"linux-config-{number}",),
        source=(f"linux-source-{number}",),
    )


def lock_path(description: KernelDescription) -> Path:
    """The lock file of a description: NAME.lock.json beside NAME.yaml."""
    return description.path.with_name(f"{description.name}.lock.json")


def read_lock(description: KernelDescription) -> Lock:
    """The lock of `description`; `UserError` if there is none, or if it is for something else."""
    path = lock_path(description)
    remedy = f"kbuild-py kernel lock {description.name}"
    if not path.exists():
        raise refuse(path, f"there is no lock file for the kernel {description.name}", remedy)
    lock = _lock_from_json(read_json(path, remedy), path, remedy)
    problems = Problems()
    for what in ("release", "version"):
        locked_value, wanted = getattr(lock, what), getattr(description, what)
        if locked_value != wanted:
            problems.add(path, f"locks {what} {locked_value}, but {description.path} says {wanted}", remedy)
    names = package_names(description.release, description.version, description.flavour)
    have = {package.name for package in lock.packages}
    for alternatives in names.all:
        if not have & set(alternatives):
            problems.add(path, f"has no entry for the package {' or '.join(alternatives)}", remedy)
    problems.raise_if_any()
    return lock


def _lock_from_json(value: Any, path: Path, remedy: str) -> Lock:
    try:
        if value["schema"] != SCHEMA:
            raise refuse(path, f"has schema {value['schema']}, but this program writes {SCHEMA}", remedy)
        packages = tuple(
            Package(
                name=str(entry["name"]),
                version=str(entry["version"]),
                architecture=str(entry["architecture"]),
                sha256=str(entry["sha256"]),
                size=int(entry["size"]),
            )
            for entry in value["packages"]
        )
        lock = Lock(
            kernel=str(value["kernel"]),
            release=str(value["release"]),
            version=str(value["version"]),
            seen=str(value["seen"]),
            suites=tuple(str(suite) for suite in value["suites"]),
            packages=packages,
        )
    except (KeyError, TypeError, ValueError) as error:
        missing = f": it has no {error}" if isinstance(error, KeyError) else ""
        raise refuse(path, f"is not a lock file{missing}", remedy) from error
    # All of it goes into names of files and into apt's sources.
    if not re.fullmatch(r"(\d{8}T\d{6}Z)?", lock.seen, re.ASCII):
        raise refuse(path, f"{lock.seen!r} is not a time as in 20260702T120000Z", remedy)
    for suite in lock.suites:
        if not re.fullmatch(r"\w[\w./+-]* \w[\w./+-]*", suite, re.ASCII):
            raise refuse(path, f"{suite!r} is not a suite and a component", remedy)
    for package in packages:
        if not re.fullmatch("[0-9a-f]{64}", package.sha256):
            raise refuse(path, f"the SHA-256 of {package.name} is malformed", remedy)
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", package.name):
            raise refuse(path, f"{package.name!r} is not the name of a package", remedy)
        if not re.fullmatch("[a-z0-9-]+", package.architecture):
            raise refuse(path, f"{package.architecture!r} is not the name of an architecture", remedy)
        if package.version != lock.version:
            raise refuse(path, f"{package.name} has version {package.version}, not {lock.version}", remedy)
    return lock


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock file: equal locks are equal files."""
    write_json(path, {"schema": SCHEMA, **asdict(lock)})


def system_archive(description: KernelDescription) -> Archive:
    """The private apt state over the system's sources."""
    architecture = debian_architecture(description)
    archive = Archive(cache_folder() / "apt" / architecture, architecture)
    with taken(_apt_lock(), "waiting for another build that uses apt"):
        archive.configure()  # the system's configuration may have changed
    return archive


def _apt_lock() -> Path:
    return cache_folder() / "apt.lock"


def debian_architecture(description: KernelDescription) -> str:
    """Debian's name of the kernel's architecture."""
    try:
        return DEBIAN_ARCHITECTURES[description.arch]
    except KeyError:
        known = ", ".join(DEBIAN_ARCHITECTURES)
        raise refuse(
            description.path, f"the architecture {description.arch} is not supported yet", f"known: {known}"
        ) from None


def refresh(archive: Archive) -> str:
    """Fetch the package lists, shown as a step; returns what apt complained about."""
    with taken(_apt_lock(), "waiting for another build that uses apt"), step("fetching the package lists"):
        return archive.update()


def lock_kernel(description: KernelDescription) -> Lock:
    """Write the lock for what `description` says, from the archive's signed lists; nothing is downloaded.

    The file does not change when its packages did not, whenever this is called.
    """
    archive = system_archive(description)
    complaints = refresh(archive)
    packages = _resolve(archive, description, complaints)
    suites = {
        f"{row.suite} {row.component}"
        for package in packages
        for row in archive.available(package.name)
        if row.version == package.version
    }
    seen = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    lock = Lock(
        description.name, description.release, description.version, seen, tuple(sorted(suites)), packages
    )
    path = lock_path(description)
    try:
        old = read_lock(description)
    except UserError:
        old = None
    if old is not None and replace(old, seen=seen, suites=lock.suites) == lock:
        return old
    write_lock(path, lock)
    return lock


def _resolve(archive: Archive, description: KernelDescription, complaints: str) -> tuple[Package, ...]:
    """Find all packages of `description` in the lists, or refuse with all that are missing."""
    found, missing = [], []
    for names in package_names(description.release, description.version, description.flavour).all:
        package = next(filter(None, (archive.find(name, description.version) for name in names)), None)
        if package is None:
            missing.append(" or ".join(names))
        else:
            found.append(package)
    if missing:
        raise missing_version(archive, description, missing, complaints)
    return tuple(sorted(found, key=lambda package: package.name))


def missing_version(
    archive: Archive, description: KernelDescription, names: Sequence[str], *notes: str
) -> UserError:
    """The error for packages that are not to be had at the description's version.

    notes: what apt or other places said about it, each of one or more lines, or empty
    """
    versions = kernel_versions(archive, description)
    lines = [f"the apt sources do not have version {description.version} of {', '.join(sorted(names))}"]
    if versions:
        lines.append(f"they have this kernel in {', '.join(version for version, _ in versions)}")
        remedy = f"kbuild-py kernel lock {description.name} --version {versions[0][0]}"
    elif archive.has_lists():
        number, flavour = series(description.version), description.flavour
        lines.append(f"they have no linux {number} of flavour {flavour} at all")
        remedy = "add Debian's archive to the sources in /etc/apt"
    else:
        lines.append("no list of packages could be fetched")
        remedy = "check the network and the sources in /etc/apt"
    lines += filter(None, notes)
    return refuse(lock_path(description), "\n".join(lines), remedy)


def kernel_versions(archive: Archive, description: KernelDescription) -> tuple[tuple[str, str], ...]:
    """(version, release) of each kernel of the description's series and flavour in the lists, newest first.

    Only versions are named for which the lists have all packages: a build needs them at the same version.
    """
    number = series(description.version)
    # A release is numbers, an ABI and perhaps a suffix with "+", then the flavour:
    # 6.1.0-50-amd64, 6.12.9+deb12-amd64; not 6.1.0-50-cloud-amd64, whose flavour is cloud-amd64.
    pattern = re.compile(
        rf"linux-image-(\d+(?:\.\d+)+[^-]*(?:-\d[^-]*)?-{re.escape(description.flavour)})(?:-unsigned)?"
    )
    found: dict[str, str] = {}
    for name in archive.names("linux-image-"):
        match = pattern.fullmatch(name)
        if match:
            for row in archive.available(name):
                if series(row.version) == number:
                    found[row.version] = match.group(1)
    versions: dict[str, set[str]] = {}

    def offered(alternatives: tuple[str, ...], version: str) -> bool:
        for name in alternatives:
            if name not in versions:
                versions[name] = {row.version for row in archive.available(name)}
        return any(version in versions[name] for name in alternatives)

    found = {
        version: release
        for version, release in found.items()
        if all(offered(names, version) for names in package_names(release, version, description.flavour).all)
    }
    newest_first = sorted(found, key=cmp_to_key(_compare), reverse=True)
    return tuple((version, found[version]) for version in newest_first)


def _compare(one: str, other: str) -> int:
    """Debian's order of versions, which only dpkg knows in full."""
    if one == other:
        return 0
    return -1 if run(["dpkg", "--compare-versions", one, "lt", other], check=False).status == 0 else 1


def move_lock(description: KernelDescription, version: str = "") -> KernelDescription:
    """Take another version of the kernel, or the newest one when `version` is empty.

    Rewrites the lines `release:` and `version:` of the description's file, and the lock.  Returns the new
    description.
    """
    archive = system_archive(description)
    complaints = refresh(archive)
    versions = dict(kernel_versions(archive, description))
    if not versions or (version and version not in versions):
        wanted = replace(description, version=version or description.version)
        names = package_names(wanted.release, wanted.version, wanted.flavour)
        raise missing_version(archive, wanted, names.source, complaints)
    version = version or next(iter(versions))
    moved = replace(description, version=version, release=versions[version])
    before = description.path.read_text()
    write_atomic(description.path, edited(before, moved))
    try:
        lock_kernel(moved)
    except BaseException:
        write_atomic(description.path, before)
        raise
    return moved


def edited(text: str, description: KernelDescription) -> str:
    """The YAML text with the values of `release` and `version` replaced, all else (comments) as it was."""
    for key, value in (("release", description.release), ("version", description.version)):
        text, count = re.subn(
            rf"^({key}:[ \t]*)(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s#]+)", rf"\g<1>{value}", text, count=1, flags=re.M
        )
        if not count:
            raise refuse(
                description.path, f"has no line `{key}: ...` to change", f"write `{key}: {value}` into it"
            )
    return text
