# SPDX-License-Identifier: GPL-2.0-or-later
"""The pairing of two objects' pieces while it grows: one to one, in both directions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import Anatomy, Kind, Piece


def by_content(piece: Piece) -> bool:
    """The piece is identified by its content, never paired."""
    if piece.kind is Kind.OBJECT:
        return names.per_copy(piece.name)
    return piece.kind is not Kind.FUNCTION


class Pairs:
    """Numbers of pieces that are the same thing; `ambiguous` are pieces of the patched object in doubt."""

    def __init__(self, original: Anatomy, patched: Anatomy) -> None:
        self.original, self.patched = original, patched
        self.to_patched: dict[int, int] = {}
        self.to_original: dict[int, int] = {}
        self.ambiguous: list[int] = []

    def add(self, old: int, new: int) -> None:
        """`old` of the original is `new` of the patched object."""
        self.to_patched[old] = new
        self.to_original[new] = old

    def free(self, anatomy: Anatomy, candidates: Iterable[int]) -> list[int]:
        """Those that have no counterpart yet."""
        taken = self.to_patched if anatomy is self.original else self.to_original
        return [number for number in candidates if number not in taken]

    def match(self, old: Sequence[int], new: Sequence[int], key: Callable[[Anatomy, int], Hashable]) -> None:
        """Pair those for which `key` gives equal values, in order."""
        waiting: dict[Hashable, list[int]] = defaultdict(list)
        for number in reversed(self.free(self.original, old)):
            waiting[key(self.original, number)].append(number)
        for number in self.free(self.patched, new):
            same = waiting.get(key(self.patched, number))
            if same:
                self.add(same.pop(), number)
