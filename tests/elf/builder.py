# SPDX-License-Identifier: GPL-2.0-or-later
"""Object files for tests, made from names instead of indices.

    build(
        function("f", b"\\xe8\\0\\0\\0\\0\\xc3", reloc(1, "g", -4, "PLT32"), reloc(...)),
        section(".rodata.str1.1", b"hello\\0"),
        symbols=[symbol("counter", ".bss.counter", size=8, bind="local")],
    )

Sections get type, flags and entry size from their name as an assembler would give them.  A relocation
names a symbol, or a section (its section symbol is made); a name that nobody defines becomes an
undefined global symbol.  The result is in the order that the writer keeps (see `write.normalise`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import ARCHITECTURES
from kbuild_py.elf.object import (
    NULL_SECTION,
    NULL_SYMBOL,
    SHN_ABS,
    SHN_COMMON,
    SHN_UNDEF,
    ObjectFile,
    Relocation,
    Section,
    Symbol,
)
from kbuild_py.elf.write import normalise

SPECIAL = {"undef": SHN_UNDEF, "abs": SHN_ABS, "common": SHN_COMMON}
BINDS = {"local": elf.STB_LOCAL, "global": elf.STB_GLOBAL, "weak": elf.STB_WEAK}
TYPES = {
    "notype": elf.STT_NOTYPE,
    "object": elf.STT_OBJECT,
    "func": elf.STT_FUNC,
    "section": elf.STT_SECTION,
    "file": elf.STT_FILE,
    "tls": elf.STT_TLS,
}
_W, _A, _X = elf.SHF_WRITE, elf.SHF_ALLOC, elf.SHF_EXECINSTR
_MS = elf.SHF_MERGE | elf.SHF_STRINGS
# Longest prefix first: name prefix -> type, flags, entry size
SHAPES: tuple[tuple[str, int, int, int], ...] = (
    (".note.GNU-stack", elf.SHT_PROGBITS, 0, 0),
    (".note", elf.SHT_NOTE, _A, 0),
    (".rodata.str1", elf.SHT_PROGBITS, _A | _MS, 1),
    (".rodata.cst16", elf.SHT_PROGBITS, _A | elf.SHF_MERGE, 16),
    (".rodata.cst8", elf.SHT_PROGBITS, _A | elf.SHF_MERGE, 8),
    (".rodata.cst4", elf.SHT_PROGBITS, _A | elf.SHF_MERGE, 4),
    (".rodata", elf.SHT_PROGBITS, _A, 0),
    (".comment", elf.SHT_PROGBITS, _MS, 1),
    (".debug", elf.SHT_PROGBITS, 0, 0),
    (".bss", elf.SHT_NOBITS, _W | _A, 0),
    (".data", elf.SHT_PROGBITS, _W | _A, 0),
    (".init.text", elf.SHT_PROGBITS, _A | _X, 0),
    (".init.data", elf.SHT_PROGBITS, _W | _A, 0),
    (".exit.text", elf.SHT_PROGBITS, _A | _X, 0),
    (".noinstr.text", elf.SHT_PROGBITS, _A | _X, 0),
    (".text", elf.SHT_PROGBITS, _A | _X, 0),
    (".static_call.text", elf.SHT_PROGBITS, _A | _X, 0),
    (".altinstr_replacement", elf.SHT_PROGBITS, _A | _X, 0),
)


@dataclass(frozen=True, slots=True)
class RelocationSpec:
    """A relocation whose symbol is a name."""

    offset: int
    symbol: str
    addend: int
    type: str | int


@dataclass(frozen=True, slots=True)
class SectionSpec:
    """A section under its name; `symbols` are those that came with it."""

    name: str
    data: bytes
    size: int
    type: int
    flags: int
    align: int
    entsize: int
    relocations: tuple[RelocationSpec, ...]
    symbols: tuple[SymbolSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class SymbolSpec:
    """A symbol whose section is a name, or "undef", "abs", "common"."""

    name: str
    section: str
    value: int
    size: int
    type: str
    bind: str
    visibility: int


def reloc(offset: int, symbol: str, addend: int = 0, type: str | int = "PC32") -> RelocationSpec:
    """A relocation; `type` is a number or the psABI's name without its `R_X86_64_`."""
    return RelocationSpec(offset, symbol, addend, type)


def section(
    name: str,
    data: bytes = b"",
    *relocations: RelocationSpec,
    size: int | None = None,
    type: int | None = None,
    flags: int | None = None,
    align: int = 1,
    entsize: int | None = None,
) -> SectionSpec:
    """A section; type, flags and entry size come from its name unless given."""
    shape = next((row for row in SHAPES if name.startswith(row[0])), (name, elf.SHT_PROGBITS, _A, 0))
    return SectionSpec(
        name,
        data,
        len(data) if size is None else size,
        shape[1] if type is None else type,
        shape[2] if flags is None else flags,
        align,
        shape[3] if entsize is None else entsize,
        relocations,
    )


