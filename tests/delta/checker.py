# SPDX-License-Identifier: GPL-2.0-or-later
"""An independent check of a patch object: each shipped function means what it means in the patched object.

Nothing here uses the code under test.  Objects are read with pyelftools, and a relocation's meaning is
worked out anew: the text it points to, or the symbol that covers the target and the distance into it.
Where instructions end, and so how far a pc-relative field in code is from there, objdump says.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from kbuild_py.run import run
from tests.delta.minimal import unneeded

NUMBERS = re.compile(r"(\.\d+|\.new)+(?=$|\.)")
WIDTH = {1: 8, 2: 4, 4: 4, 10: 4, 11: 4, 24: 8}
PC_RELATIVE = {2, 4, 24}
TABLES = {"__bug_table": 12, "__ex_table": 12, ".altinstructions": 12, ".smp_locks": 4, "__jump_table": 16}


@dataclass
class Loaded:
    """An object by way of pyelftools: sections by index, symbols, relocations per section."""

    sections: list[tuple[str, int, bytes]]
    symbols: list[dict[str, Any]]
    relocations: dict[int, list[tuple[int, int, int, int]]]
    instructions: dict[str, list[int]]
    entsizes: list[int]

    def bias(self, section: int, offset: int) -> int:
        """From a field in code to the end of its instruction."""
        starts = self.instructions.get(self.sections[section][0], [])
        after = bisect_right(starts, offset)
        end = starts[after] if after < len(starts) else len(self.sections[section][2])
        return end - offset


def instruction_starts(path: Path) -> dict[str, list[int]]:
    """Section name -> where its instructions start, from objdump's listing."""
    found: dict[str, list[int]] = {}
    section = ""
    for line in run(["objdump", "-dzw", "--no-show-raw-insn", path]).stdout.splitlines():
        if line.startswith("Disassembly of section "):
            section = line.removeprefix("Disassembly of section ").rstrip(":")
        elif match := re.match(r"^ *([0-9a-f]+):\t", line):
            found.setdefault(section, []).append(int(match[1], 16))
    return found


def load(path: Path) -> Loaded:
    """Read everything at once."""
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        sections = [
            (section.name, section["sh_flags"], b"" if section["sh_type"] == "SHT_NOBITS" else section.data())
            for section in elf.iter_sections()
        ]
        symbols = []
        for symbol in elf.get_section_by_name(".symtab").iter_symbols():
            where = symbol["st_shndx"]
            symbols.append(
                {
                    "name": symbol.name,
                    "value": symbol["st_value"],
                    "size": symbol["st_size"],
                    "type": symbol["st_info"]["type"],
                    "section": where if isinstance(where, int) else None,
                }
            )
        relocations = {
            section["sh_info"]: [
                (r["r_offset"], r["r_info_type"], r["r_info_sym"], r["r_addend"])
                for r in section.iter_relocations()
            ]
            for section in elf.iter_sections()
            if section["sh_type"] == "SHT_RELA"
        }
        entsizes = [section["sh_entsize"] for section in elf.iter_sections()]
    return Loaded(sections, symbols, relocations, instruction_starts(path), entsizes)


def plain(name: str) -> str:
    """A symbol's name without the numbers that compilers give."""
    return NUMBERS.sub("", name)


