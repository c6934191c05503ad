# SPDX-License-Identifier: GPL-2.0-or-later
"""A shipped module as an image: its bytes and symbols by address, as if it were loaded.

A module is a relocatable object; the kernel's module loader chooses where its sections go and writes its
relocations.  The baseline proof compares with code that has been linked.  So this does what the loader does
(kernel/module/main.c; arch/x86/kernel/module.c, apply_relocate_add), at addresses of its own choice: the
sections one after the other in the range that the kernel keeps for modules, symbols of vmlinux where the
image has them, and each symbol of another module at an address that nothing else has.  What comes out is
read by the proof exactly as the kernel's own image is.

The addresses mean nothing to a running kernel.  What a module's symbol is called there is its name and its
position among the module's symbols of that name, in the order of its symbol table, initialisation code left
out (core/symbols.c, find_in_module).  The kernel's livepatch counts that, too, while the module is starting.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import zstandard

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import RelocationType, Semantic, architecture
from kbuild_py.elf.object import SHN_ABS, SHN_UNDEF, ObjectFile, Relocation, Section, Symbol
from kbuild_py.elf.read import parse_object
from kbuild_py.errors import refuse
from kbuild_py.kernel.image import ImageSymbol, OutsideImage

# Where x86-64 has modules (Documentation/arch/x86/x86_64/mm.rst), within reach of vmlinux; and, above what
# any module fills, a place for each symbol of other modules.
BASE = 0xFFFF_FFFF_C000_0000
OTHERS = 0xFFFF_FFFF_F000_0000
OWN = range(BASE, OTHERS)
INITIALISATION = ".init"
WORD = 1 << 64


class Exporter(Protocol):
    """What is asked of vmlinux's symbols (`kernel/symbols.py`)."""

    def named(self, name: str) -> Sequence[ImageSymbol]: ...


def find_module(folder: Path, name: str) -> Path:
    """The file of the module `name` below `folder` (lib/modules/RELEASE); `UserError` if there is none."""
    wanted = name.replace("-", "_")
    for path in sorted(folder.rglob("*.ko*")):
        stem, _, suffix = path.name.partition(".ko")
        if stem.replace("-", "_") == wanted and suffix in ("", ".xz", ".gz", ".zst"):
            return path
    raise refuse(folder, f"the kernel's package has no module {name}", "is it part of vmlinux, or not built?")


