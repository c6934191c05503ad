# SPDX-License-Identifier: GPL-2.0-or-later
"""One piece of the object against one place in the image.

A piece is a function or a whole data section.  It matches at an address when its bytes are there, apart
from the fields that relocations fill, and when each of these fields holds the address of what the
relocation names:

* a global symbol: the image's own symbol table has exactly one of that name;
* a string or constant in a mergeable section: the linker keeps one copy of equal ones, anywhere, so what
  counts is the content at the target;
* something else in this very object: its section went to one place as a whole, so every reference says
  where that place is, and all must say the same.  This module only collects what they say (`implied`);
  whether it agrees is for `place.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kbuild_py.baseline.proof import Difference
from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import RelocationType, Semantic, architecture
from kbuild_py.elf.object import SHN_ABS, ObjectFile, Relocation, Section, Symbol
from kbuild_py.kernel.image import ImageSymbol

WORD = 1 << 64
SHOWN = 8  # bytes of a difference that are printed


class Image(Protocol):
    """What is asked of the shipped image (`kernel/image.py`)."""

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a linked address; ValueError where the image has none."""


class ImageNames(Protocol):
    """What is asked of the image's symbols (`kernel/symbols.py`)."""

    def named(self, name: str) -> Sequence[ImageSymbol]: ...

    def containing(self, address: int) -> Sequence[ImageSymbol]: ...

    def sympos(self, name: str, address: int) -> int: ...

    def size(self, address: int) -> int:
        """Bytes from `address` to the next symbol at a greater address, 0 behind the last."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a section with the relocations in it (offsets relative to the piece)."""

    section: int
    start: int
    size: int
    relocations: tuple[tuple[Relocation, RelocationType], ...]
    data: bytes
    masked: bytes


@dataclass(frozen=True, slots=True)
class Match:
    """The piece is at this address if `implied` holds: section index -> (address of the section, and at which
    offset in the piece the first reference says so)."""

    implied: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Context:
    """The object, the image and its symbols, with what is looked up again and again."""

    obj: ObjectFile
    image: Image
    names: ImageNames
    _globals: dict[str, frozenset[int]] = field(default_factory=dict)

    def global_addresses(self, name: str) -> frozenset[int]:
        """Where the image has the global symbol of that name: one address, or none."""
        found = self._globals.get(name)
        if found is None:
            entries = self.names.named(name)
            # Why: the linker makes global symbols of hidden visibility local; they have no other entry.
            chosen = [one for one in entries if one.type.isupper()] or entries
            found = self._globals[name] = frozenset(one.address for one in chosen)
        return found

    def place_name(self, address: int) -> str:
        """The address as people read it: symbol plus offset."""
        near = self.names.containing(address)
        if not near:
            return f"{address:#x}"
        distance = address - near[0].address
        return near[0].name if not distance else f"{near[0].name}+{distance:#x}"

    def read(self, address: int, size: int) -> bytes | None:
        """Bytes of the image, None where it has none."""
        try:
            return self.image.read(address, size)
        except ValueError:
            return None


class Cutter:
    """Cuts pieces out of an object's sections; each section's relocations are sorted once."""

    def __init__(self, obj: ObjectFile) -> None:
        self._obj = obj
        self._types = architecture(obj.machine, obj.path).relocations
        self._sorted: dict[int, tuple[list[int], list[Relocation]]] = {}

    def piece(self, section: Section, start: int, size: int) -> Piece:
        """The piece of `section` from `start` on."""
        if section.index not in self._sorted:
            ordered = sorted(section.relocations, key=lambda one: one.offset)
            self._sorted[section.index] = [one.offset for one in ordered], ordered
        offsets, ordered = self._sorted[section.index]
        first, last = bisect_left(offsets, start), bisect_left(offsets, start + size)
        inside = tuple(
            (Relocation(one.offset - start, one.type, one.symbol, one.addend), self._types[one.type])
            for one in ordered[first:last]
        )
        data = section.data[start : start + size]
        return Piece(section.index, start, size, inside, data, _masked(data, inside))


def _masked(data: bytes, relocations: tuple[tuple[Relocation, RelocationType], ...]) -> bytes:
    result = bytearray(data)
    for one, kind in relocations:
        result[one.offset : one.offset + kind.width] = bytes(kind.width)
    return bytes(result[: len(data)])


def match(context: Context, one: Piece, address: int) -> Match | Difference:
    """Compare the piece with the image at `address`."""
    found = context.read(address, one.size)
    if found is None:
        return Difference(0, f"{one.size} bytes", f"no bytes at {address:#x}")
    different = _first_difference(one, found)
    result = Match()
    for relocation, kind in one.relocations:
        if different is not None and relocation.offset >= different.offset:
            break
        if kind.width:
            problem = _check(context, relocation, kind, found, address, result)
            if problem is not None:
                return problem
    return result if different is None else different


def _first_difference(one: Piece, found: bytes) -> Difference | None:
    masked = _masked(found, one.relocations)
    if masked == one.masked:
        return None
    at = next(index for index, pair in enumerate(zip(masked, one.masked, strict=True)) if pair[0] != pair[1])
    return Difference(at, one.data[at : at + SHOWN].hex(" "), found[at : at + SHOWN].hex(" "))


