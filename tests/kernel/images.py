# SPDX-License-Identifier: GPL-2.0-or-later
"""Small kernel images, made in memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable
from dataclasses import dataclass

import lz4.block  # type: ignore[import-untyped]
import zstandard

NOTE = struct.pack("<III", 4, 20, 3) + b"GNU\0" + bytes(range(20))
BUILD_ID = bytes(range(20)).hex()


@dataclass(frozen=True)
class Part:
    """A section to be: its bytes, or (for nobits) just a size."""

    name: str
    address: int
    data: bytes
    size: int = 0
    flags: int = 2
    kind: int = 1


PARTS = (
    Part(".text", 0xFFFFFFFF81000000, b"\x90" * 64 + b"\xc3"),
    Part(".rodata", 0xFFFFFFFF82000000, b"Linux version 6.1.0-50-amd64 (x) (gcc-12) #1 SMP\n\0"),
    # Behind another note of odd size, so that padding counts.
    Part(
        ".notes",
        0xFFFFFFFF82100000,
        struct.pack("<III", 5, 3, 1) + b"Xen\0\0\0\0\0" + b"abc\0" + NOTE,
        kind=7,
    ),
    Part(".data..percpu", 0, bytes(range(64))),
    Part(".bss", 0xFFFFFFFF83000000, b"", size=4096, kind=8),
    Part(".comment", 0, b"not in memory", flags=0),
)


def elf(parts: tuple[Part, ...] = PARTS) -> bytes:
    """A little-endian ELF64 file with these sections."""
    names = b"\0"
    body = bytearray(b"\0" * 64)
    headers = [bytes(64)]
    for part in (*parts, Part(".shstrtab", 0, b"", flags=0, kind=3)):
        name = len(names)
        names += part.name.encode() + b"\0"
        data = names if part.name == ".shstrtab" else part.data
        offset = len(body)
        body += data
        size = part.size or len(data)
        headers.append(
            struct.pack("<IIQQQQIIQQ", name, part.kind, part.flags, part.address, offset, size, 0, 0, 1, 0)
        )
    table = len(body)
    body += b"".join(headers)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    body[:64] = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, len(headers), len(headers) - 1
    )
    return bytes(body)


def lz4_legacy(data: bytes) -> bytes:
    """What `lz4 -l` writes."""
    out = struct.pack("<I", 0x184C2102)
    for start in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[start : start + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(block)) + block
    return out


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "lz4": lz4_legacy,
}


def boot_image(image: bytes, method: str, *, size: int | None = None, protocol: int = 0x20F) -> bytes:
    """An x86 boot image whose payload unpacks to `image`; `size` is what it says its size is."""
    data = COMPRESSORS[method](image)
    if method != "gzip":  # has it in its own end
        data += struct.pack("<I", len(image) if size is None else size)
    sectors = 3
    setup = bytearray((sectors + 1) * 512)
    setup[0x1F1] = sectors
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    before = b"\xcc" * 100  # the decompressor's code
    struct.pack_into("<II", setup, 0x248, len(before), len(data))
    return bytes(setup) + before + data + b"\xcc" * 64
