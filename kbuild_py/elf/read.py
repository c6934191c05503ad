# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of a relocatable ELF64 object -> `ObjectFile`.

The input may be anything: a truncated file, an archive, a file with a flipped bit.  So the order is
always the same: check that a table lies inside of the file, decode it in one go, check what it says.
All section bytes together may not be more than the file's, which bounds memory whatever the headers
claim; names are bounded for the same reason.

Tables are decoded in bulk with `struct`: an object compiled with a section per function has thousands
of section headers, and one parser object for each (as in pyelftools) costs more than all the rest.

Source: System V ABI, chapter 4 (ELF header, sections, extended indices, groups).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import architecture
from kbuild_py.elf.check import check_object
from kbuild_py.elf.object import NULL_SYMBOL, ObjectFile, Relocation, Section, Symbol
from kbuild_py.errors import refuse

MAGIC = b"\x7fELF"
HEADER_SIZE = 64
SECTION_HEADER = "IIQQQQIIQQ"  # name, type, flags, addr, offset, size, link, info, addralign, entsize
SYMBOL_ENTRY = "IBBHQQ"  # name, info, other, shndx, value, size
RELA_ENTRY = "QIIq"  # offset, then r_info's two halves in the order of the bytes, addend
SHN_LORESERVE = 0xFF00
SHN_XINDEX = 0xFFFF
OSABI_NONE, OSABI_GNU = 0, 3
MAX_NAME = 4096  # the kernel's own limit is 512
MAX_FILE = 1 << 30  # bytes; a device or pipe may have no end
_FOREIGN = (
    (
        (b"!<arch>\n", b"!<thin>\n"),
        "this is an archive, not an object",
        "name one of its members (ar t, ar x)",
    ),
    (
        (b"BC\xc0\xde", b"\xde\xc0\x17\x0b"),
        "this is LLVM bitcode, not an ELF object",
        "compile without link-time optimisation",
    ),
    ((b"\x1f\x8b",), "the file is compressed (gzip)", "unpack it first"),
    ((b"\xfd7zXZ\0",), "the file is compressed (xz)", "unpack it first"),
    ((b"\x28\xb5\x2f\xfd",), "the file is compressed (zstd)", "unpack it first"),
)
_SHAPES = {
    2: "an executable",
    3: "a shared library or a position-independent executable",
    4: "a core dump",
}
_BIG_ENDIAN = frozenset({elf.EM_S390})  # of the known processors' kernels; others are little-endian
_ORDERS = {"<": "little-endian", ">": "big-endian"}
_NO_RELA = "compile for the processor's own ABI, whose relocations have addends (SHT_RELA)"
# Why: these tables are views of other things in the object, and are made anew by the writer.  The
# address-significance table is a hint for linkers that fold functions, by symbol index.
TABLE_TYPES = (elf.SHT_NULL, elf.SHT_SYMTAB, elf.SHT_RELA, elf.SHT_SYMTAB_SHNDX, elf.SHT_LLVM_ADDRSIG)
FOREIGN_TYPES = {elf.SHT_REL: "SHT_REL", elf.SHT_RELR: "SHT_RELR", elf.SHT_DYNSYM: "SHT_DYNSYM"}


@dataclass(frozen=True, slots=True)
class _Header:
    """One section header, as in the file."""

    index: int
    name: int
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int


