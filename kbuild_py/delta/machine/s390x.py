# SPDX-License-Identifier: GPL-2.0-or-later
"""s390x: big-endian, instructions of 2, 4 or 6 bytes, distances in halfwords from the instruction.

The addend of a pc-relative field in code is larger than the target by the field's distance from the start
of its instruction (2 in most formats).  How long an instruction is, the first two bits say.

ftrace has a 6-byte no-operation at the function's start: the compiler writes a `brcl 0,0` for `-mhotpatch`
and for `-mfentry -mnop-mcount`; older kernels have a call of `__fentry__` or `_mcount` there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

import capstone

from kbuild_py.delta.machine.kinds import Branch, Decoded, Instruction, Lines, Machine
from kbuild_py.delta.tables import ALTERNATIVES, COMMON, Table, Use
from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import architecture

_PC16DBL, _PC32DBL = 17, 19
# The module loader's list: arch/s390/kernel/module.c, apply_rela(); it makes a global offset table.
_LOADABLE = frozenset({*range(9), 13, *range(15, 29), *range(29, 37), 14, 57, 58, 59})
_LENGTH = bytes(2 if value < 0x40 else 4 if value < 0xC0 else 6 for value in range(256))
_COMPARE_AND_BRANCH = frozenset({0x44, 0x45, 0x64, 0x65, 0x76, 0x77, 0x7C, 0x7D, 0x7E, 0x7F})
_FLOW = re.compile(r"^(b|j|cl?g?i?r?j|lpsw|svc|mc$)")

# These name the first register of a pair or of a range, or work on registers that they do not name.
_MORE_REGISTERS = re.compile(r"^(lm|stm|lam|m|d|clcl|cds|lpq|stpq|tr|ex|srst|ck|cu|s[lr]d|k|pp|svc)")
# Prologue and epilogue: from some register on to the last one, none of which holds an argument.
_SAVED = re.compile(r"^%r([7-9]|1[0-5]), %r1[0-5], ")


def _names_all_registers(mnemonic: str, operands: str) -> bool:
    if mnemonic in ("lmg", "stmg") and _SAVED.match(operands):
        return True
    return _MORE_REGISTERS.match(mnemonic) is None


_SITES = Table((4,), Use.MEANING, "indirect branches")
_TABLES = {
    **COMMON,
    # struct alt_instr: since 6.11 a wider feature and one length, which holds for both.
    ALTERNATIVES: Table(
        (12, 13, 14), Use.MEANING, "alternatives", lengths={12: 11, 13: 12, 14: 13}, fields=(2, 2), codes=2
    ),
    # Written by the compiler (-mindirect-branch-table): where thunks stand in for branches.
    ".s390_indirect_jump": _SITES,
    ".s390_indirect_call": _SITES,
    ".s390_indirect_branches": _SITES,
    ".s390_return_mem": _SITES,
    ".s390_return_reg": _SITES,
}


def _direct(code: bytes, place: int) -> int:
    """Bytes in the distance field of the relative instruction at `place`; 0 when it has none."""
    first = code[place]
    low = code[place + 1] & 0xF if place + 1 < len(code) else 0
    if first == 0xC0:
        return 4 if low in (0, 4, 5) else 0  # larl, brcl, brasl
    if first == 0xA7:
        return 2 if low in (4, 5, 6, 7) else 0  # brc, bras, brct, brctg
    if first in (0x84, 0x85):
        return 2
    if first == 0xEC and place + 6 <= len(code):
        return 2 if code[place + 5] in _COMPARE_AND_BRANCH else 0
    return 4 if first == 0xCC and low == 6 else 0


def _decode(code: bytes, start: int, end: int, fields: Sequence[int], *, branches: bool) -> Decoded:
    bias: dict[int, int] = {}
    found: list[Branch] = []
    index, count = 0, len(fields)
    place = start
    while place < end:
        first = code[place]
        after = place + _LENGTH[first]
        relocated = False
        while index < count and fields[index] < after:
            bias[fields[index]] = place - fields[index]
            relocated = True
            index += 1
        if branches and not relocated and first in _RELATIVE and after <= end:
            width = _direct(code, place)
            distance = int.from_bytes(code[place + 2 : place + 2 + width], "big", signed=True)
            target = place + 2 * distance
            if width and not start <= target < end:
                found.append(Branch(place + 2, _PC32DBL if width == 4 else _PC16DBL, target, 2))
        place = after
    return Decoded(bias, tuple(found), place == end)


_RELATIVE = frozenset({0xC0, 0xA7, 0x84, 0x85, 0xEC, 0xCC})


def _is_branch(code: bytes, field: int) -> bool:
    """Whether a field at `field` is a branch's distance; LARL and loads have the same relocation."""
    place = field - 2
    return place >= 0 and _direct(code, place) > 0 and (code[place], code[place + 1] & 0xF) != (0xC0, 0)


def _is_call(code: bytes, field: int) -> bool:
    place = field - 2
    return place >= 0 and code[place] in (0xC0, 0xA7) and code[place + 1] & 0xF == 5


def _may_return(code: bytes, start: int, end: int) -> bool:
    """A branch to a register or memory (07, 47), a new PSW (82, b2b2), or a jump through a thunk."""
    place = start
    while place < end:
        first, second = code[place], code[place + 1] if place + 1 < end else 0
        if (first in (0x07, 0x47) and second & 0xF0) or first == 0x82 or (first, second) == (0xB2, 0xB2):
            return True
        place += _LENGTH[first]
    return False


@cache
def _engine() -> capstone.Cs:
    return capstone.Cs(capstone.CS_ARCH_SYSZ, capstone.CS_MODE_BIG_ENDIAN)


def _instructions(code: bytes, start: int, end: int) -> Iterator[Instruction]:
    place = start
    while place < end:
        size = min(_LENGTH[code[place]], end - place)
        for _, _, mnemonic, operands in _engine().disasm_lite(code[place : place + size], place - start, 1):
            yield place - start, size, mnemonic, operands
            break
        else:
            yield place - start, size, ".byte", code[place : place + size].hex()
        place += size


@cache
def s390x() -> Machine:
    """The processor."""
    return Machine(
        arch=architecture(elf.EM_S390),
        byteorder="big",
        loadable=_LOADABLE,
        same={20: _PC32DBL, 18: _PC16DBL},
        ignored=frozenset({0}),
        fentry=frozenset({"__fentry__", "_mcount"}),
        fentry_reach=16,
        fentry_code=bytes.fromhex("c00400000000"),
        fill=bytes.fromhex("0707"),
        objtool=False,
        tables=_TABLES,
        lines=Lines(
            arguments=tuple(frozenset({f"%r{number}"}) for number in range(2, 7)),
            loads=frozenset({"lhi", "lghi", "lgfi", "llilf", "llill", "iilf"}),
            continued=frozenset(),
            thunks=frozenset({"__s390_indirect_jump_r14"}),
            plain=_names_all_registers,
            calls=frozenset({"brasl", "bras", "basr", "jas", "jasl"}),
            jumps=frozenset({"j", "jg", "jlu"}),
            returns=lambda mnemonic, operands: (mnemonic, operands) == ("br", "%r14"),
            flow=lambda mnemonic: _FLOW.match(mnemonic) is not None,
        ),
        decode=_decode,
        is_branch=_is_branch,
        is_call=_is_call,
        may_return=_may_return,
        instructions=_instructions,
    )
