# SPDX-License-Identifier: GPL-2.0-or-later
"""Which bytes of a shipped function the running kernel may have changed.

The proof compares with the image as it is stored.  The core module compares with memory, where code is not
quite the same: the kernel has been moved (KASLR), and it rewrites its own instructions, once at boot for the
processor that it finds itself on (alternatives, paravirt calls, lock prefixes, returns, retpolines), and
again and again while it runs (ftrace, jump labels, static calls).  Wherever it does so a table has an entry,
made by the same macros, the compiler or objtool, that names the place.  So the object tells:

* a relocated field whose value is an address, or a distance to something that does not move along with
  the code (per-CPU variables are linked at 0): KASLR changes it;
* a place that an entry of one of the tables points to, for as many bytes as the kernel rewrites: as the
  entry says, or else the instruction that is there.

All other bytes must be in memory as they are in the image.  Kprobes have no table: the core asks the kernel.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

import capstone

from kbuild_py.baseline.compare import WORD, Piece
from kbuild_py.delta.entries import EntrySizes
from kbuild_py.delta.machine import machine
from kbuild_py.delta.tables import ALTERNATIVES, COMMON, find_table
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile, Section

Span = tuple[int, int]  # offset in the function, bytes

# x86-64 kernels are linked into the last 2 GiB of the address space, and KASLR moves all of that.
IMAGE = WORD - (1 << 31)
ENDBR = b"\xf3\x0f\x1e\xfa"  # the kernel takes it away where nobody calls the function indirectly
LONGEST_INSTRUCTION = 15
TRAMPOLINES = ".static_call.text"  # each function in it begins with a jump to what is called
JUMP = 5


def _instruction(entry: bytes, code: bytes) -> int:
    first = next(_engine().disasm_lite(code[:LONGEST_INSTRUCTION], 0, 1), None)
    return int(first[1]) if first else len(code)  # what cannot be read may be anything


def _alternative(entry: bytes, code: bytes) -> int:
    # struct alt_instr: the length of the original stands right before the replacement's.
    return entry[COMMON[ALTERNATIVES].lengths[len(entry)] - 1]


def _paravirt(entry: bytes, code: bytes) -> int:
    return entry[9]  # struct paravirt_patch_site: address, type, length


def _bytes(count: int) -> Callable[[bytes, bytes], int]:
    return lambda entry, code: count


CALL_SITES = ".call_sites"
# Table, or the beginning of its name -> how many bytes the kernel rewrites, by the entry and the code there.
SITES: Mapping[str, Callable[[bytes, bytes], int]] = {
    ALTERNATIVES: _alternative,
    ".parainstructions": _paravirt,
    ".smp_locks": _bytes(1),
    "__jump_table": _instruction,
    "__mcount_loc": _instruction,
    ".static_call_sites": _instruction,
    ".retpoline_sites": _instruction,
    ".return_sites": _instruction,
    CALL_SITES: _instruction,
    ".ibt_endbr_seal": _instruction,
    ".kcfi_traps": _bytes(14),
    # Constants that are known when the kernel has booted; the entry names the field.
    "runtime_ptr_": _bytes(8),
    "runtime_shift_": _bytes(1),
}
# The entry names the trap that ends the check of an indirect call; the check is rewritten with it.
BEFORE = {".kcfi_traps": 12}


@cache
def _engine() -> capstone.Cs:
    return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)


class Sites:
    """The places of an object's code that tables name; they are looked up once."""

    def __init__(self, obj: ObjectFile) -> None:
        self._known = obj.machine == elf.EM_X86_64
        self._by_section: dict[int, list[Span]] = defaultdict(list)
        self._calls: dict[int, list[Span]] = defaultdict(list)
        self._trampolines = {section.index for section in obj.sections if section.name == TRAMPOLINES}
        if self._known:
            for section in obj.sections:
                for prefix, length in SITES.items():
                    if section.name.startswith(prefix) and section.relocations:
                        found = self._calls if prefix == CALL_SITES else self._by_section
                        self._add(obj, section, length, BEFORE.get(prefix, 0), found)

    def _add(
        self,
        obj: ObjectFile,
        table: Section,
        length: Callable[[bytes, bytes], int],
        before: int,
        found: dict[int, list[Span]],
    ) -> None:
        for entry, number, offset in _entries(obj, table):
            code = obj.sections[number].data
            found[number].append((offset - before, length(entry, code[offset:])))

    def rewritten(self, section: int) -> tuple[Span, ...]:
        """The places of a section that tables name: (offset, bytes), in no order.

        Without direct calls: what the kernel changes there (call depth tracking) it changes only where the
        callee has room for it, and an empty call's field leads to the next instruction, which has none
        (arch/x86/kernel/callthunks.c, patch_dest).
        """
        return tuple(self._by_section.get(section, ()))

    def spans(self, one: Piece, address: int, found: bytes, apart: bool = False) -> tuple[Span, ...]:
        """What the running kernel may change of a function, sorted and apart from each other.

        one:     the function, at `address` in the image, where its bytes are `found`
        apart:   a module's: the loader moves its sections each for itself, so every relocated field changes
        """
        if not self._known:
            return ((0, one.size),)
        sites = (*self._by_section.get(one.section, ()), *self._calls.get(one.section, ()))
        result = [(offset - one.start, size) for offset, size in sites]
        if one.section in self._trampolines:
            result.append((0, JUMP))
        at = found.find(ENDBR)
        while at >= 0:
            result.append((at, len(ENDBR)))
            at = found.find(ENDBR, at + 1)
        for relocation, kind in one.relocations:
            field = found[relocation.offset : relocation.offset + kind.width]
            target = int.from_bytes(field, "little", signed=kind.signed)
            target += address + relocation.offset
            if apart or not kind.pc_relative or target % WORD < IMAGE:
                result.append((relocation.offset, kind.width))
        return tuple(_merged(result, one.size))


def _entries(obj: ObjectFile, table: Section) -> Iterator[tuple[bytes, int, int]]:
    """Each entry's bytes, and the section and offset that its first field points to."""
    known = find_table(machine(obj).tables, table.name)
    ordered = sorted(table.relocations, key=lambda one: one.offset)
    size = EntrySizes().of(table, ordered, [], obj, known)
    for relocation in ordered:
        start = relocation.offset - relocation.offset % size
        symbol = obj.symbols[relocation.symbol]
        if relocation.offset == start and symbol.section > 0:
            yield table.data[start : start + size], symbol.section, symbol.value + relocation.addend


def _merged(spans: Iterable[Span], size: int) -> Iterator[Span]:
    """`spans`, within 0 to `size`, in order, those that touch or overlap made one."""
    start = end = 0
    for offset, length in sorted(spans):
        first, last = max(offset, 0), min(offset + length, size)
        if first >= last:
            continue
        if first > end:
            if end:
                yield start, end - start
            start = first
        end = max(end, last)
    if end:
        yield start, end - start
