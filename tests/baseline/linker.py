# SPDX-License-Identifier: GPL-2.0-or-later
"""A linker of forty lines, so that the proof can be tested against images whose every address is known.

It does what the kernel's linker script does as far as the proof can see: sections of a kind side by side, in
the order of the objects; equal strings and constants once; the first weak definition unless there is a
strong one; per-CPU variables from address 0 on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kbuild_py.baseline.compare import merged_content
from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import Semantic, relocation_type
from kbuild_py.elf.object import SHN_ABS, ObjectFile, Section, Symbol
from kbuild_py.kernel.image import OutsideImage
from kbuild_py.kernel.symbols import KernelSymbols

TEXT = 0xFFFFFFFF81000000
# Prefix of the section's name -> (order in memory, start of the output section)
KINDS: tuple[tuple[str, int], ...] = (
    (".data..percpu", 0x1000),
    (".text.unlikely", TEXT + 0x80_0000),
    (".text", TEXT),
    (".static_call.text", TEXT + 0xF0_0000),
    (".init.text", TEXT + 0x200_0000),
    (".rodata", TEXT + 0x100_0000),
    (".data", TEXT + 0x180_0000),
    (".bss", TEXT + 0x280_0000),
)


@dataclass(slots=True)
class FakeImage:
    """Bytes by address, as `KernelImage` reads them."""

    parts: dict[int, bytearray]

    def read(self, address: int, size: int) -> bytes:
        for start, data in self.parts.items():
            if start <= address and address + size <= start + len(data):
                return bytes(data[address - start : address - start + size])
        raise OutsideImage(f"{address:#x}")

    def change(self, address: int, content: bytes) -> None:
        """Overwrite bytes of the image."""
        for start, data in self.parts.items():
            if start <= address < start + len(data):
                data[address - start : address - start + len(content)] = content
                return
        raise OutsideImage(f"{address:#x}")


@dataclass(slots=True)
class Linked:
    """The image, its symbols, and what the linker knows: (object's number, symbol's name) -> address."""

    image: FakeImage
    names: KernelSymbols
    addresses: dict[tuple[int, str], int]


def link(*objects: ObjectFile, hidden: Iterable[str] = ()) -> Linked:
    """Link the objects; kallsyms does not have the names in `hidden`."""
    parts: dict[int, bytearray] = {start: bytearray() for _, start in KINDS}
    bases: dict[tuple[int, int], int] = {}
    merged: dict[bytes, int] = {}
    for number, obj in enumerate(objects):
        for section in obj.sections:
            start = next((start for prefix, start in KINDS if section.name.startswith(prefix)), None)
            if start is None or section.flags & elf.SHF_MERGE:
                continue
            data = parts[start]
            data += bytes(-len(data) % max(section.align, 1))
            bases[number, section.index] = start + len(data)
            data += section.data or bytes(section.size)
    strong, weak = _definitions(objects, bases)
    globals_ = weak | strong

    def address(number: int, symbol: Symbol, addend: int) -> int:
        section = objects[number].sections[symbol.section] if symbol.section > 0 else None
        if section is not None and section.flags & elf.SHF_MERGE:
            inside = symbol.value + (addend if symbol.type == elf.STT_SECTION else 0)
            content, skipped = merged_content(section, inside)
            if content not in merged:
                rodata = parts[TEXT + 0x100_0000]
                merged[content] = TEXT + 0x100_0000 + len(rodata)
                rodata += content
            place = merged[content] + skipped
            return place if symbol.type == elf.STT_SECTION else place + addend
        if symbol.section == SHN_ABS:
            return symbol.value + addend
        if symbol.bind == elf.STB_LOCAL and section is not None:
            return bases[number, section.index] + symbol.value + addend
        return globals_.get(symbol.name, 0) + addend

    for number, obj in enumerate(objects):
        for section in obj.sections:
            base = bases.get((number, section.index))
            if base is not None:
                _relocate(parts, obj, section, base, lambda s, a, number=number: address(number, s, a))
    return Linked(
        FakeImage(parts), _kallsyms(objects, bases, globals_, set(hidden)), _known(objects, bases, globals_)
    )


def _definitions(
    objects: tuple[ObjectFile, ...], bases: dict[tuple[int, int], int]
) -> tuple[dict[str, int], dict[str, int]]:
    strong: dict[str, int] = {}
    weak: dict[str, int] = {}
    for number, obj in enumerate(objects):
        for symbol in obj.symbols:
            if (number, symbol.section) in bases and symbol.bind != elf.STB_LOCAL:
                kind = weak if symbol.bind == elf.STB_WEAK else strong
                kind.setdefault(symbol.name, bases[number, symbol.section] + symbol.value)
    return strong, weak


def _relocate(parts, obj: ObjectFile, section: Section, base: int, address) -> None:  # type: ignore[no-untyped-def]
    start = next(start for prefix, start in KINDS if section.name.startswith(prefix))
    for one in section.relocations:
        kind = relocation_type(obj.machine, one.type)
        if kind.semantic is Semantic.NONE:
            continue
        value = address(obj.symbols[one.symbol], one.addend)
        value -= base + one.offset if kind.pc_relative else 0
        at = base - start + one.offset
        parts[start][at : at + kind.width] = (value % (1 << 64)).to_bytes(8, "little")[: kind.width]


def _kallsyms(objects, bases, globals_, hidden: set[str]) -> KernelSymbols:  # type: ignore[no-untyped-def]
    rows: set[tuple[int, int, str, str]] = set()
    for number, obj in enumerate(objects):
        strong = {s.name for o in objects for s in o.symbols if s.bind == elf.STB_GLOBAL and s.section > 0}
        for symbol in obj.symbols:
            base = bases.get((number, symbol.section))
            if base is None or not symbol.name or symbol.name in hidden or symbol.name.startswith(".L"):
                continue
            place = base + symbol.value
            if symbol.bind != elf.STB_LOCAL and globals_[symbol.name] != place:
                continue
            section = obj.sections[symbol.section]
            letter = "b" if section.type == elf.SHT_NOBITS else "r"
            letter = "d" if section.flags & elf.SHF_WRITE and letter == "r" else letter
            letter = "t" if section.flags & elf.SHF_EXECINSTR else letter
            if section.name.startswith(".data..percpu"):
                letter = "A"
            elif symbol.bind == elf.STB_WEAK and symbol.name not in strong:
                letter = "W" if letter == "t" else "V"
            elif symbol.bind != elf.STB_LOCAL:
                letter = letter.upper()
            rows.add((place, number, letter, symbol.name))
    return KernelSymbols(
        "".join(f"{at:016x} {letter} {name}\n" for at, _, letter, name in sorted(rows)), "kallsyms"
    )


def _known(objects, bases, globals_) -> dict[tuple[int, str], int]:  # type: ignore[no-untyped-def]
    result = {}
    for number, obj in enumerate(objects):
        for symbol in obj.symbols:
            if symbol.bind == elf.STB_LOCAL and (number, symbol.section) in bases and symbol.name:
                result[number, symbol.name] = bases[number, symbol.section] + symbol.value
            elif symbol.name in globals_:
                result[number, symbol.name] = globals_[symbol.name]
    return result
