# SPDX-License-Identifier: GPL-2.0-or-later
"""References that are written when a module is patched: where they may be, and the core's table of them.

Code for a module refers to that module's own symbols, and the module may come long after the patch.  The
linker and the module loader never see these relocations.  For the core they become entries of a table
(struct kpatch_dynrela), each with a symbol that names its place; for the kernel's livepatch they go into a
section of their own (late.py).

They are written long after the loader has applied alternatives, paravirt calls, static calls, jump labels and
return thunks to the patch module.  What it has copied or rewritten by then was made of the empty field.  So a
late reference may only be in ordinary code and data, at a place that no such table names; anything else is
refused here.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kbuild_py.baseline.spans import Sites
from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import architecture
from kbuild_py.elf.object import ObjectFile, Relocation, Section, Symbol
from kbuild_py.errors import Problems
from kbuild_py.symbols import Reference, without_unused

# What the core can write (core/kpatch.h, struct kpatch_dynrela): type -> its name in <linux/elf.h>.
TYPES = {
    1: "R_X86_64_64",
    2: "R_X86_64_PC32",
    4: "R_X86_64_PLT32",
    10: "R_X86_64_32",
    11: "R_X86_64_32S",
    24: "R_X86_64_PC64",
}
CODE, DATA = ".text", (".data", ".rodata")


@dataclass(frozen=True, slots=True)
class Dynrela:
    """One entry: the symbol that names the place, the relocation's type and addend, what it refers to."""

    place: str
    type: str
    reference: Reference
    addend: int


def check_places(source: str, obj: ObjectFile, late: Mapping[str, Reference]) -> None:
    """`UserError` with every late reference of the unit that the kernel would not get right.

    late: the references by the names of their symbols in `obj`
    """
    problems = Problems()
    sites = Sites(obj)
    types = architecture(obj.machine, obj.path).relocations
    for section in obj.sections:
        rewritten = sites.rewritten(section.index)
        for item in section.relocations:
            found = late.get(obj.symbols[item.symbol].name)
            if found is None or not section.flags & elf.SHF_ALLOC:
                continue
            what = f"{section.name}+{item.offset:#x} refers to {found.name} of the module {found.object}"
            if not _is_plain(section):
                problems.add(
                    source,
                    f"{what}, and the kernel reads this table before the module need be there",
                    "patched code of a module cannot use its static keys, static calls, tracepoints and "
                    "alternatives of its functions; test a plain variable or call a plain function instead",
                )
            elif item.type not in TYPES:
                problems.add(source, f"{what} by a relocation of type {types[item.type].name}", "")
            elif any(
                at < item.offset + types[item.type].width and item.offset < at + size
                for at, size in rewritten
            ):
                problems.add(
                    source,
                    f"{what} in an instruction that the kernel rewrites when it loads the patch",
                    "move the reference out of the alternative, static call or jump label",
                )
    problems.raise_if_any()


def _is_plain(section: Section) -> bool:
    """Whether it holds nothing but code that runs, or data that this code reads."""
    name = section.name
    if section.flags & elf.SHF_EXECINSTR:
        return name == CODE or name.startswith(f"{CODE}.")
    return any(name == one or name.startswith(f"{one}.") for one in DATA) and "percpu" not in name


def with_dynrelas(
    obj: ObjectFile, late: Mapping[str, Reference], label: str
) -> tuple[ObjectFile, tuple[Dynrela, ...]]:
    """The object without its late relocations, and the table's entries for them.

    label: makes the names of the places unique among the patch's objects
    """
    symbols, sections = list(obj.symbols), []
    entries: list[Dynrela] = []
    for section in obj.sections:
        kept: list[Relocation] = []
        for item in section.relocations:
            found = late.get(obj.symbols[item.symbol].name)
            if found is None:
                kept.append(item)
                continue
            name = f"kpatch_place_{label}_{len(entries) + 1}"
            symbols.append(
                Symbol(len(symbols), name, item.offset, 0, elf.STT_NOTYPE, elf.STB_GLOBAL, 0, section.index)
            )
            entries.append(Dynrela(name, TYPES[item.type], found, item.addend))
        sections.append(replace(section, relocations=tuple(kept)))
    # Nothing refers to the late symbols any more.
    return without_unused(replace(obj, sections=tuple(sections), symbols=tuple(symbols))), tuple(entries)