def read_object(path: Path) -> ObjectFile:
    """Read the relocatable object at `path`; `UserError` when it cannot be read or is not one."""
    try:
        with path.open("rb") as stream:
            # What is no object need not be read to its end.
            data = stream.read(MAX_FILE + 1 if stream.peek(len(MAGIC)).startswith(MAGIC) else HEADER_SIZE)
    except OSError as error:
        raise refuse(path, f"cannot read: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise refuse(path, f"the file has more than {MAX_FILE} bytes: no object of one source file has that")
    return parse_object(data, str(path))


def parse_object(data: bytes, path: str) -> ObjectFile:
    """Decode `data`, naming it `path` in messages; `UserError` when it is not a sound object.

    Every index, offset and size in the result has been checked (see `check.py`).
    """
    order, machine, flags, headers, names_index = _parse_headers(data, path)
    names = _names_of_sections(data, path, headers, names_index)
    symtab = _the_symbol_table(path, headers)
    tables = {header.index for header in headers if header.type in TABLE_TYPES} | {names_index}
    if symtab is not None:
        tables.add(symtab.link)
    symbols = _parse_symbols(data, path, order, headers, symtab)
    relocations = _parse_relocations(data, path, order, headers, names, symtab)
    sections = tuple(
        Section(header.index, "", elf.SHT_NULL, 0, b"", 0, 0)
        if header.index in tables
        else _section(data, order, header, names[header.index], relocations, tables)
        for header in headers
    )
    stray = [index for index in relocations if index in tables]
    if stray:
        raise refuse(path, f"relocations apply to section {stray[0]}, which is a table")
    result = ObjectFile(path, machine, flags, order == ">", sections, symbols)
    check_object(result)
    if _is_slim(result):
        raise refuse(
            path,
            "the object holds gcc's intermediate code and no machine code",
            "compile without link-time optimisation (-fno-lto) or with -ffat-lto-objects",
        )
    return result


def _is_slim(obj: ObjectFile) -> bool:
    """gcc left all code to the link: it says so in a header (from version 10 on) or by a symbol."""
    headers = (section.data for section in obj.sections if section.name.startswith(".gnu.lto_.lto."))
    return any(data[4:5] not in (b"", b"\0") for data in headers) or any(
        symbol.name == "__gnu_lto_slim" for symbol in obj.symbols
    )


def _parse_headers(data: bytes, path: str) -> tuple[str, int, int, tuple[_Header, ...], int]:
    """Byte order, e_machine, e_flags, the section headers, and the index of the section names."""
    if not data:
        raise refuse(path, "the file is empty")
    for magic, cause, remedy in _FOREIGN:
        if data.startswith(magic):
            raise refuse(path, cause, remedy)
    if not data.startswith(MAGIC):
        raise refuse(path, "this is not an ELF file", "give the .o file from the compiler")
    if len(data) < HEADER_SIZE:
        raise refuse(path, f"the ELF header is truncated: {len(data)} of {HEADER_SIZE} bytes")
    bits, encoding, version, osabi = data[4], data[5], data[6], data[7]
    if bits == 1:
        raise refuse(path, "this is a 32-bit object", "give objects of a 64-bit kernel")
    if bits != 2:
        raise refuse(path, f"ELF class {bits} does not exist")
    if encoding not in (1, 2):
        raise refuse(path, f"ELF byte order {encoding} does not exist")
    if version != 1:
        raise refuse(path, f"ELF version {version} does not exist")
    if osabi not in (OSABI_NONE, OSABI_GNU):
        raise refuse(path, f"ELF OS ABI {osabi} is not supported")
    order = "<" if encoding == 1 else ">"
    (kind, machine, version, _entry, _phoff, offset, flags, size, _phsize, _phnum, entry, count, names) = (
        struct.unpack_from(f"{order}HHIQQQIHHHHHH", data, 16)
    )
    if size.to_bytes(2, "little") == HEADER_SIZE.to_bytes(2, "big"):
        raise refuse(path, "the ELF header is damaged: its byte order is not the one that it names")
    if version != 1 or size != HEADER_SIZE:
        raise refuse(path, f"the ELF header is damaged: version {version}, size {size}")
    if kind != elf.ET_REL:
        shape = _SHAPES.get(kind, f"ELF type {kind}")
        raise refuse(path, f"this is {shape}, not a relocatable object", "give the .o file from the compiler")
    name = architecture(machine, path).name
    if (order == ">") is not (machine in _BIG_ENDIAN):
        other = "little" if order == ">" else "big"
        raise refuse(
            path, f"{_ORDERS[order]} objects for {name} are not supported", f"give {other}-endian ones"
        )
    if not offset:
        raise refuse(path, "the object has no sections")
    width = struct.calcsize(f"{order}{SECTION_HEADER}")
    if entry != width:
        raise refuse(path, f"section headers have {entry} bytes instead of {width}")
    if offset + width > len(data):
        raise refuse(path, f"the section headers at {offset:#x} lie outside of the file of {len(data)} bytes")
    first = struct.unpack_from(f"{order}{SECTION_HEADER}", data, offset)
    count = count or first[5]  # Why: more sections than fit into the header are counted in section 0.
    names = first[6] if names == SHN_XINDEX else names
    if not 0 < count * width <= len(data) - offset:
        raise refuse(
            path, f"{count} section headers at {offset:#x} do not fit into the file of {len(data)} bytes"
        )
    rows = struct.iter_unpack(f"{order}{SECTION_HEADER}", memoryview(data)[offset : offset + count * width])
    headers = tuple(_Header(index, row[0], row[1], row[2], *row[4:]) for index, row in enumerate(rows))
    if headers[0].type != elf.SHT_NULL:
        raise refuse(path, "section 0 is not the null section")
    _check_extents(data, path, headers)
    if not 0 < names < count or headers[names].type != elf.SHT_STRTAB:
        raise refuse(path, f"section {names} of {count} has no section names (e_shstrndx)")
    return order, machine, flags, headers, names


def _check_extents(data: bytes, path: str, headers: tuple[_Header, ...]) -> None:
    """All sections lie inside of the file, and together are not larger than it."""
    total = 0
    for header in headers[1:]:
        if header.type in (elf.SHT_NULL, elf.SHT_NOBITS):
            continue
        if header.type in FOREIGN_TYPES:
            raise refuse(
                path,
                f"section {header.index} is of type {FOREIGN_TYPES[header.type]}: not supported",
                _NO_RELA if header.type == elf.SHT_REL else "give the .o file from the compiler, not linked",
            )
        if header.offset + header.size > len(data):
            raise refuse(
                path,
                f"section {header.index} ({header.size} bytes at {header.offset:#x}) lies outside of the "
                f"file of {len(data)} bytes",
                "the file is truncated or damaged: compile it again",
            )
        total += header.size
    if total > len(data):
        raise refuse(path, f"the sections overlap: {total} bytes in a file of {len(data)} bytes")


def _bytes(data: bytes, header: _Header) -> bytes:
    return data[header.offset : header.offset + header.size]


def _name(strings: bytes, offset: int, place: str) -> str:
    """The NUL-terminated string at `offset` of a string table."""
    end = strings.find(b"\0", offset, offset + MAX_NAME) if offset < len(strings) else -1
    if end < 0:
        raise refuse(place, f"no name ends within {MAX_NAME} bytes of offset {offset} of its string table")
    try:
        return strings[offset:end].decode()
    except UnicodeDecodeError as error:
        raise refuse(place, f"the name at offset {offset} of its string table is not UTF-8") from error


def _names_of_sections(data: bytes, path: str, headers: tuple[_Header, ...], index: int) -> list[str]:
    strings = _bytes(data, headers[index])
    return [
        "" if header.type == elf.SHT_NULL else _name(strings, header.name, f"{path}: section {header.index}")
        for header in headers
    ]


def _table(data: bytes, path: str, order: str, header: _Header, layout: str, what: str) -> memoryview:
    """The bytes of a table whose entries have `layout`."""
    width = struct.calcsize(order + layout)
    if header.entsize != width or header.size % width:
        raise refuse(
            path,
            f"section {header.index} ({what}): {header.size} bytes in entries of {header.entsize}, "
            f"expected entries of {width}",
        )
    return memoryview(data)[header.offset : header.offset + header.size]


def _the_symbol_table(path: str, headers: tuple[_Header, ...]) -> _Header | None:
    found = [header for header in headers if header.type == elf.SHT_SYMTAB]
    if len(found) > 1:
        raise refuse(path, f"sections {found[0].index} and {found[1].index} are both symbol tables")
    if not found:
        return None
    link = found[0].link
    if not 0 < link < len(headers) or headers[link].type != elf.SHT_STRTAB:
        raise refuse(path, f"the symbol table's names (section {link} of {len(headers)}) do not exist")
    return found[0]


def _parse_symbols(
    data: bytes, path: str, order: str, headers: tuple[_Header, ...], symtab: _Header | None
) -> tuple[Symbol, ...]:
    if symtab is None:
        return (NULL_SYMBOL,)
    table = _table(data, path, order, symtab, SYMBOL_ENTRY, "symbols")
    strings = _bytes(data, headers[symtab.link])
    wide = _extended_indices(data, path, order, headers, symtab)
    symbols = []
    for index, (name, info, other, where, value, size) in enumerate(
        struct.iter_unpack(order + SYMBOL_ENTRY, table)
    ):
        if where >= SHN_LORESERVE:
            if where != SHN_XINDEX:
                where -= 0x10000
            elif index < len(wide):
                where = wide[index]
            else:
                raise refuse(path, f"symbol {index} has no entry in the table of extended section indices")
        if info & 15 == elf.STT_SECTION and 0 < where < len(headers):
            # `ld -r` of clang's objects names the list of significant addresses, which is not kept (see
            # TABLE_TYPES): nothing can refer to it.
            where = 0 if headers[where].type == elf.SHT_LLVM_ADDRSIG else where
        text = _name(strings, name, f"{path}: symbol {index}") if name else ""
        symbols.append(Symbol(index, text, value, size, info & 15, info >> 4, other, where))
    return tuple(symbols)


def _extended_indices(
    data: bytes, path: str, order: str, headers: tuple[_Header, ...], symtab: _Header
) -> tuple[int, ...]:
    """The section index of each symbol whose own field is too narrow for it."""
    for header in headers:
        if header.type == elf.SHT_SYMTAB_SHNDX and header.link == symtab.index:
            table = _table(data, path, order, header, "I", "extended section indices")
            return struct.unpack(f"{order}{len(table) // 4}I", table)
    return ()


def _parse_relocations(
    data: bytes,
    path: str,
    order: str,
    headers: tuple[_Header, ...],
    names: list[str],
    symtab: _Header | None,
) -> dict[int, tuple[Relocation, ...]]:
    """Section index -> the relocations that apply to it, in the order of the file."""
    result: dict[int, tuple[Relocation, ...]] = {}
    for header in headers:
        if header.type != elf.SHT_RELA:
            continue
        place = f"{path}({names[header.index]})"
        if header.flags & elf.SHF_RELA_LIVEPATCH:
            raise refuse(place, "relocations of a finished livepatch module are not supported")
        if symtab is None or header.link != symtab.index:
            raise refuse(place, f"the relocations' symbol table (section {header.link}) does not exist")
        if not 0 < header.info < len(headers):
            raise refuse(place, f"the relocations apply to section {header.info} of {len(headers)}")
        rows = struct.iter_unpack(
            order + RELA_ENTRY, _table(data, path, order, header, RELA_ENTRY, "relocations")
        )
        # Why: r_info is one 64-bit word with the symbol in its upper half: last or first four bytes.
        if order == "<":
            decoded = tuple(Relocation(at, kind, symbol, addend) for at, kind, symbol, addend in rows)
        else:
            decoded = tuple(Relocation(at, kind, symbol, addend) for at, symbol, kind, addend in rows)
        result[header.info] = result.get(header.info, ()) + decoded
    return result


def _section(
    data: bytes,
    order: str,
    header: _Header,
    name: str,
    relocations: dict[int, tuple[Relocation, ...]],
    tables: set[int],
) -> Section:
    content = b"" if header.type == elf.SHT_NOBITS else _bytes(data, header)
    link = header.link
    if header.type == elf.SHT_GROUP:
        content = _without_tables(content, order, tables)
        link = 0
    elif link in tables:
        link = 0
    size = header.size if header.type == elf.SHT_NOBITS else len(content)
    return Section(
        header.index,
        name,
        header.type,
        header.flags,
        content,
        size,
        header.align,
        header.entsize,
        link,
        header.info,
        relocations.get(header.index, ()),
    )


def _without_tables(content: bytes, order: str, tables: set[int]) -> bytes:
    """A section group's words without the relocation tables among its members."""
    if len(content) % 4 or not content:
        return content  # refused by check_object
    flag, *members = struct.unpack(f"{order}{len(content) // 4}I", content)
    kept = [member for member in members if member not in tables]
    return struct.pack(f"{order}{1 + len(kept)}I", flag, *kept)
