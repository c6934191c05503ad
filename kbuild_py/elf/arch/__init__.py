# SPDX-License-Identifier: GPL-2.0-or-later
"""The processors whose objects can be read, and what their relocation types mean.

One file a processor; `kinds.py` has the words that they use.  This is the only place that lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from elftools.elf import enums

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch.aarch64 import AARCH64_ROWS
from kbuild_py.elf.arch.kinds import Architecture, RelocationType, Row, Semantic, from_rows
from kbuild_py.elf.arch.loongarch64 import LOONGARCH64_ROWS
from kbuild_py.elf.arch.ppc64 import PPC64_ROWS
from kbuild_py.elf.arch.s390x import S390X_ROWS
from kbuild_py.elf.arch.x86_64 import x86_64
from kbuild_py.errors import refuse

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "RelocationType",
    "Semantic",
    "architecture",
    "relocation_name",
    "relocation_type",
]


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


def _known(machine: int, name: str, prefix: str, rows: tuple[Row, ...], table: str) -> Architecture:
    """An architecture; pyelftools' list has the names of types that `rows` lacks."""
    listed: dict[str, int] = getattr(enums, table, {})
    names = {number: text for text, number in listed.items() if isinstance(number, int)}
    return from_rows(machine, name, prefix, rows, names)


ARCHITECTURES: Mapping[int, Architecture] = MappingProxyType(
    {
        arch.machine: arch
        for arch in (
            x86_64(),
            _known(elf.EM_AARCH64, "arm64", "R_AARCH64_", AARCH64_ROWS, "ENUM_RELOC_TYPE_AARCH64"),
            _known(elf.EM_PPC64, "powerpc64", "R_PPC64_", PPC64_ROWS, "ENUM_RELOC_TYPE_PPC64"),
            _known(elf.EM_S390, "s390x", "R_390_", S390X_ROWS, "ENUM_RELOC_TYPE_S390X"),
            _known(
                elf.EM_LOONGARCH, "loongarch64", "R_LARCH_", LOONGARCH64_ROWS, "ENUM_RELOC_TYPE_LOONGARCH"
            ),
            _known(elf.EM_RISCV, "riscv64", "R_RISCV_", (), "ENUM_RELOC_TYPE_RISCV"),
        )
    }
)
