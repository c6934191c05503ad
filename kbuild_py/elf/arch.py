# SPDX-License-Identifier: GPL-2.0-or-later
"""What a relocation type means, per processor.

A relocation is a hole in a section's bytes that the linker fills.  To compare code with the holes masked
one must know how wide each hole is; to find out from a linked image what was put there, how the value
was formed: the address itself (absolute), its distance from the hole (pc-relative), or by way of a table
that the linker makes (PLT, GOT, TLS).

A processor is one `Architecture`.  `complete` says that its table describes every type of the psABI, so
that a type which is not in it is an error; the others know names only, for messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from elftools.elf import enums

from kbuild_py.elf import constants as elf
from kbuild_py.errors import refuse


class Semantic(Enum):
    """How a relocation's value is formed from symbol S, addend A and place P."""

    NONE = "none"  # nothing is written
    ABSOLUTE = "absolute"  # S + A
    PC_RELATIVE = "pc-relative"  # S + A - P
    PLT = "plt"  # as PC_RELATIVE, but the linker may put a jump in between
    GOT = "got"  # by way of the global offset table
    TLS = "tls"  # thread-local storage
    SIZE = "size"  # the symbol's size + A
    DYNAMIC = "dynamic"  # for the dynamic loader only, never in a relocatable object


@dataclass(frozen=True, slots=True)
class RelocationType:
    """One relocation type.

    width:       bytes of the field that it fills.
    pc_relative: the field's own address is subtracted.
    signed:      the field is sign-extended when it is used.
    """

    number: int
    name: str
    width: int
    pc_relative: bool
    signed: bool
    semantic: Semantic


@dataclass(frozen=True, slots=True)
class Architecture:
    """A processor: `names` of all its relocation types, and in `relocations` what is known of them."""

    machine: int
    name: str
    relocations: Mapping[int, RelocationType]
    names: Mapping[int, str]
    complete: bool


def architecture(machine: int, place: object = "") -> Architecture:
    """The architecture with this EM_* number; a `UserError` at `place` when it is not known."""
    found = ARCHITECTURES.get(machine)
    if found is None:
        known = ", ".join(arch.name for arch in ARCHITECTURES.values())
        raise refuse(place, f"machine {machine} (e_machine) is not supported", f"known machines: {known}")
    return found


def relocation_type(machine: int, number: int, place: object = "") -> RelocationType:
    """What relocation type `number` means; a `UserError` at `place` when that is not known."""
    arch = architecture(machine, place)
    found = arch.relocations.get(number)
    if found is None:
        raise refuse(
            place, f"relocation type {relocation_name(machine, number)} is not supported on {arch.name}"
        )
    return found


def relocation_name(machine: int, number: int) -> str:
    """The psABI's name of a relocation type, or its number as text."""
    arch = ARCHITECTURES.get(machine)
    return arch.names.get(number, str(number)) if arch else str(number)


