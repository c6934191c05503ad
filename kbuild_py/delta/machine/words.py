# SPDX-License-Identifier: GPL-2.0-or-later
"""Processors whose instructions are all 32 bits wide: arm64, ppc64, LoongArch.

There is nothing to decode to find where an instruction begins, and a pc-relative field counts from its own
instruction.  What is left are branches that the assembler has resolved.  Most words are none, and the
first byte says so, which keeps the search cheap.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

import capstone

from kbuild_py.delta.machine.kinds import Branch, Decoded, Decoder, Instruction

# (instruction, its address) -> relocation type and target of a direct branch; None when it is none.
Target = Callable[[int, int], tuple[int, int] | None]


def first_bytes(*ranges: tuple[int, int]) -> bytes:
    """A table of 256 flags: which values of an instruction's upper byte may be direct branches."""
    flags = bytearray(256)
    for low, high in ranges:
        flags[low : high + 1] = b"\1" * (high + 1 - low)
    return bytes(flags)


def signed(value: int, bits: int) -> int:
    """The two's complement number in the lowest `bits` bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def words(code: bytes, start: int, end: int) -> tuple[int, ...]:
    """The instructions of code[start:end], without an incomplete last one."""
    count = max(end - start, 0) // 4
    return struct.unpack_from(f"<{count}I", code, start)


def word_at(code: bytes, place: int) -> int:
    """The instruction at `place`; 0 outside of the code."""
    return struct.unpack_from("<I", code, place)[0] if 0 <= place <= len(code) - 4 else 0


def decoder(candidates: bytes, target: Target) -> Decoder:
    """The decoder of a processor whose direct branches `candidates` and `target` describe."""

    def decode(code: bytes, start: int, end: int, fields: Sequence[int], *, branches: bool) -> Decoded:
        complete = (end - start) % 4 == 0
        if not branches:
            return Decoded({}, (), complete)
        relocated = {place & ~3 for place in fields}
        found = []
        for index, word in enumerate(words(code, start, end)):
            if candidates[word >> 24]:
                place = start + 4 * index
                branch = target(word, place) if place not in relocated else None
                if branch is not None and not start <= branch[1] < end:
                    found.append(Branch(place, branch[0], branch[1], 0))
        return Decoded({}, tuple(found), complete)

    return decode


def lister(engine: Callable[[], capstone.Cs]) -> Callable[[bytes, int, int], Iterator[Instruction]]:
    """Lists instructions with addresses from 0; words that are none appear as data."""

    def instructions(code: bytes, start: int, end: int) -> Iterator[Instruction]:
        place = start
        while place + 4 <= end:
            for address, size, mnemonic, operands in engine().disasm_lite(code[place:end], place - start):
                yield address, size, mnemonic, operands
                place = start + address + size
            if place + 4 <= end:
                yield place - start, 4, ".word", f"{word_at(code, place):#010x}"
                place += 4

    return instructions
