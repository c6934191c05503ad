# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's first and only file system: an archive that the kernel unpacks before it starts /init.

The kernel reads cpio archives in the "newc" format: for each file a header of 110 ASCII bytes (a magic
and thirteen numbers of eight hex digits), the name with its NUL, the content; header with name, and
content, each padded with NULs to a multiple of four.  An entry `TRAILER!!!` ends the archive.  Writing
this takes fewer lines than calling a cpio program, and needs no root for ownership; fixed times, owners
and inode numbers make equal input equal bytes.

The archive is not compressed: unpacking gzip in an emulated processor costs more than copying 2 MB.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from kbuild_py import run
from kbuild_py.errors import refuse

# Guest path -> content, or the host's file that has it.  Every file is executable in the guest.
Files = Mapping[str, bytes | Path]

BUSYBOX = "/bin/busybox"


def busybox() -> Path:
    """The host's static busybox; `UserError` naming the package when it is missing or needs libraries."""
    program = Path(run.find("busybox"))
    # A dynamic executable names its loader (PT_INTERP), which the guest does not have.
    if b"/ld-linux" in program.read_bytes()[:4096]:
        raise refuse(program, "is not a static program", "apt-get install busybox-static")
    return program


def archive(files: Files) -> bytes:
    """A newc archive with `files` and the folders they lie in; equal input gives equal bytes.

    Raises `UserError` for guest paths that are not absolute and plain (no `.`, `..`, `//`), for a file
    that is also another file's folder, and for host files that cannot be read.
    """
    for path in files:
        if not path.startswith("/") or posixpath.normpath(path) != path or path in ("/", "//"):
            raise refuse(path, "is not an absolute path of a file in the guest")
    folders = {folder for path in files for folder in _parents(path)}
    for path in sorted(folders & files.keys()):
        raise refuse(path, "is both a file and a folder in the guest")

    # A folder sorts before what it contains, so the kernel finds it made.
    parts = []
    for inode, path in enumerate(sorted(folders | files.keys()), start=1):
        if path in folders:
            parts.append(_entry(inode, path[1:], stat.S_IFDIR | 0o755, b""))
        else:
            parts.append(_entry(inode, path[1:], stat.S_IFREG | 0o755, _content(files[path])))
    parts.append(_entry(0, "TRAILER!!!", 0, b""))
    return b"".join(parts)


def _parents(path: str) -> Iterator[str]:
    while (path := posixpath.dirname(path)) != "/":
        yield path


def _content(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise refuse(source, f"cannot read a file for the guest: {error.strerror}") from error


def _entry(inode: int, name: str, mode: int, content: bytes) -> bytes:
    """One entry: owner root, time 0."""
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    # inode, mode, uid, gid, links, mtime, size, device (2), device the entry stands for (2), name, sum
    numbers = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded
    return _padded(header) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
