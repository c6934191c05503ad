# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks that a killed build's programs go on holding.

A build that is killed outright (kill -9, a closed terminal, a lost machine) cannot end the programs that it
started: tar unpacks on, make compiles on, into folders that the next build is about to empty and to fill
again.  So these programs hold a lock of their own: `flock FILE PROGRAM` leaves the lock's descriptor open
in the program and in all that it starts, and the lock is free when the last of them has ended.  The next
build takes it before it touches anything.

A lock that is not free at once is waited for visibly.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kbuild_py.errors import refuse
from kbuild_py.progress import step


def holding(path: Path) -> tuple[str, str]:
    """What to put before a command so that it, and all that it starts, holds the lock `path`."""
    return ("flock", str(path))


@contextmanager
def taken(path: Path, title: str) -> Iterator[None]:
    """Hold the lock `path`; `title` says what is waited for, if it has to be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        raise refuse(path, f"cannot write: {error.strerror}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(title):
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def wait_until_free(path: Path, title: str) -> None:
    """Wait until nobody holds the lock `path`."""
    with taken(path, title):
        pass
