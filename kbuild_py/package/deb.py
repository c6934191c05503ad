# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian package from files and texts, the same bytes wherever and whenever it is made.

dpkg-deb writes the archive.  What could differ is set here: the times of all files (the epoch that the
caller takes from its inputs, never the clock), their modes (the umask has no say), their owner (root), and
the number of compressing threads.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kbuild_py.files import scratch, write_atomic
from kbuild_py.run import run


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package.

    fields:  of the control file, in order; Installed-Size is added
    files:   path without the slash in front -> (content, mode)
    scripts: maintainer scripts and other files of the control archive: name -> text
    epoch:   seconds since 1970, the time of every file
    """

    name: str
    version: str
    architecture: str
    fields: Mapping[str, str]
    files: Mapping[str, tuple[bytes, int]]
    epoch: int
    scripts: Mapping[str, str] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return file_name(self.name, self.version, self.architecture)

    def control(self) -> str:
        """The control file."""
        size = sum(-(-len(content) // 1024) for content, _ in self.files.values()) + len(folders(self.files))
        head = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Installed-Size": str(size),
        }
        fields = {**head, **self.fields}
        fields["Description"] = fields.pop("Description")  # stands last
        return "".join(f"{key}: {value}\n" for key, value in fields.items())


def file_name(name: str, version: str, architecture: str) -> str:
    """What the package's file is called (an epoch is no part of it)."""
    return f"{name}_{version.rpartition(':')[2]}_{architecture}.deb"


def folders(files: Mapping[str, object]) -> set[str]:
    """All folders that the files lie in, but the top one."""
    return {str(parent) for path in files for parent in Path(path).parents} - {"."}


def description(synopsis: str, paragraphs: Sequence[str]) -> str:
    """The value of a Description field; whatever stands in the paragraphs cannot end it."""
    wrapped = [textwrap.wrap(" ".join(text.split()), 76, break_on_hyphens=False) for text in paragraphs]
    # A line that begins with a dot would be read as an instruction.
    lines = [
        [f" \u2026{line[1:]}" if line.startswith(".") else f" {line}" for line in part] for part in wrapped
    ]
    return "\n".join([synopsis, "\n .\n".join("\n".join(part) for part in lines)])


def changelog(name: str, version: str, changes: str, maintainer: str, epoch: int) -> bytes:
    """changelog.Debian.gz with one entry."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(epoch))
    wrapped = "\n    ".join(textwrap.wrap(" ".join(changes.split()), 74, break_on_hyphens=False))
    text = f"{name} ({version}) unstable; urgency=medium\n\n  * {wrapped}\n\n -- {maintainer}  {date}\n"
    return gzip.compress(text.encode(), 9, mtime=0)


def build(package: Package, output: Path) -> None:
    """Write the package to `output`."""
    with scratch(output.parent) as folder:
        tree = folder / "package"
        contents: dict[str, tuple[bytes, int]] = {
            **package.files,
            "DEBIAN/control": (package.control().encode(), 0o644),
            "DEBIAN/md5sums": (_md5sums(package.files), 0o644),
        }
        for name, text in package.scripts.items():
            mode = 0o755 if text.startswith("#!") else 0o644
            contents[f"DEBIAN/{name}"] = (text.encode(), mode)
        for path, (content, mode) in contents.items():
            write_atomic(tree / path, content, mode=mode)
        for below in sorted(folders(contents), reverse=True):
            (tree / below).chmod(0o755)
        tree.chmod(0o755)
        for entry in (tree, *tree.rglob("*")):
            os.utime(entry, (package.epoch, package.epoch))
        made = folder / "made.deb"
        run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "-z6", "--build", tree, made],
            env={"SOURCE_DATE_EPOCH": str(package.epoch), "DPKG_DEB_THREADS_MAX": "1"},
        )
        write_atomic(output, made.read_bytes())


def _md5sums(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    # What dpkg --verify reads; no protection against anybody.
    sums = {path: hashlib.md5(content, usedforsecurity=False) for path, (content, _) in files.items()}
    return "".join(f"{sums[path].hexdigest()}  {path}\n" for path in sorted(sums)).encode()
