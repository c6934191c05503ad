# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions that never return.

After the call of one (`skb_panic`, which ends in BUG()) the compiler writes nothing: what follows belongs
to another block, or the function ends there.  objtool, which later makes the tables for stack unwinding,
sees that a function never returns from its code, or for well-known global ones from its name.  A static one
that stays in the kernel has neither in the patch object, and objtool would follow the code behind the call
into nowhere.  So a static function that cannot return is copied beside the code that calls it.  It is
unchanged, and the state that it uses stays in the kernel, so both copies do the same.

Nothing is copied whose address is used, for that must stay the kernel's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kbuild_py.delta.anatomy import Anatomy, Kind, Piece
from kbuild_py.delta.carry import Ways, callers, ways
from kbuild_py.delta.sections import NOINSTR, Role


class DeadEnds:
    """The static functions of an object that never return; found out when asked."""

    def __init__(self, anatomy: Anatomy, families: Mapping[int, tuple[int, ...]]) -> None:
        self._anatomy, self._families = anatomy, families
        self._ways: Ways | None = None
        self._known: dict[int, bool] = {}

    def called_by(self, piece: Piece) -> Iterator[int]:
        """The functions among those that `piece` calls; each with its unlikely parts."""
        if not self._anatomy.machine.objtool:
            return
        for link in self._anatomy.links_of(piece):
            if link.piece >= 0 and link.at == 0 and link.piece != piece.number:
                target = self._anatomy.pieces[link.piece]
                if target.kind is Kind.FUNCTION and self._is_one(target):
                    yield target.number
                    yield from self._families.get(target.number, ())

    def _is_one(self, piece: Piece) -> bool:
        if piece.number not in self._known:
            family = (piece.number, *self._families.get(piece.number, ()))
            self._known[piece.number] = (
                self._anatomy.is_local(piece)
                and self._anatomy.role(piece) is Role.CODE
                and not NOINSTR.match(self._anatomy.section_of(piece).name)
                and not any(self._returns(self._anatomy.pieces[number], family) for number in family)
                and self._is_only_called(piece)
            )
        return self._known[piece.number]

    def _returns(self, piece: Piece, family: tuple[int, ...]) -> bool:
        """It may return, or go on in a function of which that is not known."""
        anatomy = self._anatomy
        code = anatomy.section_of(piece).data
        if piece.section in anatomy.undecoded or anatomy.machine.may_return(code, piece.start, piece.end):
            return True
        return any(
            link.piece not in family
            and anatomy.is_branch(piece, link)
            and not anatomy.machine.is_call(code, link.offset)
            for link in anatomy.links_of(piece)
        )

    def _is_only_called(self, piece: Piece) -> bool:
        if self._ways is None:
            self._ways = ways(self._anatomy)
        found = callers(self._anatomy, piece, self._ways)
        return not any(isinstance(caller, str) for caller in found)
