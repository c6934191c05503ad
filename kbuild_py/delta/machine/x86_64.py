# SPDX-License-Identifier: GPL-2.0-or-later
"""x86-64: instructions of any length, addends that count from their end.

The addend of a pc-relative relocation in code is not an offset into the target.  The processor adds the
displacement to the address of the *next instruction*, so the assembler has taken off the distance from
the field to the instruction's end: 4 in most cases, more when an immediate follows the displacement.
`cmpb $1, flag(%rip)` is `.data - 5`, and reading it as `.data - 4` would find the byte before the flag,
which may be another variable.  Only decoding the instruction tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

import capstone

from kbuild_py.delta.machine.kinds import Branch, Decoded, Instruction, Lines, Machine
from kbuild_py.delta.tables import COMMON, OBJTOOL, Table, Use
from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import architecture
from kbuild_py.elf.x86 import is_branch, is_call

_PC32, _PLT32, _PC8 = 2, 4, 15
# The module loader's list: arch/x86/kernel/module.c, __apply_relocate_add() / __write_relocate_add().
_LOADABLE = frozenset({0, 1, _PC32, _PLT32, 10, 11, 24})

_TABLES = {
    **COMMON,
    **OBJTOOL,
    ".smp_locks": Table((4,), Use.MEANING, "lock prefixes"),
    ".parainstructions": Table((16,), Use.MEANING, "paravirt calls"),
}
# Instructions that read and write what they name and nothing else (but for flags and the stack).
_PLAIN = re.compile(
    r"^(mov|movabs|mov[sz]xd?|lea|add|sub|and|or|xor|not|neg|inc|dec|sh[lr]|sar|test|cmp|nop|bt|push|pop)$"
)


@cache
def _engine() -> capstone.Cs:
    return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)


def _decode(code: bytes, start: int, end: int, fields: Sequence[int], *, branches: bool) -> Decoded:
    bias: dict[int, int] = {}
    found: list[Branch] = []
    index, count = 0, len(fields)
    reached = start
    for address, size, mnemonic, operands in _engine().disasm_lite(code[start:end], start):
        reached = address + size
        relocated = False
        while index < count and fields[index] < reached:
            bias[fields[index]] = reached - fields[index]
            relocated = True
            index += 1
        if (
            branches
            and not relocated
            and mnemonic[0] in "jcl"
            and operands.isalnum()
            and operands[0].isdigit()
        ):
            target = int(operands, 0)  # capstone writes 0 to 9 in decimal
            if not start <= target < end and (mnemonic[0] in "jl" or mnemonic == "call"):
                # The displacement is the last thing in the instruction; short forms have one byte of it.
                width, kind = (1, _PC8) if size == 2 else (4, _PC32)
                found.append(Branch(reached - width, kind, target, -width))
    return Decoded(bias, tuple(found), reached == end)


def _may_return(code: bytes, start: int, end: int) -> bool:
    """The stretch has a return, or a jump through a register or memory, which may go anywhere."""
    return any(
        mnemonic.split()[-1] in ("ret", "retf", "iret", "iretq", "sysret", "sysretq")
        or (mnemonic.split()[-1] == "jmp" and not operands[:1].isdigit())
        for _, _, mnemonic, operands in _engine().disasm_lite(code[start:end], start)
    )


def _instructions(code: bytes, start: int, end: int) -> Iterator[Instruction]:
    yield from _engine().disasm_lite(code[start:end], 0)


def _registers(name: str) -> frozenset[str]:
    """All names of the parts of `rdi`, `r8` and the like."""
    if name[1].isdigit():
        return frozenset({name, f"{name}d", f"{name}w", f"{name}b"})
    return frozenset({name, f"e{name[1:]}", name[1:], f"{name[1:]}l" if name[2] == "i" else f"{name[1]}l"})


@cache
def x86_64() -> Machine:
    """The processor."""
    return Machine(
        arch=architecture(elf.EM_X86_64),
        byteorder="little",
        loadable=_LOADABLE,
        same={_PLT32: _PC32},
        ignored=frozenset({0}),
        fentry=frozenset({"__fentry__", "mcount"}),
        fentry_reach=16,  # An ENDBR, and padding that some compilers put first, may stand before the call.
        fill=b"\x90",
        objtool=True,
        static_branches={0xEB: b"\x66\x90", 0xE9: b"\x0f\x1f\x44\x00\x00"},
        tables=_TABLES,
        lines=Lines(
            arguments=tuple(_registers(name) for name in ("rdi", "rsi", "rdx", "rcx", "r8", "r9")),
            loads=frozenset({"mov"}),
            continued=frozenset(),
            thunks=frozenset({"__x86_return_thunk"}),
            plain=lambda mnemonic, operands: _PLAIN.match(mnemonic) is not None,
            calls=frozenset({"call"}),
            jumps=frozenset({"jmp"}),
            returns=lambda mnemonic, operands: mnemonic == "ret",
            flow=lambda mnemonic: mnemonic.split()[-1].startswith(("j", "call", "ret", "loop", "int", "ud")),
        ),
        decode=_decode,
        is_branch=is_branch,
        is_call=is_call,
        may_return=_may_return,
        instructions=_instructions,
        from_end=True,
        short_branch=_PC8,
    )