def meaning(obj: Loaded, section: int, relocation: tuple[int, int, int, int], renamed: dict[str, str]) -> Any:
    """What a relocation reaches: text, a symbol and the distance into it, or bytes without a name."""
    offset, kind, index, addend = relocation
    symbol = obj.symbols[index]
    in_code = bool(obj.sections[section][1] & 4)
    bias = obj.bias(section, offset) if kind in PC_RELATIVE and in_code else 0
    if symbol["section"] is None:
        return (plain(renamed.get(symbol["name"], symbol["name"])), addend + bias)
    name, flags, data = obj.sections[symbol["section"]]
    place = symbol["value"] + addend + bias
    if flags & 0x30 == 0x30:
        return data[place : data.index(b"\0", place)]
    width = obj.entsizes[symbol["section"]]
    if flags & 0x10 and width:  # merged by content, whatever it is called
        return (place % width, data[place - place % width :][:width])
    best = None
    for other in obj.symbols:
        named = other["section"] == symbol["section"] and other["type"] in ("STT_FUNC", "STT_OBJECT")
        if named and other["value"] <= place < other["value"] + max(other["size"], 1):
            candidate = plain(renamed.get(other["name"], other["name"]))
            if best is None or candidate < best[0]:
                best = (candidate, place - other["value"])
    if best is not None:
        return best
    alone = [
        other
        for other in obj.symbols
        if other["section"] == symbol["section"] and other["type"] in ("STT_FUNC", "STT_OBJECT")
    ]
    if len(alone) == 1:  # before or behind the only variable of a section
        known = plain(renamed.get(alone[0]["name"], alone[0]["name"]))
        return (known, place - alone[0]["value"])
    return (name, data[place : place + 2])


def function(obj: Loaded, name: str, renamed: dict[str, str]) -> tuple[bytes, list[Any]]:
    """A function's bytes, relocated fields zeroed, and its relocations by meaning."""
    found = [s for s in obj.symbols if s["name"] == name and s["type"] == "STT_FUNC" and s["section"]]
    assert len(found) == 1, f"{name}: {len(found)} symbols"
    section, start = found[0]["section"], found[0]["value"]
    content = bytearray(obj.sections[section][2][start : start + found[0]["size"]])
    relocations = []
    for relocation in sorted(obj.relocations.get(section, [])):
        offset, kind = relocation[0] - start, relocation[1]
        if 0 <= offset < len(content):
            content[offset : offset + WIDTH[kind]] = bytes(WIDTH[kind])
            shape = 2 if kind == 4 else kind
            relocations.append((offset, shape, meaning(obj, section, relocation, renamed)))
    return bytes(content), relocations


def entries(obj: Loaded, name: str, functions: set[str]) -> int:
    """How many entries of a table are about code of these functions."""
    size, count = TABLES[name], 0
    for index, (section, _, _) in enumerate(obj.sections):
        if section != name:
            continue
        for offset, _, symbol, addend in obj.relocations.get(index, []):
            if offset % size:
                continue
            target = obj.symbols[symbol]
            place = target["value"] + addend
            count += any(
                other["name"] in functions
                and other["section"] == target["section"]
                and other["value"] <= place < other["value"] + other["size"]
                for other in obj.symbols
                if other["type"] == "STT_FUNC"
            )
    return count


def check(patched_path: Path, output_path: Path, account: dict[str, Any], *, branches: bool = False) -> None:
    """Assert that the output's functions equal the patched object's, and that the tools accept it.

    branches: the patched object has branches between functions without relocations, so that relocations
    cannot be compared one to one
    """
    patched, output = load(patched_path), load(output_path)
    renamed = {f["name"]: f["patched_name"] for f in account["functions"]}
    renamed |= {item["name"]: item["patched_name"] for item in account["data"]}
    for item in account["functions"]:
        ours = function(output, item["name"], renamed)
        theirs = function(patched, item["patched_name"], {})
        if branches:
            assert len(ours[0]) == len(theirs[0])
            assert all(relocation in ours[1] for relocation in theirs[1])
        else:
            assert ours == theirs, item["name"]
    for table in TABLES:
        kept = entries(output, table, {f["name"] for f in account["functions"]})
        there = entries(patched, table, {f["patched_name"] for f in account["functions"]})
        total = sum(len(data) for name, _, data in output.sections if name == table)
        assert kept == there and total == kept * TABLES[table], table
    extra = unneeded(output, account, PC_RELATIVE)
    assert not extra, extra
    undefined = {
        s["name"] for s in output.symbols if s["section"] is None and s["name"] and s["type"] != "STT_FILE"
    }
    assert undefined == {reference["name"] for reference in account["references"]}
    assert run(["readelf", "-aW", output_path]).stderr == ""
    linked = output_path.with_suffix(".linked.o")
    assert run(["ld", "-r", "-o", linked, output_path]).stderr == ""
