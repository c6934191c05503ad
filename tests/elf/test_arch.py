# SPDX-License-Identifier: GPL-2.0-or-later
"""Relocation tables against other tools: pyelftools' and readelf's names, and what a linker fills in."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from elftools.elf import enums

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import ARCHITECTURES, Semantic, architecture, relocation_name, relocation_type
from kbuild_py.elf.object import NULL_SECTION, NULL_SYMBOL, ObjectFile, Relocation, Section, Symbol
from kbuild_py.elf.write import write_object
from kbuild_py.errors import UserError
from kbuild_py.run import run
from tests.delta.processors import BY_NAME

PYELFTOOLS = {
    elf.EM_X86_64: enums.ENUM_RELOC_TYPE_x64,
    elf.EM_AARCH64: enums.ENUM_RELOC_TYPE_AARCH64,
    elf.EM_PPC64: enums.ENUM_RELOC_TYPE_PPC64,
    elf.EM_S390: enums.ENUM_RELOC_TYPE_S390X,
    elf.EM_LOONGARCH: enums.ENUM_RELOC_TYPE_LOONGARCH,
}


@pytest.mark.parametrize("machine", PYELFTOOLS)
def test_numbers_are_those_of_pyelftools(machine: int) -> None:
    arch = architecture(machine)
    for name, number in PYELFTOOLS[machine].items():
        if isinstance(number, int) and number < (250 if machine == elf.EM_X86_64 else 0xF00):
            assert arch.names[number] == name


@pytest.mark.parametrize("machine", PYELFTOOLS)
def test_names_are_those_of_readelf(machine: int, tmp_path: Path) -> None:
    """An object with one relocation of each type, as readelf prints it."""
    arch = architecture(machine)
    kinds = sorted(kind for kind in arch.relocations if kind)
    relocations = tuple(Relocation(16 * i, kind, 1, 0) for i, kind in enumerate(kinds))
    size = 16 * len(kinds)
    section = Section(1, ".data", elf.SHT_PROGBITS, 3, bytes(size), size, 8, relocations=relocations)
    symbol = Symbol(1, "x", 0, 0, 0, elf.STB_GLOBAL, 0, 0)
    big = machine == elf.EM_S390
    obj = ObjectFile("x.o", machine, 0, big, (NULL_SECTION, section), (NULL_SYMBOL, symbol))
    (tmp_path / "x.o").write_bytes(write_object(obj))
    listed = run(["llvm-readelf-19", "-rW", tmp_path / "x.o"]).stdout
    found = re.findall(r"^[0-9a-f]{16} +[0-9a-f]+ (\S+) ", listed, re.MULTILINE)
    assert len(found) == len(kinds)
    for kind, name in zip(kinds, found, strict=True):
        # Types newer than the tool appear as numbers; a few have had two names.
        if name not in ("Unknown", "R_PPC64_REL24_P9NOTOC", "R_390_GOTOFF"):
            assert arch.names[kind].removesuffix("_NC") == name.removesuffix("_NC"), kind


def test_semantics_agree_with_the_names() -> None:
    for kind in architecture(elf.EM_X86_64).relocations.values():
        short = kind.name.removeprefix("R_X86_64_")
        if short.startswith("PC"):
            assert (
                kind.pc_relative
                and kind.semantic is Semantic.PC_RELATIVE
                and kind.width * 8 == int(short[2:4].rstrip("_"))
            )
        if short.startswith("PLT32"):
            assert kind.pc_relative and kind.semantic is Semantic.PLT and kind.width == 4
        if short in ("64", "32", "32S", "16", "8"):
            assert (
                not kind.pc_relative
                and kind.semantic is Semantic.ABSOLUTE
                and kind.width * 8 == int(short.rstrip("S"))
            )


@pytest.mark.parametrize("machine", PYELFTOOLS)
def test_masks_fit_their_fields(machine: int) -> None:
    for kind in architecture(machine).relocations.values():
        assert 0 <= kind.mask < 1 << (8 * kind.width), kind.name
        assert kind.pc_relative == (kind.semantic in (Semantic.PC_RELATIVE, Semantic.PLT)) or (
            kind.semantic in (Semantic.GOT, Semantic.TLS)
        )


SOURCE = """
extern int data_elsewhere; int other(int); static int here; extern char bytes[]; static char table[64];
extern long long quads[]; extern short halves[];
int f(int x)
{
	here += x;
	if (x > 5)
		return other(x) + data_elsewhere + bytes[1] + halves[3];
	table[x & 63] = 7;
	quads[2] = x;
	return here + table[x & 31];
}
int (*pointer)(int) = f;
int distance[] = { 1, 2 };
"""
LINKERS = {
    "x86_64-clang": ("ld",),
    "aarch64": ("aarch64-linux-gnu-ld",),
    # GNU ld turns the instructions of the global entry point into others where it can.
    "ppc64le": ("ld.lld-19", "-m", "elf64lppc", "--no-toc-optimize"),
    "s390x": ("s390x-linux-gnu-ld",),
    "loongarch64-clang": ("ld.lld-19", "-m", "elf64loongarch"),
}


@pytest.mark.parametrize("toolchain", LINKERS)
def test_a_linker_fills_the_bits_of_the_mask_and_no_others(toolchain: str, tmp_path: Path) -> None:
    """Linked to many addresses, every bit of a field is set once and cleared once, and no other changes."""
    tools = BY_NAME[toolchain]
    obj = tools.compile_text(SOURCE, tmp_path, tmp_path / "unit.o")
    section = next(section for section in obj.sections if section.name == ".text.f")
    types = architecture(obj.machine).relocations
    order = "big" if obj.big_endian else "little"
    free = bytearray(len(section.data))  # one bit for each that some field may fill
    for relocation in section.relocations:
        kind = types[relocation.type]
        mask = kind.mask or (1 << 8 * kind.width) - 1
        at = slice(relocation.offset, relocation.offset + kind.width)
        free[at] = (int.from_bytes(free[at], order) | mask).to_bytes(kind.width, order)  # type: ignore[arg-type]
    rng = random.Random(1)
    ones, zeros = bytearray(len(free)), bytearray(len(free))
    for attempt in range(6):
        text = rng.randrange(0x10000, 0x200000) & ~0xFF
        data = text + 0x400000 + (rng.randrange(0, 0x100000) & ~0xF)
        symbols = ("data_elsewhere", "bytes", "quads", "halves")
        places = {name: data + 0x1000 + (rng.randrange(0x100000) & ~0xF) for name in symbols}
        places |= {"other": text + 0x2000 + (rng.randrange(0x4000) & ~3), "_mcount": text + 0x8000}
        places |= {"__fentry__": text + 0x9000}
        defined = [f"--defsym={name}={value:#x}" for name, value in places.items()]
        output = tmp_path / f"linked{attempt}"
        script = tmp_path / f"script{attempt}"
        script.write_text(
            f"SECTIONS {{ . = {text:#x}; .text.f : {{ *(.text.f) }} . = {data:#x}; "
            ".toc : { *(.toc) *(.got) }"
            " .data : { *(.data*) *(.bss*) *(.rodata*) } /DISCARD/ : { *(.comment) *(__*) } }"
        )
        run(
            [
                *LINKERS[toolchain],
                "-static",
                "-e",
                "f",
                "-T",
                script,
                *defined,
                "-o",
                output,
                tmp_path / "unit.o",
            ]
        )
        content = _section(output, ".text.f")[: len(free)]
        for index, byte in enumerate(content):
            assert (byte ^ section.data[index]) & ~free[index] == 0, f"+{index:#x} in {content.hex()}"
            ones[index] |= byte
            zeros[index] |= ~byte & 0xFF
    assert any(one & zero & may for one, zero, may in zip(ones, zeros, free, strict=True))


def _section(path: Path, name: str) -> bytes:
    """The content of a section of an executable."""
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as stream:
        data: bytes = ELFFile(stream).get_section_by_name(name).data()
        return data


def test_every_architecture_has_an_own_number() -> None:
    assert len({arch.name for arch in ARCHITECTURES.values()}) == len(ARCHITECTURES)
    assert relocation_name(elf.EM_AARCH64, 257) == "R_AARCH64_ABS64"
    assert relocation_name(elf.EM_X86_64, 4) == "R_X86_64_PLT32"
    assert relocation_name(9999, 4) == "4"


def test_the_unknown_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"x\.o: machine 8 .*is not supported"):
        architecture(8, "x.o")
    with pytest.raises(UserError, match="R_AARCH64_TLSGD_ADR_PREL21 is not supported on arm64"):
        relocation_type(elf.EM_AARCH64, 512)