def unpacked(path: Path) -> bytes:
    """The module's file, without its compression."""
    try:
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        elif path.suffix == ".gz":
            data = zlib.decompress(data, 31)
        elif path.suffix == ".zst":
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except (OSError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise refuse(path, f"cannot be unpacked: {error}", "remove the file and build again") from error
    return data


def read_module(path: Path) -> ObjectFile:
    """The module's object."""
    return parse_object(unpacked(path), str(path))


class ModuleImage:
    """The bytes of a module's sections, laid out and relocated."""

    def __init__(self, obj: ObjectFile, vmlinux: Exporter) -> None:
        self._obj = obj
        self.place = obj.path
        # What is freed or never loaded comes last, in a range of its own.
        ordered = sorted(
            (section for section in obj.sections if section.flags & elf.SHF_ALLOC),
            key=lambda section: (is_passing(section), section.index),
        )
        self.starts: dict[int, int] = {}
        self.init_range = (0, 0)
        at = BASE
        for section in ordered:
            at += -at % max(section.align, 16)
            if is_passing(section) and not self.init_range[0]:
                self.init_range = (at, at)
            self.starts[section.index] = at
            # A gap, so that the end of one section is not the beginning of the next.
            at += section.size + 16
        if self.init_range[0]:
            self.init_range = (self.init_range[0], at)
        if at >= OTHERS:
            raise refuse(
                obj.path, f"its sections have {at - BASE} bytes, more than the kernel has for modules"
            )
        self.others: dict[str, ImageSymbol] = {}
        for symbol in obj.symbols:
            if symbol.section == SHN_UNDEF and symbol.name:
                self.others[symbol.name] = self._outside(symbol.name, vmlinux)
        types = architecture(obj.machine, obj.path).relocations
        self._data = {index: self._relocated(obj.sections[index], types) for index in self.starts}
        self._order = sorted(
            (start, index) for index, start in self.starts.items() if obj.sections[index].size
        )

    def _outside(self, name: str, vmlinux: Exporter) -> ImageSymbol:
        """A symbol of vmlinux that the module uses, or the stand-in for one of another module."""
        found = [one for one in vmlinux.named(name) if one.type.isupper()]
        if len(found) == 1:
            return found[0]
        if found:
            raise refuse(self.place, f"refers to {name}, of which vmlinux has {len(found)} global symbols")
        return ImageSymbol(OTHERS + 16 * len(self.others), "T", name)

    def address(self, symbol: Symbol) -> int | None:
        """Where a symbol is; None when it is in no section that is loaded."""
        if symbol.section == SHN_UNDEF:
            return self.others[symbol.name].address if symbol.name else 0
        if symbol.section == SHN_ABS:
            return symbol.value
        start = self.starts.get(symbol.section)
        return None if start is None else start + symbol.value

    def _relocated(self, section: Section, types: Mapping[int, RelocationType]) -> bytes:
        data = bytearray(section.data)
        for item in section.relocations:
            kind = types.get(item.type)
            if kind is None or kind.semantic not in (Semantic.ABSOLUTE, Semantic.PC_RELATIVE, Semantic.PLT):
                if kind is not None and not kind.width:
                    continue
                name = kind.name if kind else item.type
                raise refuse(
                    self.place, f"{section.name} has a relocation of type {name}, which is not known"
                )
            self._write(data, section, item, kind)
        return bytes(data)

    def _write(self, data: bytearray, section: Section, item: Relocation, kind: RelocationType) -> None:
        target = self.address(self._obj.symbols[item.symbol])
        if target is None:
            raise refuse(
                self.place, f"{section.name}+{item.offset:#x} refers to a section that is not loaded"
            )
        value = target + item.addend
        if kind.pc_relative:
            value -= self.starts[section.index] + item.offset
        mask = (1 << 8 * kind.width) - 1
        data[item.offset : item.offset + kind.width] = struct.pack("<Q", value & mask)[: kind.width]

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`; raises `OutsideImage` when no section has all of them."""
        position = bisect_right(self._order, (address, len(self._obj.sections))) - 1
        if position >= 0 and size >= 0:
            start, index = self._order[position]
            section = self._obj.sections[index]
            if address + size <= start + section.size and section.type != elf.SHT_NOBITS:
                return self._data[index][address - start : address - start + size]
        raise OutsideImage(f"{size} bytes at {address:#x} are not in the module")


class ModuleSymbols:
    """A module's symbols, then those that it takes from elsewhere; asked as the image's are."""

    def __init__(self, obj: ObjectFile, image: ModuleImage) -> None:
        self._names: dict[str, list[ImageSymbol]] = {}
        # Names whose positions are others while the module starts, when initialisation code counts.
        self.shifting = frozenset(_shifting(obj))
        own = []
        for passing in (False, True):
            for symbol in obj.symbols[1:]:
                if not _is_listed(symbol) or is_passing(obj.sections[symbol.section]) != passing:
                    continue
                address = image.address(symbol)
                if address is not None:
                    entry = ImageSymbol(address, _letter(symbol, obj.sections[symbol.section]), symbol.name)
                    self._names.setdefault(symbol.name, []).append(entry)
                    own.append((address, symbol.size, entry))
        for name, other in image.others.items():
            self._names.setdefault(name, []).append(other)
        self._own = sorted(own, key=lambda item: item[0])
        self._addresses = [address for address, _, _ in self._own]
        self._ends = {image.starts[index] + obj.sections[index].size for index in image.starts}

    @property
    def percpu_range(self) -> range:
        """Modules' per-CPU variables are where the loader finds room: nothing is said about them here."""
        return range(0)

    def named(self, name: str) -> tuple[ImageSymbol, ...]:
        """All symbols of that name; the module's own first, in the order that positions are counted in."""
        return tuple(self._names.get(name, ()))

    def containing(self, address: int) -> tuple[ImageSymbol, ...]:
        """The symbols at the greatest address that is not above `address`; () if it is below all."""
        position = bisect_right(self._addresses, address)
        if not position:
            return ()
        nearest = self._addresses[position - 1]
        return tuple(entry for at, _, entry in self._own if at == nearest)

    def sympos(self, name: str, address: int) -> int:
        """The position, counted from 1, of the module's symbol; LookupError when there is none."""
        for position, entry in enumerate(self._names.get(name, ()), 1):
            if entry.address == address:
                return position
        raise LookupError(f"no symbol {name} at {address:#x}")

    def size(self, address: int) -> int:
        """Bytes from `address` to the next symbol, or to its section's end."""
        position = bisect_right(self._addresses, address)
        following = self._addresses[position : position + 1]
        ends = [end for end in (*following, *self._ends) if end > address]
        return min(ends) - address if ends else 0


def is_passing(section: Section) -> bool:
    """Whether the kernel frees the section when the module has started; its symbols do not count then."""
    return section.name.startswith(INITIALISATION)


def _shifting(obj: ObjectFile) -> Iterator[str]:
    """The names of symbols that come after one of initialisation code of the same name."""
    passing = set()
    for symbol in obj.symbols[1:]:
        if _is_listed(symbol) and is_passing(obj.sections[symbol.section]):
            passing.add(symbol.name)
        elif _is_listed(symbol) and symbol.name in passing:
            yield symbol.name


def _is_listed(symbol: Symbol) -> bool:
    if symbol.section <= 0 or not symbol.name:
        return False
    return symbol.type not in (elf.STT_SECTION, elf.STT_FILE)


def _letter(symbol: Symbol, section: Section) -> str:
    """kallsyms' letter: only its case, and W for weak ones, tell the proof something."""
    if symbol.bind == elf.STB_WEAK:
        return "W"
    letter = "t" if section.flags & elf.SHF_EXECINSTR else "b" if section.type == elf.SHT_NOBITS else "d"
    return letter if symbol.bind == elf.STB_LOCAL else letter.upper()
