# SPDX-License-Identifier: GPL-2.0-or-later
"""The shipped image: its bytes by address and its build ID.

A boot loader starts `vmlinuz`: on x86 a small real-mode part and a decompressor, with the compressed ELF
image inside.  Documentation/arch/x86/boot.rst says where: byte 0x1f1 counts the 512-byte sectors of the
real-mode part (after one boot sector), and the header's `payload_offset` and `payload_length` (protocol
2.08 and later) place the compressed data behind it.  The data is followed by its uncompressed size in four
bytes, which the length includes, so a truncated image shows.

The ELF image has no symbol table (see symbols.py) but keeps its sections, and so every byte of code
and initialised data at the address where the kernel links it.  KASLR moves the image as a whole.
"""

from __future__ import annotations

import bz2
import lzma
import mmap
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lz4.block  # type: ignore[import-untyped]
import zstandard

from kbuild_py.errors import refuse

_SHT_NOBITS = 8
_SHF_ALLOC = 2
_NT_GNU_BUILD_ID = 3


@dataclass(frozen=True, slots=True)
class ImageSymbol:
    """One kallsyms entry.  `type` is kallsyms' letter: upper case is global (T, D, B, R, A, W, V ...)."""

    address: int
    type: str
    name: str


@dataclass(frozen=True, slots=True)
class ImageSection:
    """A section that the kernel has in memory; `nobits` sections (.bss) have no bytes in the file."""

    name: str
    address: int
    size: int
    offset: int
    flags: int
    nobits: bool


class OutsideImage(ValueError):
    """An address range that the image has no bytes for."""


def _xz(data: bytes) -> tuple[bytes, bytes]:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_AUTO)
    out = decoder.decompress(data)
    return _whole(out, decoder.eof), decoder.unused_data


def _gzip(data: bytes) -> tuple[bytes, bytes]:
    decoder = zlib.decompressobj(31)
    out = decoder.decompress(data)
    # The size at the end of the payload is gzip's own trailer, which the decoder has checked.
    return _whole(out, decoder.eof), struct.pack("<I", len(out) & 0xFFFFFFFF) + decoder.unused_data


def _bzip2(data: bytes) -> tuple[bytes, bytes]:
    decoder = bz2.BZ2Decompressor()
    out = decoder.decompress(data)
    return _whole(out, decoder.eof), decoder.unused_data


def _zstd(data: bytes) -> tuple[bytes, bytes]:
    decoder = zstandard.ZstdDecompressor().decompressobj()
    out = decoder.decompress(data)
    return _whole(out, decoder.eof), decoder.unused_data


def _lz4(data: bytes) -> tuple[bytes, bytes]:
    # The legacy frame of `lz4 -l`: after the magic, blocks of up to 8 MiB with their compressed sizes before
    # them, and no end mark; what follows here is the payload's own last four bytes.
    out, offset = [], 4
    while offset + 4 < len(data):
        (size,) = struct.unpack_from("<I", data, offset)
        offset += 4 + size
        if offset > len(data):
            raise EOFError("the compressed data ends early")
        out.append(lz4.block.decompress(data[offset - size : offset], uncompressed_size=8 << 20))
    return b"".join(out), data[offset:]


def _whole(out: bytes, ended: bool) -> bytes:
    if not ended:
        raise EOFError("the compressed data ends early")
    return out


# Magic bytes -> (name, decompressor that returns the data and what follows it in the payload).
_FORMATS: tuple[tuple[bytes, str, Callable[[bytes], tuple[bytes, bytes]] | None], ...] = (
    (b"\x1f\x8b", "gzip", _gzip),
    (b"\xfd7zXZ\x00", "xz", _xz),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    (b"BZh", "bzip2", _bzip2),
    (b"\x5d\x00\x00", "lzma", _xz),
    (b"\x02\x21\x4c\x18", "lz4", _lz4),
    (b"\x89LZO", "lzo", None),
)


