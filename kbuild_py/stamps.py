# SPDX-License-Identifier: GPL-2.0-or-later
"""When a task is due: unless a stamp says that its outputs were made from these very inputs.

doit keeps a record of its own, but writes it when it ends, takes equal times of modification for equal
content, and records a file's content as it is after the task.  So a build that is killed, then one with the
old inputs again, would find the outputs of the new inputs and call them up to date; an edit while a task
runs would be lost.  A stamp is taken from the content of all inputs before the task runs, the old one is
gone while it runs, and the new one is written when its outputs are there.

A task that was refused leaves its reasons beside its stamp, with the same digest: `doit matrix` shows them
for as long as the inputs are those that were refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from kbuild_py.errors import Problem, UserError
from kbuild_py.files import sha256, sha256_file, write_atomic, write_json


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


def clear(stamp: Path) -> None:
    """Remove what is known of an earlier run."""
    stamp.unlink(missing_ok=True)
    _reasons(stamp).unlink(missing_ok=True)


def put_refusal(stamp: Path, inputs: str, error: UserError) -> None:
    """Leave the reasons beside the stamp.  inputs: their fingerprint"""
    write_json(_reasons(stamp), {"inputs": inputs, "problems": [asdict(one) for one in error.problems]})


def refusal(stamp: Path, inputs: str) -> tuple[Problem, ...]:
    """Why these inputs were refused; nothing when they were not, or when others were."""
    try:
        said = json.loads(_reasons(stamp).read_bytes())
        return tuple(Problem(**one) for one in said["problems"]) if said["inputs"] == inputs else ()
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _reasons(stamp: Path) -> Path:
    return stamp.with_name(f"{stamp.name}.refused.json")
