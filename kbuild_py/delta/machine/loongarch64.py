# SPDX-License-Identifier: GPL-2.0-or-later
"""LoongArch: fixed-width instructions, relocations that come in pairs.

A difference of two labels may have two relocations at one place, which add the one and subtract the other.
Each becomes a link of its own, in the file's order, and both count.  Where the second label is the field's
own place (`.word x - .`) it is a mark in the table that the field belongs to.

RELAX and ALIGN tell the linker that it may shorten code.  The kernel's module loader knows neither, so
code for it is never shortened, and what they say means nothing here.  The assembler has left branches within
a function to the linker as well, by relocations that the module loader does not know either.  As no code is
shortened, their distances are known, and they are resolved before anything else.

capstone 5 does not know this processor.  Of its instructions only a few must be understood, which have
their opcode in the upper bits; the others are shown to people as numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from kbuild_py.delta.machine.kinds import Instruction, Lines, Machine
from kbuild_py.delta.machine.words import decoder, first_bytes, signed, word_at, words
from kbuild_py.delta.tables import ALTERNATIVES, COMMON, OBJTOOL, Table, Use
from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import architecture
from kbuild_py.elf.object import ObjectFile

_B16, _B21, _B26 = 64, 65, 66
# The module loader's list: arch/loongarch/kernel/module.c; it makes a global offset table.
_LOADABLE = frozenset({0, 1, 2, 20, 21, *range(47, 57), 66, *range(71, 77), 99, 109})

_TABLES = {
    **COMMON,
    **OBJTOOL,
    ALTERNATIVES: Table((12,), Use.MEANING, "alternatives", lengths={12: 11}, fields=(2, 2), codes=2),
}

_REGISTERS = (
    "zero", "ra", "tp", "sp", *(f"a{i}" for i in range(8)), *(f"t{i}" for i in range(9)), "u0", "fp",
    *(f"s{i}" for i in range(9)),
)  # fmt: skip


def _offset16(word: int) -> int:
    return 4 * signed(word >> 10, 16)


def _offset21(word: int) -> int:
    return 4 * signed((word >> 10 & 0xFFFF) | (word & 0x1F) << 16, 21)


def _offset26(word: int) -> int:
    return 4 * signed((word >> 10 & 0xFFFF) | (word & 0x3FF) << 16, 26)


def _target(word: int, place: int) -> tuple[int, int] | None:
    opcode = word >> 26
    if opcode <= 0x12:
        return _B21, place + _offset21(word)
    if opcode <= 0x15:
        return _B26, place + _offset26(word)
    return _B16, place + _offset16(word)


# beqz, bnez, bceqz; b, bl; beq to bgeu.  Between them is jirl (opcode 0x13), which is indirect.
_BRANCHES = first_bytes((0x40, 0x4B), (0x50, 0x57), (0x58, 0x6F))
_PCADDU18I = 0x1E  # upper byte; with jirl it is a call over any distance (CALL36)


def _is_branch(code: bytes, field: int) -> bool:
    top = word_at(code, field) >> 24
    return bool(_BRANCHES[top]) or top & 0xFE == _PCADDU18I


def _is_call(code: bytes, field: int) -> bool:
    word = word_at(code, field)
    if word >> 25 == _PCADDU18I >> 1:
        return word_at(code, field + 4) & 0x1F == 1  # jirl with ra
    return word >> 26 == 0x15


def _may_return(code: bytes, start: int, end: int) -> bool:
    # jirl that keeps no return address, and ertn; not the second half of a jump with CALL36.
    found = words(code, start, end)
    return any(
        (word >> 26 == 0x13 and not word & 0x1F and (not index or found[index - 1] >> 25 != 0xF))
        or word == 0x06483800
        for index, word in enumerate(found)
    )


_TWO_REGISTERS_12 = {  # upper ten bits: mnemonic; a signed 12-bit number
    0x008: "slti", 0x009: "sltui", 0x00A: "addi.w", 0x00B: "addi.d", 0x00C: "lu52i.d",
    0x0A0: "ld.b", 0x0A1: "ld.h", 0x0A2: "ld.w", 0x0A3: "ld.d", 0x0A4: "st.b", 0x0A5: "st.h",
    0x0A6: "st.w", 0x0A7: "st.d", 0x0A8: "ld.bu", 0x0A9: "ld.hu", 0x0AA: "ld.wu",
}  # fmt: skip
_TWO_REGISTERS_12_UNSIGNED = {0x00D: "andi", 0x00E: "ori", 0x00F: "xori"}
_THREE_REGISTERS = {  # upper seventeen bits
    0x20: "add.w", 0x21: "add.d", 0x22: "sub.w", 0x23: "sub.d", 0x24: "slt", 0x25: "sltu",
    0x26: "maskeqz", 0x27: "masknez", 0x28: "nor", 0x29: "and", 0x2A: "or", 0x2B: "xor",
    0x38: "mul.w", 0x3B: "mul.d",
}  # fmt: skip
_ONE_REGISTER_20 = {0x0A: "lu12i.w", 0x0B: "lu32i.d", 0x0C: "pcaddi", 0x0D: "pcalau12i", 0x0E: "pcaddu12i",
                    0x0F: "pcaddu18i"}  # fmt: skip
_BRANCH_16 = {0x13: "jirl", 0x16: "beq", 0x17: "bne", 0x18: "blt", 0x19: "bge", 0x1A: "bltu", 0x1B: "bgeu"}


def _text(word: int, place: int) -> tuple[str, str]:
    """Mnemonic and operands, as binutils write them but for the `$` of registers."""
    to, left, right = (_REGISTERS[word >> shift & 0x1F] for shift in (0, 5, 10))
    opcode = word >> 26
    if word == 0x03400000:
        return "nop", ""
    if word >> 22 in _TWO_REGISTERS_12:
        return _TWO_REGISTERS_12[word >> 22], f"{to}, {left}, {signed(word >> 10, 12)}"
    if word >> 22 in _TWO_REGISTERS_12_UNSIGNED:
        return _TWO_REGISTERS_12_UNSIGNED[word >> 22], f"{to}, {left}, {word >> 10 & 0xFFF}"
    if word >> 15 in _THREE_REGISTERS:
        if word >> 15 == 0x2A and right == "zero":
            return "move", f"{to}, {left}"
        return _THREE_REGISTERS[word >> 15], f"{to}, {left}, {right}"
    if word >> 25 in _ONE_REGISTER_20:
        return _ONE_REGISTER_20[word >> 25], f"{to}, {signed(word >> 5, 20)}"
    if word >> 15 == 0x54:
        return "break", f"{word & 0x7FFF:#x}"
    if opcode in (0x10, 0x11):
        return ("beqz", "bnez")[opcode & 1], f"{left}, {place + _offset21(word):#x}"
    if opcode in (0x14, 0x15):
        return ("b", "bl")[opcode & 1], f"{place + _offset26(word):#x}"
    if opcode == 0x13 and not word & 0x1F and not word >> 10 & 0xFFFF:
        return ("ret", "") if left == "ra" else ("jr", left)
    if opcode in _BRANCH_16:
        target = f"{_offset16(word)}" if opcode == 0x13 else f"{place + _offset16(word):#x}"
        first, second = (to, left) if opcode == 0x13 else (left, to)
        return _BRANCH_16[opcode], f"{first}, {second}, {target}"
    return ".word", f"{word:#010x}"


def _instructions(code: bytes, start: int, end: int) -> Iterator[Instruction]:
    for index, word in enumerate(words(code, start, end)):
        yield 4 * index, 4, *_text(word, 4 * index)


def _settle(obj: ObjectFile) -> ObjectFile:
    """The object with branches to labels of their own section resolved, as without relaxation."""
    sections = []
    for section in obj.sections:
        kept, data = [], bytearray()
        for relocation in section.relocations:
            symbol = obj.symbols[relocation.symbol]
            local = symbol.section == section.index and symbol.name.startswith(".L")
            distance = symbol.value + relocation.addend - relocation.offset
            field = _FIELDS.get(relocation.type)
            if field is None or not local or distance % 4 or abs(distance) >= 1 << (field[0] + 1):
                kept.append(relocation)
                continue
            data = data or bytearray(section.data)
            low = (distance >> 2 & 0xFFFF) << 10
            high = distance >> 18 & (1 << (field[0] - 16)) - 1
            word = word_at(section.data, relocation.offset) & ~field[1] | low | high
            data[relocation.offset : relocation.offset + 4] = word.to_bytes(4, "little")
        if data:
            section = replace(section, data=bytes(data), relocations=tuple(kept))
        sections.append(section)
    return replace(obj, sections=tuple(sections))


# Type -> bits of the distance, and the mask of its field.
_FIELDS = {_B16: (16, 0x3FFFC00), _B21: (21, 0x3FFFC1F), _B26: (26, 0x3FFFFFF)}


@cache
def loongarch64() -> Machine:
    """The processor."""
    return Machine(
        arch=architecture(elf.EM_LOONGARCH),
        byteorder="little",
        loadable=_LOADABLE,
        same={},
        ignored=frozenset({0, 20, 21, 100, 102}),
        fentry=frozenset({"_mcount"}),
        fentry_reach=128,  # behind the prologue; only the compiler calls it
        fill=bytes.fromhex("00004003"),
        objtool=True,
        tables=_TABLES,
        lines=Lines(
            arguments=tuple(frozenset({f"a{number}"}) for number in range(8)),
            loads=frozenset({"addi.w", "addi.d", "ori", "lu12i.w"}),
            continued=frozenset({"ori"}),
            calls=frozenset({"bl"}),
            jumps=frozenset({"b"}),
            returns=lambda mnemonic, operands: mnemonic == "ret",
            flow=lambda mnemonic: mnemonic.startswith(("b", "j", "ret", ".word", "syscall")),
        ),
        decode=decoder(_BRANCHES, _target),
        is_branch=_is_branch,
        is_call=_is_call,
        may_return=_may_return,
        instructions=_instructions,
        settle=_settle,
    )
