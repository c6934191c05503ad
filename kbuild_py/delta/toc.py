# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that leave the patch module, where code depends on a register that belongs to its module (ppc64le).

r2 points to the table of contents of the code that runs.  A call into another module changes it, so behind
such a call stands an instruction that restores it, or a no-operation where the module loader can put one.
Within one object the compiler leaves it out: caller and callee have one table.  In the patch object the
caller is in a module, and the callee may have stayed in the kernel:

- a call without the no-operation would be refused by the module loader ("Expected nop after call").  So what
  is called is copied beside the code that calls it, unchanged, and from then on both are in one module.  The
  state that the copy uses stays in the kernel.  The copy's own calls need the same;
- a jump in place of a last call (a sibling call) is accepted by the loader, and returns to the caller's
  caller with the wrong r2.  That is a verdict, but for jumps of copies, whose targets are copied as well.

A function whose address shipped code uses cannot be copied: the address must stay the kernel's.  A place in
its middle is no such address: it is its jump table's.
"""

from __future__ import annotations

from collections.abc import Iterator

from kbuild_py.delta import rules
from kbuild_py.delta.anatomy import NOWHERE, Kind, Link, Piece
from kbuild_py.delta.compare import Comparison, describe
from kbuild_py.delta.model import Cause, Verdict
from kbuild_py.delta.select import Selection


def sibling_calls(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """No shipped function ends with a jump out of the patch module."""
    patched = comparison.patched
    for piece, link in _leaving(comparison, selection):
        if not patched.machine.is_call(patched.section_of(piece).data, link.offset):
            cause = f"'{piece.name}' ends with a jump to {describe(patched, link)}"
            yield Verdict(rules.SIBLING_CALL, patched.place(piece, link.offset), cause)


def calls_without_room(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """Every call out of the patch module has room for restoring the register."""
    patched = comparison.patched
    for piece, link in _leaving(comparison, selection):
        if patched.machine.is_call(patched.section_of(piece).data, link.offset):
            cause = (
                f"'{piece.name}' calls {describe(patched, link)}, which stays in the kernel, and has no "
                "no-operation behind the call"
            )
            yield Verdict(rules.CALL_WITHOUT_ROOM, patched.place(piece, link.offset), cause)
    copies = {number for number, why in selection.reasons.items() if why[0].cause is Cause.NEARBY}
    for number in sorted(selection.included) if copies else ():
        piece = patched.pieces[number]
        if piece.kind is Kind.ENTRY:
            continue
        for link in patched.links_of(piece):
            if piece.kind in (Kind.STRETCH, Kind.CONSTANT) and link.at:
                continue  # a jump table, or where one is
            if link.piece in copies and link.piece != number and not patched.is_branch(piece, link):
                name = patched.pieces[link.piece].name
                user = f"'{piece.name}'" if piece.name else patched.section_of(piece).name
                cause = f"'{name}' is called without room for restoring r2, and {user} holds its address"
                yield Verdict(rules.CALL_WITHOUT_ROOM, patched.place(piece, link.offset), cause)


def _leaving(comparison: Comparison, selection: Selection) -> Iterator[tuple[Piece, Link]]:
    patched = comparison.patched
    for number in selection.reasons:
        piece = patched.pieces[number]
        for link in patched.links_of(piece):
            known = link.piece == NOWHERE or link.piece in comparison.correlation.to_original
            # What is neither in the patch nor in the kernel is another verdict.
            if known and link.piece not in selection.included and patched.needs_toc(piece, link):
                yield piece, link