def _check(
    context: Context,
    relocation: Relocation,
    kind: RelocationType,
    found: bytes,
    address: int,
    result: Match,
) -> Difference | None:
    """Check what the image has in a relocation's field; note in `result` what it says of this object."""
    symbol = context.obj.symbols[relocation.symbol]
    if kind.semantic not in (Semantic.ABSOLUTE, Semantic.PC_RELATIVE, Semantic.PLT):
        return Difference(relocation.offset, f"{kind.name} {symbol.name}", "a value that cannot be checked")
    raw = found[relocation.offset : relocation.offset + kind.width]
    value = int.from_bytes(raw, "big" if context.obj.big_endian else "little", signed=kind.signed)
    # S + A, or S + A - P, solved for S.
    base = address + relocation.offset if kind.pc_relative else 0
    target = (value + base - relocation.addend) % WORD
    if symbol.section > 0 and (symbol.bind == elf.STB_LOCAL or symbol.type == elf.STT_SECTION):
        return _check_own(context, relocation, kind, symbol, target, result)
    if relocation.symbol == 0 or symbol.section == SHN_ABS:
        expected = frozenset({symbol.value})
    else:
        expected = context.global_addresses(symbol.name)
        if not expected and symbol.bind == elf.STB_WEAK and symbol.section == 0:
            expected = frozenset({0})  # a weak symbol that nobody defines is 0
    if target in expected:
        return None
    ours = symbol.name or f"{symbol.value:#x}"
    if not expected:
        ours += " (of which the image has no symbol)"
    return Difference(relocation.offset, f"a reference to {ours}", context.place_name(target))


def _check_own(
    context: Context,
    relocation: Relocation,
    kind: RelocationType,
    symbol: Symbol,
    target: int,
    result: Match,
) -> Difference | None:
    """A reference into one of the object's own sections; `target` is where the image has `symbol`."""
    section = context.obj.sections[symbol.section]
    if not section.flags & elf.SHF_MERGE or not section.entsize:
        base = (target - symbol.value) % WORD
        noted = result.implied.setdefault(section.index, (base, relocation.offset))
        if noted[0] != base:
            place = context.place_name((noted[0] + symbol.value) % WORD)
            ours = f"a reference to {describe(context.obj, symbol, relocation.addend)} at {place}"
            return Difference(relocation.offset, ours, context.place_name(target))
        return None
    if symbol.type == elf.STT_SECTION:
        if kind.pc_relative:
            # Why: the distance to the end of the instruction is part of the addend, so the addend does not
            # say which string is meant.  Assemblers keep a local symbol for such references.
            return Difference(
                relocation.offset, f"{kind.name} {section.name}", "a value that cannot be checked"
            )
        start, target = relocation.addend, (target + relocation.addend) % WORD
    else:
        start = symbol.value
    content, skipped = merged_content(section, start)
    theirs = context.read((target - skipped) % WORD, len(content))
    if content and theirs == content:
        return None
    return Difference(
        relocation.offset,
        f"a reference to {shown(content)}",
        shown(theirs) if theirs is not None else context.place_name(target),
    )


def merged_content(section: Section, start: int) -> tuple[bytes, int]:
    """The string from `start` on, or the constant that `start` is in and how far in; b"" if there is none."""
    width = section.entsize
    if not 0 <= start < section.size:
        return b"", 0
    if not section.flags & elf.SHF_STRINGS:
        skipped = start % width
        return section.data[start - skipped : start - skipped + width], skipped
    if width == 1:
        end = section.data.find(b"\0", start)
    else:
        positions = range(start, section.size - width + 1, width)
        end = next((at for at in positions if not any(section.data[at : at + width])), -1)
    return (section.data[start : end + width], 0) if end >= 0 else (b"", 0)


def shown(content: bytes) -> str:
    """Content of a mergeable section for people: a quoted string, or hex."""
    text = content.removesuffix(b"\0")
    if text and all(32 <= byte < 127 or byte in b"\t\n\x01" for byte in text):
        return '"' + text[:60].decode().replace("\n", "\\n").replace("\1", "\\1") + '"'
    return f"bytes {content[:16].hex(' ')}"


def describe(obj: ObjectFile, symbol: Symbol, addend: int) -> str:
    """What a relocation names, for people: a symbol's name, or the section's with an offset."""
    if symbol.name:
        return symbol.name
    name = obj.sections[symbol.section].name if symbol.section > 0 else "0"
    return name if addend in (0, -4) else f"{name}{addend:+#x}"  # -4: to the end of a branch's field


def named_like(symbol: Symbol, entry: ImageSymbol) -> bool:
    """Whether a kallsyms entry of the symbol's name can be this symbol, by the letter that tells its binding.

    Lower case is local, upper case global, W and V weak; A is absolute (per-CPU) of any binding.  The linker
    makes global symbols of hidden visibility local.
    """
    if entry.type in "Aa":
        return True
    if symbol.bind == elf.STB_LOCAL:
        return entry.type.islower()
    if symbol.visibility & 3 in (elf.STV_HIDDEN, elf.STV_INTERNAL):
        return True
    if symbol.bind == elf.STB_WEAK:
        return entry.type in "WV"
    return entry.type.isupper()
