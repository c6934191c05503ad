# SPDX-License-Identifier: GPL-2.0-or-later
"""What the diff must know of a processor, as data and a few small functions.

`Machine` is the only form in which a processor appears outside of this package.  Each file beside this one
makes one; what two of them need stands in `words.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from kbuild_py.delta.tables import Table, find_table
from kbuild_py.elf.arch import Architecture, RelocationType, Semantic
from kbuild_py.elf.object import ObjectFile

Instruction = tuple[int, int, str, str]  # address, size, mnemonic, operands


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch that leaves its stretch of code without a relocation.

    field, type: the place and type of the relocation that it would need
    target:      offset in the section that it goes to
    addend:      what that relocation's addend must be for a symbol at the target
    """

    field: int
    type: int
    target: int
    addend: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """What decoding one stretch of code found.

    bias:     offset of a relocated field -> what to add to a pc-relative addend to get the target
    branches: branches out of the stretch that no relocation covers
    complete: every byte was understood
    """

    bias: Mapping[int, int]
    branches: tuple[Branch, ...]
    complete: bool


class Decoder(Protocol):
    """Decodes code[start:end].

    fields:   sorted offsets of relocated fields within the stretch
    branches: report branches that leave the stretch
    """

    def __call__(
        self, code: bytes, start: int, end: int, fields: Sequence[int], *, branches: bool
    ) -> Decoded: ...


@dataclass(frozen=True, slots=True)
class Lines:
    """How code passes a line number to a function (lines.py).

    arguments: names of the register that holds each argument
    loads:     mnemonics that load a constant into a register
    continued: mnemonics that add the rest of a constant to the same register
    flow:      whether a mnemonic is a branch, call or return
    calls, jumps, returns: which of these are calls, unconditional direct jumps, returns (with the operands)
    thunks:    functions that a jump to is a return
    plain:     whether an instruction touches only the registers that it names
    """

    arguments: tuple[frozenset[str], ...]
    loads: frozenset[str]
    continued: frozenset[str]
    flow: Callable[[str], bool]
    calls: frozenset[str]
    jumps: frozenset[str]
    returns: Callable[[str, str], bool]
    thunks: frozenset[str] = frozenset()
    plain: Callable[[str, str], bool] = field(default=lambda mnemonic, operands: True)


def no_local_entry(other: int) -> int:
    """A function has one entry point, at its symbol."""
    return 0


@dataclass(frozen=True, slots=True)
class Machine:
    """One processor.

    relocations:  what each type means
    loadable:     types that the kernel's module loader can apply
    same:         type -> the type that it is as good as when it reaches a function directly
    ignored:      types that fill nothing
    subsections:  code without a name may stand behind a function and belong to it
    from_end:     a pc-relative addend in code counts from the end of its instruction
    short_branch: the type of a branch with a distance of one byte; -1 where there is none
    fentry:       names of the functions that ftrace's call at a function's start goes to
    fentry_reach: bytes from a function's symbol within which that call stands
    fentry_code:  what stands at a function's start instead, for ftrace to write over; may be empty
    fill:         a no-operation, for holes between functions
    objtool:      the kernel's objtool reads the code when a module is linked
    static_branches: the first byte of a jump -> the no-operation of its length that objtool makes of it
    tables:       what annotates code
    label:        whether a symbol's name is that of a mark of the assembler
    local_entry:  st_other -> distance from a function's symbol to where calls within an object go
    settle:       the object with branches resolved that its assembler has left to the linker for no reason
    needs_toc:    after a call that leaves the object, the code has to restore a register; given code and
                  field: whether there is no room for that
    supplied:     whether every module has a symbol of this name by itself
    """

    arch: Architecture
    byteorder: Literal["little", "big"]
    loadable: frozenset[int]
    same: Mapping[int, int]
    ignored: frozenset[int]
    fentry: frozenset[str]
    fentry_reach: int
    fill: bytes
    objtool: bool
    tables: Mapping[str, Table]
    lines: Lines
    decode: Decoder
    is_branch: Callable[[bytes, int], bool]
    is_call: Callable[[bytes, int], bool]
    may_return: Callable[[bytes, int, int], bool]
    instructions: Callable[[bytes, int, int], Iterator[Instruction]]
    subsections: bool = False
    from_end: bool = False
    short_branch: int = -1
    fentry_code: bytes = b""
    static_branches: Mapping[int, bytes] = field(default_factory=dict)
    label: Callable[[str], bool] = field(default=lambda name: False)
    local_entry: Callable[[int], int] = no_local_entry
    settle: Callable[[ObjectFile], ObjectFile] = field(default=lambda obj: obj)
    needs_toc: Callable[[bytes, int], bool] = field(default=lambda code, place: False)
    supplied: Callable[[str], bool] = field(default=lambda name: False)

    @property
    def name(self) -> str:
        return self.arch.name

    @property
    def relocations(self) -> Mapping[int, RelocationType]:
        return self.arch.relocations

    def meaning(self, kind: int) -> int:
        """The type under which two relocations are compared: a PLT32 in a kernel is a PC32."""
        return self.same.get(kind, kind)

    def is_pc_relative(self, kind: int) -> bool:
        """The value is a distance from the field."""
        known = self.arch.relocations.get(kind)
        return known is not None and known.pc_relative

    def refusal(self, kind: int) -> str | None:
        """Why the module loader cannot apply a relocation type; None when it can."""
        if kind in self.loadable or kind in self.ignored:
            return None
        known = self.arch.relocations.get(kind)
        name = self.arch.names.get(kind, str(kind))
        reason = _REASONS.get(known.semantic) if known is not None else None
        if "_TLS" in name or "TPREL" in name or "TPOFF" in name:
            reason = _REASONS[Semantic.TLS]
        return f"{name} {reason or 'cannot be applied by the module loader'}"

    @property
    def stack_types(self) -> Mapping[int, str]:
        """Relocation types that compute on a stack -> their names."""
        known = self.arch.relocations.items()
        return {kind: self.arch.names[kind] for kind, row in known if row.semantic is Semantic.STACK}

    def clear(self, content: bytearray, offset: int, kind: int) -> None:
        """Set the bits to zero that a relocation of this type at `offset` fills."""
        known = self.arch.relocations.get(kind)
        end = offset + known.width if known is not None else offset
        if known is None or offset < 0 or end > len(content):
            return
        if not known.mask:
            content[offset:end] = bytes(known.width)
        else:
            word = int.from_bytes(content[offset:end], self.byteorder) & ~known.mask
            content[offset:end] = word.to_bytes(known.width, self.byteorder)

    def table(self, name: str) -> Table | None:
        """The table kind of a section with this name; None when it is no table."""
        return find_table(self.tables, name)

    def padding(self, size: int) -> bytes:
        """`size` bytes of no-operations."""
        return (self.fill * (size // len(self.fill) + 1))[:size]

    def instruction_at(self, code: bytes, start: int, end: int, offset: int) -> str:
        """The instruction that covers `offset` of the function code[start:end], as text; "" if none does."""
        for address, size, mnemonic, operands in self.instructions(code, start, end):
            if address + size > offset - start:
                return f"{mnemonic} {operands}".strip()
        return ""


_REASONS = {
    Semantic.GOT: "goes through a global offset table, which a module does not have",
    Semantic.TLS: "is for thread-local storage, which the kernel does not have",
    Semantic.DYNAMIC: "is for the dynamic loader",
    Semantic.SIZE: "is a symbol's size, which the module loader cannot fill in",
}
