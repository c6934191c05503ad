# SPDX-License-Identifier: GPL-2.0-or-later
"""The pairing of two objects' pieces while it grows: one to one, in both directions."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import Anatomy, Kind, Piece
from kbuild_py.elf import constants as elf


def by_content(piece: Piece) -> bool:
    """The piece is identified by its content, never paired."""
    if piece.kind is Kind.OBJECT:
        return names.per_copy(piece.name)
    return piece.kind is not Kind.FUNCTION


class Pairs:
    """Numbers of pieces that are the same thing.

    ambiguous: pieces of the patched object that are in doubt
    shared:    names that several static variables have (an object linked of several files), with both
               objects' pieces
    """

    def __init__(self, original: Anatomy, patched: Anatomy) -> None:
        self.original, self.patched = original, patched
        self.to_patched: dict[int, int] = {}
        self.to_original: dict[int, int] = {}
        self.ambiguous: list[int] = []
        self._files = {id(anatomy): _file_symbols(anatomy) for anatomy in (original, patched)}
        self.shared: dict[str, tuple[Sequence[int], Sequence[int]]] = {}

    def add(self, old: int, new: int) -> None:
        """`old` of the original is `new` of the patched object."""
        self.to_patched[old] = new
        self.to_original[new] = old

    def file_of(self, anatomy: Anatomy, number: int) -> str:
        """The file symbol that a local piece's symbol stands behind; empty where the object has only one."""
        files, piece = self._files[id(anatomy)], anatomy.pieces[number]
        before = bisect_right(files, piece.symbol) if len(files) > 1 and anatomy.is_local(piece) else 0
        return anatomy.object.symbols[files[before - 1]].name if before else ""

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


def _file_symbols(anatomy: Anatomy) -> list[int]:
    """The files that the object was made of, by the indices of their symbols."""
    return [s.index for s in anatomy.object.symbols if s.type == elf.STT_FILE and s.name]
