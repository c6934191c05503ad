# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that appear whole or not at all, digests, and where the cache is.

Everything that is written goes through `write_atomic` or `folder_atomic`: under a temporary name in
the same folder, then renamed.  A build that is interrupted (Ctrl-C, kill, full disk) therefore never
leaves an output that looks finished.  Nothing is flushed to the disk: after a power failure, `doit clean`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from kbuild_py.errors import refuse

CACHE_VARIABLE = "KBUILD_PY_CACHE"


def cache_folder() -> Path:
    """The user's cache folder for packages, prepared trees and symbols ($KBUILD_PY_CACHE moves it)."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).absolute() if override else Path(platformdirs.user_cache_dir("kbuild-py"))


def write_atomic(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Write `content` to `path` so that other processes see the old file or the whole new one.

    What is no plain file (/dev/null, /dev/stdout, a pipe) is written to and not replaced.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary: Path | None = None
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        temporary.chmod(mode)
        temporary.rename(path)
    except OSError as error:
        raise refuse(path, f"cannot write: {error.strerror}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON (sorted keys, so that equal values are equal files)."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path, remedy: str = "remove the file and build again") -> Any:
    """Read a JSON file that this project wrote; `remedy` is for one that is damaged."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise refuse(path, f"cannot read: {error.strerror}") from error
    except ValueError as error:
        raise refuse(path, f"is not valid JSON: {error}", remedy) from error


@contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Fill the yielded folder; it becomes `path` (replacing what was there) when the block succeeds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise refuse(path, f"cannot create: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256(data: bytes) -> str:
    """The SHA-256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A new folder within `folder`, removed when the block is left.

    Not in /tmp: the path suits the kernel's build (`tasks.configuration` has looked at the cache's), and
    programs may run from it.  For one process at a time: what a killed one left is removed, too.
    """
    prefix = ".scratch-"
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as temporary:
        yield Path(temporary)
