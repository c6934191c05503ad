# SPDX-License-Identifier: GPL-2.0-or-later
"""Where pieces start, which piece an offset belongs to, and which table entries are about which piece.

What dissect.py needs and what depends on nothing but sections and pieces: the strings and constants of a
mergeable section, the search for the piece at an offset, and two views of the finished pieces.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Link, Piece
from kbuild_py.delta.sections import TOC, TOC_ENTRY, Role
from kbuild_py.elf.object import Section


def without_label_tables(anatomy: Anatomy) -> Anatomy:
    """Static constants with places inside of functions are a compiler's switch table under a name.

    The code has written it (`static const void *const table[] = { &&first, &&second };`), but each copy of
    the function needs its own, for the places are in that copy.
    """
    pieces = list(anatomy.pieces)
    for piece in anatomy.pieces:
        constant = (
            piece.kind is Kind.OBJECT and anatomy.role(piece) is Role.RODATA and anatomy.is_local(piece)
        )
        if constant and next(anatomy.inside(piece), NOWHERE) != NOWHERE:
            pieces[piece.number] = replace(piece, kind=Kind.STRETCH)
    return replace(anatomy, pieces=tuple(pieces))


class Locator:
    """Finds the piece that an offset of a section belongs to."""

    def __init__(
        self,
        pieces: Sequence[Piece],
        by_section: Sequence[tuple[int, ...]],
        starts: Sequence[tuple[int, ...]],
    ) -> None:
        self.pieces, self.by_section, self.starts = pieces, by_section, starts

    def __call__(self, section: int, offset: int) -> int:
        """The piece's number; the nearest one's for an offset outside of all; NOWHERE without pieces."""
        starts = self.starts[section]
        if not starts:
            return NOWHERE
        return self.by_section[section][max(bisect_right(starts, offset) - 1, 0)]


def constant_starts(section: Section) -> range:
    """Where the entries of a section start that the linker merges by content."""
    return range(0, section.size, section.entsize if section.name != TOC else TOC_ENTRY)


def string_starts(section: Section) -> list[int]:
    """Where the strings of a mergeable section start (terminators are entsize zero bytes)."""
    width = max(section.entsize, 1)
    data, starts, offset = section.data, [], 0
    terminator = bytes(width)
    while offset < section.size:
        starts.append(offset)
        end = data.find(terminator, offset)
        while end != -1 and (end - offset) % width:
            end = data.find(terminator, end + 1)
        if end == -1:
            break
        offset = end + width
    return starts


def entries_by_owner(
    pieces: Sequence[Piece],
    links: Sequence[tuple[Link, ...]],
    link_offsets: Sequence[tuple[int, ...]],
) -> dict[int, tuple[int, ...]]:
    """Piece -> the table entries whose first relocation points into it, in the order of the code."""
    owned: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for piece in pieces:
        if piece.kind is not Kind.ENTRY:
            continue
        offsets = link_offsets[piece.section]
        low = bisect_left(offsets, piece.start)
        if low < len(offsets) and offsets[low] < piece.end:
            link = links[piece.section][low]
            if link.piece != NOWHERE:
                owned[link.piece].append((piece.section, link.at, piece.number))
    return {owner: tuple(number for _, _, number in sorted(found)) for owner, found in owned.items()}
