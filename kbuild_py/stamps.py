# SPDX-License-Identifier: GPL-2.0-or-later
"""When a task is due: unless a stamp says that its outputs were made from these very inputs.

doit keeps a record of its own, but writes it when it ends, takes equal times of modification for equal
content, and records a file's content as it is after the task.  So a build that is killed, then one with the
old inputs again, would find the outputs of the new inputs and call them up to date; an edit while a task
runs would be lost.  A stamp is taken from the content of all inputs before the task runs, the old one is
gone while it runs, and the new one is written when its outputs are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from kbuild_py.files import sha256, sha256_file, write_atomic


def fingerprint(values: Iterable[str], files: Iterable[str | Path]) -> str:
    """A digest of values and of files (names and contents); OSError when a file cannot be read."""
    content = [(str(path), sha256_file(Path(path))) for path in sorted(files, key=str)]
    return sha256(json.dumps([list(values), content]).encode())


def is_current(stamp: Path, values: Iterable[str], files: Iterable[str | Path]) -> bool:
    """Whether the stamp is that of these inputs."""
    try:
        return stamp.read_text() == fingerprint(values, files)
    except OSError:
        return False


def put(stamp: Path, text: str) -> None:
    """Write the stamp."""
    write_atomic(stamp, text)
