# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions that are copied because shipped code calls them without room for restoring r2 (see toc.py)."""

from __future__ import annotations

from collections.abc import Iterator

from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Piece
from kbuild_py.delta.sections import NOINSTR, Role


def called_nearby(anatomy: Anatomy, piece: Piece, *, jumps: bool) -> Iterator[int]:
    """The functions of the object that must be beside `piece`; jumps: those that it jumps to, too."""
    code = anatomy.section_of(piece).data
    for link in anatomy.links_of(piece):
        if link.piece in (NOWHERE, piece.number) or not anatomy.needs_toc(piece, link):
            continue
        target = anatomy.pieces[link.piece]
        ordinary = anatomy.role(target) is Role.CODE and not NOINSTR.match(anatomy.section_of(target).name)
        if (
            target.kind is Kind.FUNCTION
            and ordinary
            and (jumps or anatomy.machine.is_call(code, link.offset))
        ):
            yield target.number
