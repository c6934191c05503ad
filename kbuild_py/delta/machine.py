# SPDX-License-Identifier: GPL-2.0-or-later
"""What the diff must know of a processor: relocations in code, branches, and how ftrace hooks a function.

The addend of a pc-relative relocation in x86 code is not an offset into the target.  The processor adds
the displacement to the address of the *next instruction*, so the assembler has taken off the distance from
the field to the instruction's end: 4 in most cases, more when an immediate follows the displacement.
`cmpb $1, flag(%rip)` is `.data - 5`, and reading it as `.data - 4` would find the byte before the flag,
which may be another variable.  Only decoding the instruction tells.

An assembler also resolves a branch within one section by itself.  Where several functions share a section
(`.sched.text`) such a branch between two of them has no relocation, yet its target moves when code is
taken out of the section.  The decoder reports these branches; they are treated as relocations.

A processor is one `Machine`; a further one is a further value, and no other module of the diff changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import capstone

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import Semantic, architecture
from kbuild_py.errors import refuse


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch that leaves its function without a relocation: the field's place and width, the target."""

    field: int
    width: int
    target: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """What decoding one stretch of code found.

    distance: offset of a relocated field -> bytes from there to the end of its instruction
    branches: branches out of the stretch that no relocation covers
    complete: every byte was understood
    """

    distance: Mapping[int, int]
    branches: tuple[Branch, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """One processor.

    pc_relative: relocation types whose value is a distance from the field
    branchlike:  types that mean the same when they reach a function directly
    ignored:     types that fill nothing
    unsupported: types that the module loader cannot apply, with the reason
    branch:      the type that a reconstructed branch gets
    short_branch: the type that one with a distance of one byte would need
    width:       type -> bytes of the field
    fentry:      names of the functions that ftrace's call at a function's start goes to
    """

    number: int
    name: str
    pc_relative: frozenset[int]
    branchlike: frozenset[int]
    ignored: frozenset[int]
    unsupported: Mapping[int, str]
    branch: int
    short_branch: int
    width: Mapping[int, int]
    fentry: frozenset[str]

    def meaning(self, kind: int) -> int:
        """The type under which two relocations are compared: a PLT32 in a kernel is a PC32."""
        return self.branch if kind in self.branchlike else kind


def machine(number: int, place: object) -> Machine:
    """The processor with this EM_* number, or a `UserError` at `place`."""
    if number != elf.EM_X86_64:
        arch = architecture(number, place)
        raise refuse(place, f"objects for {arch.name} are not supported yet", "give objects for x86_64")
    return _x86_64()


@cache
def _x86_64() -> Machine:
    types = architecture(elf.EM_X86_64).relocations
    no = {
        Semantic.GOT: "goes through a global offset table, which a module does not have",
        Semantic.TLS: "is for thread-local storage, which the kernel does not have",
        Semantic.DYNAMIC: "is for the dynamic loader",
        Semantic.SIZE: "is a symbol's size, which the module loader cannot fill in",
    }
    # The module loader's list: arch/x86/kernel/module.c, __apply_relocate_add() / __write_relocate_add().
    loadable = {0, 1, 2, 4, 10, 11, 24}
    unsupported = {
        number: no.get(kind.semantic, "cannot be applied by the module loader")
        for number, kind in types.items()
        if number not in loadable
    }
    return Machine(
        number=elf.EM_X86_64,
        name="x86_64",
        pc_relative=frozenset(number for number, kind in types.items() if kind.pc_relative),
        branchlike=frozenset({2, 4}),
        ignored=frozenset({0}),
        unsupported=unsupported,
        branch=2,
        short_branch=15,
        width={number: kind.width for number, kind in types.items()},
        fentry=frozenset({"__fentry__", "mcount"}),
    )


@cache
def _decoder() -> capstone.Cs:
    return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)


def decode(code: bytes, start: int, end: int, fields: Sequence[int], *, branches: bool) -> Decoded:
    """Decode x86-64 code[start:end].

    fields:   sorted offsets of relocated fields within the stretch
    branches: look for branches that leave the stretch
    """
    distance: dict[int, int] = {}
    found: list[Branch] = []
    index, count = 0, len(fields)
    reached = start
    for address, size, mnemonic, operands in _decoder().disasm_lite(code[start:end], start):
        reached = address + size
        relocated = False
        while index < count and fields[index] < reached:
            distance[fields[index]] = reached - fields[index]
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
                width = 1 if size == 2 else 4
                found.append(Branch(reached - width, width, target))
    return Decoded(distance, tuple(found), reached == end)


def may_return(code: bytes, start: int, end: int) -> bool:
    """The stretch has a return, or a jump through a register or memory, which may go anywhere."""
    return any(
        mnemonic.split()[-1] in ("ret", "retf", "iret", "iretq", "sysret", "sysretq")
        or (mnemonic.split()[-1] == "jmp" and not operands[:1].isdigit())
        for _, _, mnemonic, operands in _decoder().disasm_lite(code[start:end], start)
    )


def instruction_at(code: bytes, start: int, end: int, offset: int) -> str:
    """The instruction that covers `offset` of the function code[start:end], as text; "" if none does."""
    for address, size, mnemonic, operands in _decoder().disasm_lite(code[start:end], 0):
        if address + size > offset - start:
            return f"{mnemonic} {operands}".strip()
    return ""
