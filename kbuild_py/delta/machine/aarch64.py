# SPDX-License-Identifier: GPL-2.0-or-later
"""arm64: branches, `__patchable_function_entries`, alternatives in a subsection.

Replacement code of alternatives, and the slow path of atomic operations, is put behind the function in its
own section (`.subsection 1`), where no symbol names it.  Branches between the two have no relocation, for
the assembler can resolve them.  The diff makes them references again.

The assembler marks code and data with symbols `$x` and `$d`, which name nothing.
"""

from __future__ import annotations

import re
from functools import cache

import capstone

from kbuild_py.delta.machine.kinds import Lines, Machine
from kbuild_py.delta.machine.words import decoder, first_bytes, lister, signed, word_at, words
from kbuild_py.delta.tables import ALTERNATIVES, COMMON, Table, Use
from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import architecture

_TSTBR14, _CONDBR19, _JUMP26, _CALL26 = 279, 280, 282, 283
# The module loader's list: arch/arm64/kernel/module.c, apply_relocate_add().
_LOADABLE = frozenset({0, 256, *range(257, 281), *range(282, 294), 299})
_MARK = re.compile(r"^\$[xd](\.|$)")
_FLOW = re.compile(
    r"^(b|bl|br|blr|ret|eret|cbz|cbnz|tbz|tbnz|b\..*|br[a-z]+|blr[a-z]+|ret[a-z]+|eret[a-z]+)$"
)

_TABLES = {
    **COMMON,
    # A length of 0 goes with a callback: the kernel calls a function that writes the instructions.
    ALTERNATIVES: Table((12,), Use.MEANING, "alternatives", lengths={12: 11}, fields=(2, 2), codes=2),
}


def _target(word: int, place: int) -> tuple[int, int] | None:
    top = word >> 24
    if top & 0x7C == 0x14:
        return (_CALL26 if top & 0x80 else _JUMP26), place + 4 * signed(word, 26)
    if top == 0x54 or top & 0x7E == 0x34:
        return _CONDBR19, place + 4 * signed(word >> 5, 19)
    return _TSTBR14, place + 4 * signed(word >> 5, 14)  # top & 0x7E == 0x36


_BRANCHES = first_bytes((0x14, 0x17), (0x94, 0x97), (0x54, 0x54), (0x34, 0x37), (0xB4, 0xB7))


def _is_branch(code: bytes, field: int) -> bool:
    return bool(_BRANCHES[word_at(code, field) >> 24])


def _is_call(code: bytes, field: int) -> bool:
    return word_at(code, field) >> 26 == 0x25


def _may_return(code: bytes, start: int, end: int) -> bool:
    # BR, RET, ERET and their authenticating forms; BLR has bits 21 to 24 as 0001.
    return any(word & 0xFE000000 == 0xD6000000 and word >> 21 & 7 != 1 for word in words(code, start, end))


@cache
def _engine() -> capstone.Cs:
    return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)


@cache
def aarch64() -> Machine:
    """The processor."""
    return Machine(
        arch=architecture(elf.EM_AARCH64),
        byteorder="little",
        loadable=_LOADABLE,
        same={},
        ignored=frozenset({0, 256}),
        fentry=frozenset({"_mcount"}),
        fentry_reach=256,  # behind the whole prologue; only the compiler calls it
        fill=bytes.fromhex("1f2003d5"),
        objtool=False,
        tables=_TABLES,
        lines=Lines(
            arguments=tuple(frozenset({f"w{number}", f"x{number}"}) for number in range(8)),
            loads=frozenset({"mov", "movz"}),
            continued=frozenset(),
            calls=frozenset({"bl", "blr"}),
            jumps=frozenset({"b"}),
            returns=lambda mnemonic, operands: mnemonic.startswith("ret"),
            flow=lambda mnemonic: _FLOW.match(mnemonic) is not None,
        ),
        decode=decoder(_BRANCHES, _target),
        is_branch=_is_branch,
        is_call=_is_call,
        may_return=_may_return,
        instructions=lister(_engine),
        subsections=True,
        label=lambda name: _MARK.match(name) is not None,
    )