def symbol(
    name: str,
    section: str = "undef",
    value: int = 0,
    size: int = 0,
    *,
    type: str = "notype",
    bind: str = "global",
    visibility: int = elf.STV_DEFAULT,
) -> SymbolSpec:
    """A symbol in the section of that name."""
    return SymbolSpec(name, section, value, size, type, bind, visibility)


def function(
    name: str,
    code: bytes,
    *relocations: RelocationSpec,
    bind: str = "global",
    prefix: str = ".text",
    align: int = 16,
) -> SectionSpec:
    """A function in a section of its own, as `-ffunction-sections` makes it, with its symbol."""
    made = section(f"{prefix}.{name}", code, *relocations, align=align)
    return _with(made, symbol(name, made.name, 0, len(code), type="func", bind=bind))


def variable(
    name: str,
    data: bytes = b"",
    *relocations: RelocationSpec,
    size: int | None = None,
    bind: str = "local",
    prefix: str | None = None,
    align: int = 8,
) -> SectionSpec:
    """A variable in a section of its own, as `-fdata-sections` makes it, with its symbol."""
    prefix = prefix or (".data" if data else ".bss")
    made = section(f"{prefix}.{name}", data, *relocations, size=size, align=align)
    return _with(made, symbol(name, made.name, 0, made.size, type="object", bind=bind))


def _with(spec: SectionSpec, *symbols: SymbolSpec) -> SectionSpec:
    return SectionSpec(
        spec.name,
        spec.data,
        spec.size,
        spec.type,
        spec.flags,
        spec.align,
        spec.entsize,
        spec.relocations,
        symbols,
    )


def build(
    *sections: SectionSpec,
    symbols: Iterable[SymbolSpec] = (),
    machine: int = elf.EM_X86_64,
    big_endian: bool = False,
    flags: int = 0,
    path: str = "test.o",
    source: str | None = "test.c",
) -> ObjectFile:
    """The object with these sections, in this order.  Sections must have different names."""
    numbers = {spec.name: index for index, spec in enumerate(sections, 1)}
    assert len(numbers) == len(sections), "two sections have the same name"
    specs = [SymbolSpec(source, "abs", 0, 0, "file", "local", 0)] if source else []
    specs += [one for spec in sections for one in spec.symbols] + list(symbols)
    known = {spec.name for spec in specs}
    used = [item.symbol for spec in sections for item in spec.relocations]
    for name in dict.fromkeys(used):
        if name in known or name == "":
            continue
        if name in numbers:
            specs.append(SymbolSpec(name, name, 0, 0, "section", "local", 0))
        else:
            specs.append(symbol(name))
    indices = {spec.name: index for index, spec in enumerate(specs, 1)} | {"": 0}
    made = [NULL_SYMBOL]
    for index, spec in enumerate(specs, 1):
        where = SPECIAL[spec.section] if spec.section in SPECIAL else numbers[spec.section]
        name = "" if spec.type == "section" else spec.name
        made.append(
            Symbol(
                index, name, spec.value, spec.size, TYPES[spec.type], BINDS[spec.bind], spec.visibility, where
            )
        )
    names = {name: number for number, name in ARCHITECTURES[machine].names.items()}
    prefix = next((name[: name.rindex("_") + 1] for name in names if name.endswith("_NONE")), "")

    def number(kind: str | int) -> int:
        return kind if isinstance(kind, int) else names[f"{prefix}{kind}"]

    placed = [NULL_SECTION]
    for index, one in enumerate(sections, 1):
        relocations = tuple(
            Relocation(item.offset, number(item.type), indices[item.symbol], item.addend)
            for item in one.relocations
        )
        placed.append(
            Section(
                index,
                one.name,
                one.type,
                one.flags,
                b"" if one.type == elf.SHT_NOBITS else one.data,
                one.size,
                one.align,
                one.entsize,
                0,
                0,
                relocations,
            )
        )
    return normalise(ObjectFile(path, machine, flags, big_endian, tuple(placed), tuple(made)))


def section_named(obj: ObjectFile, name: str) -> Section:
    """The only section of that name."""
    (found,) = (one for one in obj.sections if one.name == name)
    return found


def symbol_named(obj: ObjectFile, name: str) -> Symbol:
    """The only symbol of that name."""
    (found,) = (one for one in obj.symbols if one.name == name)
    return found
