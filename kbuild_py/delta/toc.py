# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that leave the patch module, where code depends on a register that belongs to its module (ppc64le).

r2 points to the table of contents of the code that runs.  A call into another module changes it, so behind
such a call stands an instruction that restores it, or a no-operation where the module loader can put one.
Within one object the compiler leaves it out: caller and callee have one table.  In the patch object the
caller is in a module, and the callee may have stayed in the kernel:

- a call without the no-operation is refused by the module loader, so no harm is done; it is noted;
- a jump in place of a last call (a sibling call) is accepted by the loader, and returns to the caller's
  caller with the wrong r2.  That is a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kbuild_py.delta import rules
from kbuild_py.delta.anatomy import NOWHERE, Link, Piece
from kbuild_py.delta.compare import Comparison, describe
from kbuild_py.delta.model import Verdict
from kbuild_py.delta.select import Selection

# Linked into every module (arch/powerpc/lib/crtsavres.S).
_SAVES_REGISTERS = re.compile(r"_(save|rest)(gpr|fpr|vr)[01]?_\d+")


def sibling_calls(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """No shipped function ends with a jump out of the patch module."""
    patched = comparison.patched
    for piece, link in _leaving(comparison, selection):
        if not patched.machine.is_call(patched.section_of(piece).data, link.offset):
            cause = f"'{piece.name}' ends with a jump to {describe(patched, link)}"
            yield Verdict(rules.SIBLING_CALL, patched.place(piece, link.offset), cause)


def local_calls(comparison: Comparison, selection: Selection) -> list[str]:
    """What must be said of calls without room for restoring the register."""
    patched = comparison.patched
    found = {
        f"{piece.name}: calls {describe(patched, link)}, which stays in the kernel, without a no-operation "
        "behind the call; the module loader wants one to restore the TOC"
        for piece, link in _leaving(comparison, selection)
        if patched.machine.is_call(patched.section_of(piece).data, link.offset)
    }
    return sorted(found)


def _leaving(comparison: Comparison, selection: Selection) -> Iterator[tuple[Piece, Link]]:
    patched, machine = comparison.patched, comparison.patched.machine
    for number in selection.reasons:
        piece = patched.pieces[number]
        code = patched.section_of(piece).data
        for link in patched.links_of(piece):
            if link.piece in selection.included or not machine.needs_toc(code, link.offset):
                continue
            if machine.arch.names.get(link.type, "").endswith("_NOTOC"):
                continue  # Code for newer processors does without the register.
            if link.piece != NOWHERE and link.piece not in comparison.correlation.to_original:
                continue  # It is not in the kernel, which is another verdict.
            if link.name not in machine.fentry and not _SAVES_REGISTERS.match(describe(patched, link)):
                yield piece, link
