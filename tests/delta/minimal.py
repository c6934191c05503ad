# SPDX-License-Identifier: GPL-2.0-or-later
"""Is there anything in a patch object that nothing in it needs?

Independent of the code under test: from the functions in the account, its global variables and its
callbacks, every relocation is followed to what it reaches - the variable or function around the place, the
text or constant there, or where nothing has a name the whole stretch between names.  Bytes that are never
reached, and are no filling, were shipped without a reason.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

ALLOC, CODE, MERGE, STRINGS = 2, 4, 0x10, 0x20
DATA = (".text", ".data", ".rodata", ".bss", ".init", ".sched", ".ref")
MARKERS = (".kpatch.callbacks.", ".kpatch.hooks.")


def unneeded(obj: Any, account: dict[str, Any]) -> list[str]:
    """Places (`section+offset`) of an object (`checker.Loaded`) that nothing reaches; entries of tables that
    are about code that is not in the account."""
    sections = {
        index: data
        for index, (name, flags, data) in enumerate(obj.sections)
        if flags & ALLOC and not name.startswith(".discard.")
    }
    extents: dict[int, list[tuple[int, int]]] = {index: [] for index in sections}
    functions = {item["name"] for item in account["functions"]}
    roots = functions | {item["name"] for item in account["data"] if not item.get("local", True)}
    waiting: list[tuple[int, int]] = []
    for symbol in obj.symbols:
        padding = symbol["name"].startswith(("__pfx_", "__cfi_"))  # belongs to the function behind it
        if symbol["section"] in sections and symbol["type"] in ("STT_FUNC", "STT_OBJECT") and not padding:
            extents[symbol["section"]].append((symbol["value"], symbol["value"] + symbol["size"]))
            if symbol["name"] in roots:
                waiting.append((symbol["section"], symbol["value"]))
    places = {index: sorted(obj.relocations.get(index, [])) for index in sections}
    tables = {
        index
        for index, (name, flags, _) in enumerate(obj.sections)
        if index in sections
        and not flags & CODE
        and not name.startswith(DATA)
        and (not flags & MERGE or name == "__bug_table")  # mergeable on s390x
    }
    found = []
    for index in tables:
        name = obj.sections[index][0]
        if name.startswith(MARKERS):
            waiting.append((index, 0))
        for relocation in places[index]:
            section, place = _target(obj, index, relocation)
            if section is None or section not in sections:
                continue
            if obj.sections[section][1] & CODE and extents[section]:
                inside = any(start <= place < end for start, end in extents[section])
                if obj.processor.subsections and not inside:
                    waiting.append((section, place))
                elif place > max(end for _, end in extents[section]):
                    found.append(f"{name}+{relocation[0]:#x} is about code that is not there")
            else:
                waiting.append((section, place))
    reached = {index: bytearray(_size(obj, index)) for index in sections if index not in tables}
    while waiting:
        index, place = waiting.pop()
        if index in tables:  # a variable in a section of its own kind, such as __dyndbg
            continue
        start, end = _around(obj, index, place, extents[index], len(reached[index]))
        if start >= end or all(reached[index][start:end]):
            continue
        reached[index][start:end] = b"\1" * (end - start)
        low = bisect_left(places[index], (start,))
        for relocation in places[index][low:]:
            if relocation[0] >= end:
                break
            section, target = _target(obj, index, relocation)
            if section in sections:
                waiting.append((section, target))
    for index, marks in reached.items():
        name, flags, data = obj.sections[index]
        filling = obj.processor.filling if flags & CODE else b"\0"
        lost = [place for place, mark in enumerate(marks) if not mark and data and data[place] not in filling]
        if lost:
            found.append(f"{name}+{lost[0]:#x} is not needed")
    return found


def _size(obj: Any, index: int) -> int:
    return len(obj.sections[index][2])


def _target(obj: Any, index: int, relocation: tuple[int, int, int, int]) -> tuple[Any, int]:
    offset, kind, number, addend = relocation
    symbol = obj.symbols[number]
    return symbol["section"], symbol["value"] + addend + obj.bias(index, offset, kind)


def _around(obj: Any, index: int, place: int, named: list[tuple[int, int]], size: int) -> tuple[int, int]:
    """What a reference to `place` needs: the named thing, the text, the constant, or the unnamed stretch."""
    _, flags, data = obj.sections[index]
    if flags & (MERGE | STRINGS) == MERGE | STRINGS:
        return place, data.index(b"\0", place) + 1
    width = obj.entsizes[index]
    if flags & MERGE and width:
        return place - place % width, place - place % width + width
    last = 0 if obj.processor.subsections and flags & CODE else 1  # an end is a place of its own there
    before = [extent for extent in named if extent[0] <= place < extent[1] + last]
    if before:
        start, end = max(before)
        below = [stop for _, stop in named if stop <= start]
        return max(below, default=0), end  # what stands before a function (padding, a CFI hash) belongs to it
    low = max((stop for _, stop in named if stop <= place), default=0)
    high = min((start for start, _ in named if start > place), default=size)
    return low, high
