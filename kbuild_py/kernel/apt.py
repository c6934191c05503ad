# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages through apt, without installing anything and without root.

apt is what verifies Debian packages: the archive key signs the Release file, which has the hashes of the
package lists, which have the hash of every package.  All of that is used as it is.  Only apt's *state*
is private: a configuration file is made from the system's own (proxies, certificates, trusted keys, and by
default its sources), with the lists, the caches and the set of installed packages moved into this
project's cache folder, and with the hooks left out which would run programs on the system's behalf.  So
nothing of the system changes, and a source that the system trusts is trusted here and no other.

An `Archive` is one such private state: over the system's sources, or over sources of its own
(snapshot.debian.org, for versions that have left the archive).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kbuild_py.errors import refuse
from kbuild_py.files import write_atomic
from kbuild_py.kernel.hold import holding, wait_until_free
from kbuild_py.progress import Step
from kbuild_py.run import Completed, run

# Settings of the system which name its state, or programs to run; everything else is kept.
_LEFT_OUT = re.compile(
    r"(Dir::(State|Cache)|Dir::Etc::(parts|main)|DPkg|APT::Update|APT::Architectures?)\b", re.I
)
_NETWORK = re.compile(
    r"Temporary failure|Could not (resolve|connect|wait)|Cannot initiate"
    r"|Connection (failed|timed out|refused)|Unable to connect|Network is unreachable"
    r"|Something wicked|timed out|Undetermined Error",
    re.I,
)
_NO_SPACE = re.compile(r"No space left|enough free space", re.I)


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package: exact version, Debian architecture, SHA-256 of the .deb and its size in bytes."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """The name that apt gives the file (an epoch's colon is written as %3a)."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


@dataclass(frozen=True, slots=True)
class Available:
    """A version of a package that a source offers: `suite` and `component` as in sources.list."""

    version: str
    suite: str
    component: str


class Unavailable(Exception):
    """The archive does not have (any more) what was asked of it; the text says what apt said."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A private apt state in `folder`.

    architecture: Debian's name, for example amd64
    sources:      the text of a sources.list, or "" for the system's own sources
    patience:     seconds that a server may be silent
    """

    folder: Path
    architecture: str
    sources: str = ""
    patience: int = 30

    def update(self, timeout: float = 900) -> str:
        """Fetch the package lists.  Returns what apt complained about; the lists that came are usable."""
        return _complaints(self._apt(["apt-get", "update", "-q"], timeout=timeout))

    def has_lists(self) -> bool:
        """Whether any package list was ever fetched."""
        return any((self.folder / "state" / "lists").glob("*Packages*"))

    def find(self, name: str, version: str) -> Package | None:
        """The package at exactly this version, or None if no list has it."""
        result = self._apt(["apt-cache", "show", f"{name}={version}"])
        for stanza in result.stdout.split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, re.M))
            if fields.get("Package") == name and fields.get("Version") == version and "SHA256" in fields:
                return Package(name, version, fields["Architecture"], fields["SHA256"], int(fields["Size"]))
        return None

    def available(self, name: str) -> tuple[Available, ...]:
        """The versions of `name` that the lists have, newest first."""
        rows = []
        for line in self._apt(["apt-cache", "madison", name]).stdout.splitlines():
            _, version, source = (cell.strip() for cell in line.split("|", 2))
            words = source.split()
            if len(words) >= 4 and words[-1] == "Packages":
                suite, _, component = words[1].rpartition("/")
                rows.append(Available(version, suite, component))
        return tuple(rows)

    def names(self, prefix: str) -> tuple[str, ...]:
        """The names of all packages that begin with `prefix`, sorted."""
        return tuple(sorted(set(self._apt(["apt-cache", "pkgnames", prefix]).stdout.split())))

    def download(self, packages: Sequence[Package], folder: Path, step: Step) -> None:
        """Download into `folder`; packages that lie there whole are kept.  Raises `Unavailable`, or
        `UserError` for what the user can mend (network, full disk).  apt verifies what it downloads."""
        folder.mkdir(parents=True, exist_ok=True)
        words = [f"{package.name}={package.version}" for package in packages]
        hold = folder / ".lock"
        wait_until_free(hold, "waiting for an interrupted download to end")
        argv = [*holding(hold), "apt-get", "download", "-q", *words]
        with _watched(folder, packages, step):
            result = self._apt(argv, cwd=folder)
        if result.status == 0:
            return
        said = _complaints(result)
        if _NO_SPACE.search(said):
            raise refuse(folder, f"the disk is full\n{said}", "make room and build again")
        if _NETWORK.search(said):
            raise refuse(
                "apt-get download",
                f"the archive cannot be reached\n{said}",
                "check the network and build again; the packages that came whole are kept",
            )
        raise Unavailable(said or result.stderr)

    def _apt(
        self, argv: Sequence[str], *, cwd: Path | None = None, timeout: float | None = None
    ) -> Completed:
        configuration = self.folder / "apt.conf"
        if not configuration.exists():
            self.configure()
        return run(argv, cwd=cwd, env={"APT_CONFIG": str(configuration)}, check=False, timeout=timeout)

    def configure(self) -> None:
        """Write the private configuration and create the folders that it names."""
        folder = self.folder
        for part in ("parts", "state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "state" / "status").touch()
        system = run(["apt-config", "dump", "--format", '%f "%v";%n']).stdout.splitlines()
        lines = [line for line in system if not _LEFT_OUT.match(line)]
        lines += [
            f'APT::Architecture "{self.architecture}";',
            f'APT::Architectures {{ "{self.architecture}"; }};',
            f'Dir::Etc::parts "{folder}/parts";',
            f'Dir::Etc::main "{folder}/none";',
            f'Dir::State "{folder}/state";',
            f'Dir::State::status "{folder}/state/status";',
            f'Dir::Cache "{folder}/cache";',
            'Acquire::Languages "none";',
            'Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";',
            'Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";',
            f'Acquire::http::Timeout "{self.patience}";',
            f'Acquire::https::Timeout "{self.patience}";',
            'Acquire::Retries "1";',
        ]
        if self.sources:
            write_atomic(folder / "sources.list", self.sources)
            lines += [
                f'Dir::Etc::sourcelist "{folder}/sources.list";',
                f'Dir::Etc::sourceparts "{folder}/parts";',
                # A snapshot is as old as it was asked to be.
                'Acquire::Check-Valid-Until "false";',
            ]
        # The system's proxies may carry a password.
        write_atomic(folder / "apt.conf", "\n".join(lines) + "\n", mode=0o600)


def _complaints(result: Completed) -> str:
    """apt's errors and warnings, without those that every run from a private folder brings, or that say
    nothing of their own."""
    return "\n".join(
        line
        for line in result.stderr.splitlines()
        if line.startswith(("E:", "W:"))
        and "unsandboxed" not in line
        and "Some index files failed" not in line
    )


@contextmanager
def _watched(folder: Path, packages: Sequence[Package], step: Step) -> Iterator[None]:
    """Show, while the block runs, how much of `packages` lies in `folder`."""
    total = sum(package.size for package in packages)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            paths = [folder / package.file_name for package in packages]
            have = sum(path.stat().st_size for path in paths if path.exists())
            step.update(f"{have >> 20} of {total >> 20} MB")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