def payload(image: bytes, place: object) -> bytes:
    """The compressed payload of an x86 boot image (with its size at the end)."""
    remedy = "remove the file and build again; it may be damaged"
    if len(image) < 0x250 or image[0x1FE:0x200] != b"\x55\xaa" or image[0x202:0x206] != b"HdrS":
        raise refuse(place, "is not an x86 boot image (no setup header)", remedy)
    (protocol,) = struct.unpack_from("<H", image, 0x206)
    if protocol < 0x208:
        raise refuse(place, f"boot protocol {protocol >> 8}.{protocol & 255:02} is older than 2.08")
    start = ((image[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    if length < 8 or start + offset + length > len(image):
        raise refuse(place, f"ends before its payload does ({len(image)} bytes)", remedy)
    return image[start + offset : start + offset + length]


def decompressed(image: bytes, place: object) -> bytes:
    """The ELF image inside an x86 boot image.  Refuses what is truncated, damaged or of unknown format."""
    data = payload(image, place)
    known = next((entry for entry in _FORMATS if data.startswith(entry[0])), None)
    if known is None:
        raise refuse(place, f"its payload is compressed in an unknown format (begins with {data[:6].hex()})")
    _, name, decoder = known
    if decoder is None:
        raise refuse(place, f"its payload is compressed with {name}, which is not supported yet")
    try:
        out, rest = decoder(data)
    except (
        lzma.LZMAError,
        zlib.error,
        zstandard.ZstdError,
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
    ) as error:
        raise refuse(
            place, f"its {name} payload is damaged: {error}", "remove the file and build again"
        ) from error
    if rest[:4] != struct.pack("<I", len(out) & 0xFFFFFFFF):
        raise refuse(
            place,
            f"its payload unpacks to {len(out)} bytes, not to what its end says",
            "remove it and build again",
        )
    if not out.startswith(b"\x7fELF"):
        raise refuse(place, "its payload is not an ELF image")
    return out


class KernelImage:
    """The uncompressed ELF image, read by address.  Opening it costs next to nothing (it is mapped)."""

    def __init__(self, data: bytes | mmap.mmap, place: object) -> None:
        self._data = data
        self.place = place
        self.sections: tuple[ImageSection, ...] = _sections(data, place)
        self._by_address = sorted((s for s in self.sections if s.size), key=lambda s: s.address)
        self._starts = [section.address for section in self._by_address]

    @classmethod
    def load(cls, path: Path) -> KernelImage:
        """Map the image at `path`."""
        try:
            with path.open("rb") as stream:
                return cls(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), path)
        except (OSError, ValueError) as error:
            raise refuse(path, f"cannot read: {error}", "remove the file and build again") from error

    def section(self, name: str) -> ImageSection | None:
        """The section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def section_at(self, address: int) -> ImageSection | None:
        """The section that has `address`; per-CPU data is linked at address 0."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        section = self._by_address[index]
        return section if address < section.address + section.size else None

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at the linked address `address`.  Raises `OutsideImage` when they are not all in one
        section, or in one that has no bytes in the file."""
        section = self.section_at(address)
        if size < 0 or section is None or address + size > section.address + section.size:
            raise OutsideImage(f"{size} bytes at {address:#x} are not in the image")
        if section.nobits:
            raise OutsideImage(f"{address:#x} is in {section.name}, which has no bytes in the image")
        start = section.offset + address - section.address
        return self._data[start : start + size]

    @property
    def build_id(self) -> str:
        """The GNU build ID in hex."""
        section = self.section(".notes")
        data = self.read(section.address, section.size) if section else b""
        offset = 0
        while offset + 12 <= len(data):
            name_size, size, kind = struct.unpack_from("<III", data, offset)
            name = data[offset + 12 : offset + 12 + name_size]
            start = offset + 12 + (name_size + 3 & ~3)
            if kind == _NT_GNU_BUILD_ID and name == b"GNU\0" and start + size <= len(data):
                return data[start : start + size].hex()
            offset = start + (size + 3 & ~3)
        raise refuse(self.place, "the image has no GNU build ID")


def _sections(data: bytes | mmap.mmap, place: object) -> tuple[ImageSection, ...]:
    """The allocated sections of a little-endian ELF64 file."""
    if data[:4] != b"\x7fELF" or len(data) < 64:
        raise refuse(place, "is not an ELF image")
    if data[4:6] != b"\x02\x01":
        raise refuse(place, "is not a 64-bit little-endian ELF image; others are not supported yet")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    if entry_size != 64 or not count or names_index >= count or table + 64 * count > len(data):
        raise refuse(place, "its section table is damaged or missing", "remove the file and build again")
    headers = list(struct.iter_unpack("<IIQQQQIIQQ", data[table : table + 64 * count]))
    names_offset, names_size = headers[names_index][4:6]
    names = data[names_offset : names_offset + names_size]
    sections = []
    for name, kind, flags, address, offset, size, *_ in headers:
        if flags & _SHF_ALLOC:
            nobits = kind == _SHT_NOBITS
            if not nobits and offset + size > len(data):
                raise refuse(place, "ends before its sections do", "remove the file and build again")
            text = names[name : names.find(b"\0", name)].decode(errors="replace")
            sections.append(ImageSection(text, address, size, offset, flags, nobits))
    return tuple(sections)
