# SPDX-License-Identifier: GPL-2.0-or-later
"""Static locals that are paired, although the function now uses them somewhere else.

A patch takes `static int count` out of one block of a function and puts another `static int count` into
another block.  Name, size and users are equal, so the two are paired and the new variable goes on with the
old one's value.  A patch that moves the use of one variable leaves exactly the same objects, so this is no
verdict; but it is said.

Where a use is, is counted from what both versions of the function have once: calls, strings, other variables;
where there is nothing of the kind, any instruction.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Piece
from kbuild_py.delta.compare import Comparison, describe
from kbuild_py.delta.explain import instructions
from kbuild_py.delta.sections import Role
from kbuild_py.delta.select import Selection

_WRITABLE = (Role.DATA, Role.BSS)


def moved_statics(comparison: Comparison, selection: Selection) -> Iterator[str]:
    """A note for each static local that every function of both objects uses at another place than before."""
    patched, to_original = comparison.patched, comparison.correlation.to_original
    users: dict[int, set[int]] = defaultdict(set)
    for piece in patched.pieces:
        if piece.kind is Kind.FUNCTION:
            for link in patched.links_of(piece):
                if link.piece in to_original and _is_state(patched, patched.pieces[link.piece]):
                    users[link.piece].add(piece.number)
    functions: dict[tuple[int, int], _Marks] = {}
    for variable in sorted(users):
        numbers = users[variable]
        if not all(number in selection.reasons and number in to_original for number in numbers):
            continue  # The compiler's code for an unchanged function says that it is the same.
        before = to_original[variable]
        for number in sorted(numbers):
            key = (to_original[number], number)
            if key not in functions:
                functions[key] = _Marks(comparison, *key)
            if not functions[key].moved(before, variable):
                break
        else:
            name, user = patched.pieces[variable].name, patched.pieces[min(numbers)].name
            yield (
                f"{name}: '{user}' uses it at another place than before; it is taken for the same variable "
                "and keeps its value. If it is a new one, give it another name"
            )


def _is_state(anatomy: Anatomy, piece: Piece) -> bool:
    local = piece.kind is Kind.OBJECT and names.is_static_local(piece.name) and not names.per_copy(piece.name)
    return local and anatomy.role(piece) in _WRITABLE


class _Marks:
    """What two versions of a function have in common, in order."""

    def __init__(self, comparison: Comparison, old: int, new: int) -> None:
        self.sides = (
            (comparison.original, comparison.original.pieces[old]),
            (comparison.patched, comparison.patched.pieces[new]),
        )

    def moved(self, old: int, new: int) -> bool:
        """No use of the variable is between the same marks as before."""
        before, after = (
            {
                bisect_left(places, link.offset - piece.start)
                for link in anatomy.links_of(piece)
                if link.piece == variable
            }
            for (anatomy, piece), places, variable in zip(self.sides, self.places, (old, new), strict=True)
        )
        return bool(before) and bool(after) and not before & after

    @cached_property
    def places(self) -> tuple[list[int], list[int]]:
        """The offsets of the marks in both versions."""
        for read in (_reached, _instructions):
            left, right = (_once(read(*side)) for side in self.sides)
            pairs = sorted((left[mark], right[mark]) for mark in left.keys() & right.keys())
            if pairs:
                kept = _rising(pairs)
                return [one for one, _ in kept], [other for _, other in kept]
        return [], []


def _reached(anatomy: Anatomy, piece: Piece) -> Iterator[tuple[int, str]]:
    for link in anatomy.links_of(piece):
        if link.name in anatomy.machine.fentry:
            continue
        if link.piece == NOWHERE or not names.is_static_local(anatomy.pieces[link.piece].name or "."):
            yield link.offset - piece.start, describe(anatomy, link)


def _instructions(anatomy: Anatomy, piece: Piece) -> Iterator[tuple[int, str]]:
    for found in instructions(anatomy, piece, 0):
        if found.text and found.text == found.meaning:
            yield found.offset, found.meaning


def _once(marks: Iterator[tuple[int, str]]) -> dict[str, int]:
    found = list(marks)
    count = Counter(mark for _, mark in found)
    return {mark: offset for offset, mark in found if count[mark] == 1}


def _rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest part of `pairs` (ordered by the first) in which the second rises as well."""
    tails: list[int] = []  # the smallest last value of a part of each length
    ends: list[int] = []  # and the pair that it belongs to
    previous: list[int] = []
    for index, (_, value) in enumerate(pairs):
        length = bisect_right(tails, value)
        previous.append(ends[length - 1] if length else -1)
        tails[length : length + 1] = [value]
        ends[length : length + 1] = [index]
    kept, index = [], ends[-1] if ends else -1
    while index >= 0:
        kept.append(pairs[index])
        index = previous[index]
    return kept[::-1]
