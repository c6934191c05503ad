# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors that a user can mend.

Every such error has a place (where), a cause (what) and, where one is known, a remedy (what to do).
Code that can find several problems gathers them in `Problems` and raises once, so that a user sees
them all.  `UserError` is raised anywhere and translated to text and an exit status at one edge only
(`cli.py`, `tasks.py`).  Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    place:  where, as a user would look for it: `manifests/x/manifest.yaml:12:5`,
            `fork.o(.text.copy_process+0x1c)`, a file's path, a package's name; may be empty.
    cause:  what is wrong, one sentence without a full stop.
    remedy: what mends it, one sentence without a full stop; empty where none is known.
    """

    place: str
    cause: str
    remedy: str = ""

    def __str__(self) -> str:
        head = f"{self.place}: {self.cause}" if self.place else self.cause
        return f"{head}\n  hint: {self.remedy}" if self.remedy else head


class UserError(Exception):
    """One or more problems that the user can mend."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems: tuple[Problem, ...] = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def refuse(place: object, cause: str, remedy: str = "") -> UserError:
    """The error with a single problem, for `raise refuse(...)`."""
    return UserError(Problem(str(place), cause, remedy))


class Problems:
    """A collector: add problems while going on, then `raise_if_any()` once."""

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._problems = list(problems)

    def add(self, place: object, cause: str, remedy: str = "") -> None:
        self._problems.append(Problem(str(place), cause, remedy))

    def extend(self, problems: Iterable[Problem]) -> None:
        self._problems.extend(problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems)

    def __len__(self) -> int:
        return len(self._problems)

    def raise_if_any(self) -> None:
        """Raise `UserError` with everything gathered, in the order it was found."""
        if self._problems:
            raise UserError(*self._problems)
