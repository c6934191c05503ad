# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a function changed, shown to a person: the first instruction that differs, from both sides.

The instruction alone says little: `call 0x15` is the same before and after while it calls something else, for
what it calls stands in a relocation.  So the names of what relocations reach are written into the text.  With
debug information the instruction also has a line in the source, and a function that it was inlined from: the
usual answer to "but I did not touch that function".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kbuild_py.delta.anatomy import Anatomy, Piece
from kbuild_py.delta.compare import Comparison, describe
from kbuild_py.delta.model import Cause, Difference, Why
from kbuild_py.delta.origins import Origins

_CODE = (Cause.BODY, Cause.SIZE, Cause.REFERENCE, Cause.CONSTANT)


def difference(
    comparison: Comparison,
    old: Piece,
    new: Piece,
    reasons: Iterable[Why],
    origins: tuple[Origins, Origins],
) -> Difference | None:
    """The first differing instruction of two functions; None when no reason names a place in the code.

    origins: of the original and of the patched object
    """
    offset = next((why.offset for why in reasons if why.cause in _CODE and why.offset is not None), None)
    if offset is None:
        return None
    theirs, ours = _first(comparison, old, new, offset)
    before, after = origins
    return Difference(
        offset=new.start + ours.offset - new.base,
        original=theirs.text,
        patched=ours.text,
        original_source=before.source(old.section, old.start + theirs.offset) if theirs.text else "",
        source=after.source(new.section, new.start + ours.offset) if ours.text else "",
        inlined=after.inlined(new.section, new.start + ours.offset)
        or before.inlined(old.section, old.start + theirs.offset),
    )


class Instruction(NamedTuple):
    """An instruction as text; `meaning` leaves out how far a branch within the function goes."""

    offset: int
    text: str
    meaning: str


def instructions(anatomy: Anatomy, piece: Piece, offset: int) -> Iterator[Instruction]:
    """The instructions of a function from the one that covers `offset` (which counts from its start).

    The last one has no text: the function's end.
    """
    code, machine = anatomy.section_of(piece).data, anatomy.machine
    reached = 0
    for address, size, mnemonic, operands in machine.instructions(code, piece.start, piece.end):
        reached = address + size
        if reached > offset:
            text, named = _text(anatomy, piece, address, size, mnemonic, operands)
            inner = not named and machine.lines.flow(mnemonic)
            yield Instruction(address, text, mnemonic if inner else text)
    yield Instruction(reached, "", "")


def _first(comparison: Comparison, old: Piece, new: Piece, offset: int) -> tuple[Instruction, Instruction]:
    """The first instructions from `offset` on that differ in more than the length of a jump over others."""
    left = instructions(comparison.original, old, offset)
    right = instructions(comparison.patched, new, offset)
    first = None
    for theirs, ours in zip(left, right, strict=False):
        first = first or (theirs, ours)
        if theirs.meaning != ours.meaning:
            return theirs, ours
    assert first is not None  # Both have at least an end.
    return first


def _text(
    anatomy: Anatomy, piece: Piece, address: int, size: int, mnemonic: str, operands: str
) -> tuple[str, bool]:
    """The instruction with the names of what its relocations reach, and whether there are any."""
    offsets, links = anatomy.link_offsets[piece.section], anatomy.links[piece.section]
    start = piece.start + address
    inner = links[bisect_left(offsets, start) : bisect_left(offsets, start + size)]
    names = list(dict.fromkeys(describe(anatomy, link) for link in inner))
    if not names:
        return f"{mnemonic} {operands}".strip(), False
    if operands.lstrip("#-").isalnum() and operands.lstrip("#-")[:1].isdigit():  # a branch: only the target
        return f"{mnemonic} {', '.join(names)}", True
    return f"{mnemonic} {operands} <{', '.join(names)}>".replace("  ", " "), True


def inlining(found: Difference) -> Why | None:
    """The reason that a difference lies in code of another function of the source."""
    if not found.inlined:
        return None
    name = found.inlined[-1]
    chain = f" (by way of {', '.join(found.inlined[:-1])})" if len(found.inlined) > 1 else ""
    where = f" at {found.source}" if found.source else ""
    return Why(Cause.INLINE, f"inlines {name}{chain}, whose code differs{where}", found.offset)
