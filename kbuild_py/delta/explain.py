# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a function changed, shown to a person: the first instruction that differs, from both sides.

The instruction alone says little: `call 0x15` is the same before and after while it calls something else, for
what it calls stands in a relocation.  So the names of what relocations reach are written into the text.  With
debug information the instruction also has a line in the source, and a function that it was inlined from: the
usual answer to "but I did not touch that function".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

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
    at, theirs = instruction(comparison.original, old, offset)
    place, ours = instruction(comparison.patched, new, offset)
    before, after = origins
    return Difference(
        offset=new.start + place - new.base,
        original=theirs,
        patched=ours,
        original_source=before.source(old.section, old.start + at) if theirs else "",
        source=after.source(new.section, new.start + place) if ours else "",
        inlined=after.inlined(new.section, new.start + place),
    )


def instruction(anatomy: Anatomy, piece: Piece, offset: int) -> tuple[int, str]:
    """The instruction that covers `offset` of a function (both from its start) and its own offset.

    The text is empty behind the function's end.
    """
    code = anatomy.section_of(piece).data
    for address, size, mnemonic, operands in anatomy.machine.instructions(code, piece.start, piece.end):
        if address + size > offset:
            return address, _text(anatomy, piece, address, size, mnemonic, operands)
    return offset, ""


def _text(anatomy: Anatomy, piece: Piece, address: int, size: int, mnemonic: str, operands: str) -> str:
    """The instruction with the names of what its relocations reach."""
    offsets, links = anatomy.link_offsets[piece.section], anatomy.links[piece.section]
    start = piece.start + address
    inner = links[bisect_left(offsets, start) : bisect_left(offsets, start + size)]
    names = list(dict.fromkeys(describe(anatomy, link) for link in inner))
    if not names:
        return f"{mnemonic} {operands}".strip()
    if operands.lstrip("#-").isalnum() and operands.lstrip("#-")[:1].isdigit():  # a branch: only the target
        return f"{mnemonic} {', '.join(names)}"
    return f"{mnemonic} {operands} <{', '.join(names)}>".replace("  ", " ")


def inlining(found: Difference) -> Why | None:
    """The reason that a difference lies in code of another function of the source."""
    if not found.inlined:
        return None
    name = found.inlined[-1]
    chain = f" (by way of {', '.join(found.inlined[:-1])})" if len(found.inlined) > 1 else ""
    where = f" at {found.source}" if found.source else ""
    return Why(Cause.INLINE, f"inlines {name}{chain}, whose code differs{where}", found.offset)
