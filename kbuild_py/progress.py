# SPDX-License-Identifier: GPL-2.0-or-later
"""What a waiting user sees.

On a terminal a step is a live line (spinner, text, elapsed time); without one it is one plain line when
it starts and one when it ends, so that logs stay readable.  Everything goes to standard error.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Step:
    """A running step; `update` changes the text behind its title (for example `120 of 300 MB`)."""

    def __init__(self, title: str, status: object | None = None) -> None:
        self._title = title
        self._status = status

    def update(self, detail: str) -> None:
        if self._status is not None:
            self._status.update(f"{self._title}: {detail}")  # type: ignore[attr-defined]


def silence(stream: TextIO) -> None:
    """Throw away what is still printed: who read the stream has gone (`doit build | head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def put(stream: TextIO, line: str) -> None:
    """Print a line.  When who reads the stream has gone, the work goes on without."""
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        silence(stream)


def say(line: str) -> None:
    """One plain line of progress."""
    put(sys.stderr, line)


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Show that `title` is going on, and how long it took."""
    start = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(title) as status:
            yield Step(title, status)
    else:
        say(f"{title} ...")
        yield Step(title)
    say(f"{title}: done in {time.monotonic() - start:.1f} s")