def _x86_64() -> Architecture:
    """System V ABI, AMD64 supplement, table 4.9 (version 1.0, with the APX types)."""
    none, absolute, pc = Semantic.NONE, Semantic.ABSOLUTE, Semantic.PC_RELATIVE
    plt, got, tls = Semantic.PLT, Semantic.GOT, Semantic.TLS
    size, dynamic = Semantic.SIZE, Semantic.DYNAMIC
    table: tuple[tuple[int, str, int, bool, bool, Semantic], ...] = (
        # number, name, width, pc-relative, signed, semantic
        (0, "NONE", 0, False, False, none),
        (1, "64", 8, False, False, absolute),
        (2, "PC32", 4, True, True, pc),
        (3, "GOT32", 4, False, True, got),
        (4, "PLT32", 4, True, True, plt),
        (5, "COPY", 0, False, False, dynamic),
        (6, "GLOB_DAT", 8, False, False, dynamic),
        (7, "JUMP_SLOT", 8, False, False, dynamic),
        (8, "RELATIVE", 8, False, False, dynamic),
        (9, "GOTPCREL", 4, True, True, got),
        (10, "32", 4, False, False, absolute),
        (11, "32S", 4, False, True, absolute),
        (12, "16", 2, False, False, absolute),
        (13, "PC16", 2, True, True, pc),
        (14, "8", 1, False, True, absolute),
        (15, "PC8", 1, True, True, pc),
        (16, "DTPMOD64", 8, False, False, tls),
        (17, "DTPOFF64", 8, False, True, tls),
        (18, "TPOFF64", 8, False, True, tls),
        (19, "TLSGD", 4, True, True, tls),
        (20, "TLSLD", 4, True, True, tls),
        (21, "DTPOFF32", 4, False, True, tls),
        (22, "GOTTPOFF", 4, True, True, tls),
        (23, "TPOFF32", 4, False, True, tls),
        (24, "PC64", 8, True, True, pc),
        (25, "GOTOFF64", 8, False, True, got),
        (26, "GOTPC32", 4, True, True, got),
        (27, "GOT64", 8, False, True, got),
        (28, "GOTPCREL64", 8, True, True, got),
        (29, "GOTPC64", 8, True, True, got),
        (30, "GOTPLT64", 8, False, True, got),
        (31, "PLTOFF64", 8, False, True, got),
        (32, "SIZE32", 4, False, False, size),
        (33, "SIZE64", 8, False, False, size),
        (34, "GOTPC32_TLSDESC", 4, True, True, tls),
        (35, "TLSDESC_CALL", 0, False, False, tls),
        (36, "TLSDESC", 16, False, False, tls),
        (37, "IRELATIVE", 8, False, False, dynamic),
        (38, "RELATIVE64", 8, False, False, dynamic),
        (39, "PC32_BND", 4, True, True, pc),
        (40, "PLT32_BND", 4, True, True, plt),
        (41, "GOTPCRELX", 4, True, True, got),
        (42, "REX_GOTPCRELX", 4, True, True, got),
        (43, "CODE_4_GOTPCRELX", 4, True, True, got),
        (44, "CODE_4_GOTTPOFF", 4, True, True, tls),
        (45, "CODE_4_GOTPC32_TLSDESC", 4, True, True, tls),
        (46, "CODE_5_GOTPCRELX", 4, True, True, got),
        (47, "CODE_5_GOTTPOFF", 4, True, True, tls),
        (48, "CODE_5_GOTPC32_TLSDESC", 4, True, True, tls),
        (49, "CODE_6_GOTPCRELX", 4, True, True, got),
        (50, "CODE_6_GOTTPOFF", 4, True, True, tls),
        (51, "CODE_6_GOTPC32_TLSDESC", 4, True, True, tls),
    )
    types = {row[0]: RelocationType(row[0], f"R_X86_64_{row[1]}", *row[2:]) for row in table}
    names = {number: kind.name for number, kind in types.items()}
    return Architecture(elf.EM_X86_64, "x86_64", MappingProxyType(types), MappingProxyType(names), True)


def _names_only(machine: int, name: str, table: str) -> Architecture:
    """An architecture of which only pyelftools' list of relocation names is known."""
    listed: dict[str, int] = getattr(enums, table, {})
    names = {number: text for text, number in listed.items() if isinstance(number, int)}
    return Architecture(machine, name, MappingProxyType({}), MappingProxyType(names), False)


ARCHITECTURES: Mapping[int, Architecture] = MappingProxyType(
    {
        arch.machine: arch
        for arch in (
            _x86_64(),
            _names_only(elf.EM_AARCH64, "arm64", "ENUM_RELOC_TYPE_AARCH64"),
            _names_only(elf.EM_PPC64, "powerpc64", "ENUM_RELOC_TYPE_PPC64"),
            _names_only(elf.EM_S390, "s390x", "ENUM_RELOC_TYPE_S390X"),
            _names_only(elf.EM_LOONGARCH, "loongarch64", "ENUM_RELOC_TYPE_LOONGARCH"),
            _names_only(elf.EM_RISCV, "riscv64", "ENUM_RELOC_TYPE_RISCV"),
        )
    }
)
