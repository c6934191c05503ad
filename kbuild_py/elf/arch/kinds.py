# SPDX-License-Identifier: GPL-2.0-or-later
"""What a relocation type means: the words in which every processor's table is written.

A relocation is a hole in a section's bytes that the linker fills.  To compare code with the holes masked
one must know where each hole is; to find out from a linked image what was put there, how the value was
formed: the address itself (absolute), its distance from the hole (pc-relative), or by way of a table that
the linker makes (PLT, GOT, TLS).

On x86 a hole is a number of whole bytes.  Elsewhere it is some bits of an instruction, whose other bits
say what the instruction does: `mask` has a one for each bit of the field, read as one number of `width`
bytes in the object's byte order.  0 stands for all bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Semantic(Enum):
    """How a relocation's value is formed from symbol S, addend A and place P."""

    NONE = "none"  # nothing is written
    ABSOLUTE = "absolute"  # S + A
    PC_RELATIVE = "pc-relative"  # S + A - P
    PLT = "plt"  # as PC_RELATIVE, but the linker may put a jump in between
    GOT = "got"  # by way of the global offset table
    TOC = "toc"  # S + A - the start of the table of contents (ppc64)
    DIFFERENCE = "difference"  # added to, or taken off, what the field holds
    TLS = "tls"  # thread-local storage
    SIZE = "size"  # the symbol's size + A
    STACK = "stack"  # an operation on the linker's stack of values
    DYNAMIC = "dynamic"  # for the dynamic loader only, never in a relocatable object


@dataclass(frozen=True, slots=True)
class RelocationType:
    """One relocation type.

    width:       bytes of the field that it fills, or of the instruction that has the field.
    pc_relative: the field's own address is subtracted.
    signed:      the field is sign-extended when it is used.
    mask:        the bits that it fills, as a number in the object's byte order; 0 for all.
    """

    number: int
    name: str
    width: int
    pc_relative: bool
    signed: bool
    semantic: Semantic
    mask: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """A processor: `names` of all its relocation types, and in `relocations` what is known of them.

    `complete` says that the table describes every type of the psABI, so that one which is not in it is an
    error.
    """

    machine: int
    name: str
    relocations: Mapping[int, RelocationType]
    names: Mapping[int, str]
    complete: bool


Row = tuple[int, str, int, Semantic, int]  # number, name without the prefix, width, semantic, mask

_PC_RELATIVE = (Semantic.PC_RELATIVE, Semantic.PLT)


def from_rows(
    machine: int, name: str, prefix: str, rows: Iterable[Row], names: Mapping[int, str]
) -> Architecture:
    """An architecture from the rows of its table; `names` has the types that are known by name only."""
    types = {
        number: RelocationType(
            number, prefix + text, width, semantic in _PC_RELATIVE, semantic in _PC_RELATIVE, semantic, mask
        )
        for number, text, width, semantic, mask in rows
    }
    known = {**names, **{number: kind.name for number, kind in types.items()}}
    return Architecture(machine, name, MappingProxyType(types), MappingProxyType(known), False)
