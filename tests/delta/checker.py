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
from tests.delta.processors import PROCESSORS, Processor, loongarch_branch

NUMBERS = re.compile(r"(\.\d+|\.new)+(?=$|\.)")
# Table -> its entries' size in the cases, and where their first relocated field is.
TABLES = {
    "__bug_table": (12, 0),
    "__ex_table": (12, 0),
    ".altinstructions": (12, 0),
    ".smp_locks": (4, 0),
    "__jump_table": (16, 0),
    "__ftr_fixup": (48, 16),
}


@dataclass
class Loaded:
    """An object by way of pyelftools: sections by index, symbols, relocations per section."""

    sections: list[tuple[str, int, bytes]]
    symbols: list[dict[str, Any]]
    relocations: dict[int, list[tuple[int, int, int, int]]]
    instructions: dict[str, list[int]]
    entsizes: list[int]
    processor: Processor

    def bias(self, section: int, offset: int, kind: int) -> int:
        """What to add to an addend: in x86 code, the distance to the end of the instruction."""
        name, flags, _ = self.sections[section]
        if name == "__ftr_fixup":  # counts from the entry
            return -(offset % 48)
        if kind not in self.processor.pc_relative or not flags & 4:
            return 0
        if self.processor.bias is not None:
            return self.processor.bias
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
        processor = PROCESSORS[elf["e_machine"]]
    for index, found in relocations.items():
        relocations[index] = [entry for entry in found if entry[1] not in processor.ignored]
    starts = instruction_starts(path) if processor.bias is None else {}
    return Loaded(sections, symbols, relocations, starts, entsizes, processor)


def plain(name: str) -> str:
    """A symbol's name without the numbers that compilers give."""
    return NUMBERS.sub("", name)


def variable(name: str) -> str:
    """As `plain`; clang's name of a static local says which function has it, which may be another now."""
    words = plain(name).split(".")
    return (
        words[-1]
        if len(words) == 2 and words[1] not in ("cold", "part", "isra", "constprop")
        else plain(name)
    )


def meaning(obj: Loaded, section: int, relocation: tuple[int, int, int, int], renamed: dict[str, str]) -> Any:
    """What a relocation reaches: text, a symbol and the distance into it, or bytes without a name."""
    offset, kind, index, addend = relocation
    symbol = obj.symbols[index]
    bias = obj.bias(section, offset, kind)
    if symbol["section"] is None:
        return (variable(renamed.get(symbol["name"], symbol["name"])), addend + bias)
    name, flags, data = obj.sections[symbol["section"]]
    place = symbol["value"] + addend + bias
    if name == ".toc":  # what the pointer points to
        pointer = next(r for r in obj.relocations[symbol["section"]] if r[0] == place)
        return (".toc", meaning(obj, symbol["section"], pointer, renamed))
    if flags & 0x30 == 0x30:
        return data[place : data.index(b"\0", place)]
    width = obj.entsizes[symbol["section"]]
    if flags & 0x10 and width:  # merged by content, whatever it is called
        return (place % width, data[place - place % width :][:width])
    best = None
    for other in obj.symbols:
        named = other["section"] == symbol["section"] and other["type"] in ("STT_FUNC", "STT_OBJECT")
        if named and other["value"] <= place < other["value"] + max(other["size"], 1):
            candidate = variable(renamed.get(other["name"], other["name"]))
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
        known = variable(renamed.get(alone[0]["name"], alone[0]["name"]))
        return (known, place - alone[0]["value"])
    return (name, data[place : place + 2])


def function(obj: Loaded, name: str, renamed: dict[str, str]) -> tuple[bytes, list[Any]]:
    """A function's bytes, relocated fields zeroed, and its relocations by meaning."""
    found = [s for s in obj.symbols if s["name"] == name and s["type"] == "STT_FUNC" and s["section"]]
    assert len(found) == 1, f"{name}: {len(found)} symbols"
    section, start = found[0]["section"], found[0]["value"]
    content = bytearray(obj.sections[section][2][start : start + found[0]["size"]])
    relocations = []
    inner: dict[int, int] = {}  # branches within the function: place -> target
    for relocation in sorted(obj.relocations.get(section, [])):
        offset, kind = relocation[0] - start, relocation[1]
        if 0 <= offset < len(content):
            if obj.processor.bias is None:  # elsewhere a field is a part of an instruction, and empty anyway
                width = obj.processor.width.get(kind, 4)
                content[offset : offset + width] = bytes(width)
            if kind in obj.processor.mask:
                size, mask = obj.processor.mask[kind]
                word = int.from_bytes(content[offset : offset + size], "little") & ~mask
                content[offset : offset + size] = word.to_bytes(size, "little")
            symbol = obj.symbols[relocation[2]]
            if kind in obj.processor.inner and symbol["name"].startswith(".L"):
                inner[offset] = symbol["value"] + relocation[3] - start
                continue
            shape = obj.processor.same.get(kind, kind)
            relocations.append((offset, shape, meaning(obj, section, relocation, renamed)))
    if obj.processor.inner:
        relocated = {offset for offset, _, _ in relocations}
        for offset in range(0, len(content) - 3, 4):
            target, rest = loongarch_branch(content[offset : offset + 4], offset)
            if rest is not None and offset not in relocated:
                content[offset : offset + 4] = rest
                relocations.append((offset, "branch", inner.get(offset, target)))
    return bytes(content), sorted(relocations, key=lambda found: found[0])


def entries(obj: Loaded, name: str, functions: set[str]) -> int:
    """How many entries of a table are about code of these functions."""
    (size, first), count = TABLES[name], 0
    for index, (section, _, _) in enumerate(obj.sections):
        if section != name:
            continue
        for offset, _, symbol, addend in obj.relocations.get(index, []):
            if offset % size != first:
                continue
            target = obj.symbols[symbol]
            place = target["value"] + addend - first
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
            assert all(one in ours[1] for one in theirs[1] if one[1] != "branch")
        else:
            assert ours == theirs, item["name"]
    for table in TABLES:
        kept = entries(output, table, {f["name"] for f in account["functions"]})
        there = entries(patched, table, {f["patched_name"] for f in account["functions"]})
        total = sum(len(data) for name, _, data in output.sections if name == table)
        assert kept == there and total == kept * TABLES[table][0], table
    extra = unneeded(output, account)
    assert not extra, extra
    undefined = {
        s["name"] for s in output.symbols if s["section"] is None and s["name"] and s["type"] != "STT_FILE"
    }
    assert undefined == {reference["name"] for reference in account["references"]}
    assert run([output.processor.readelf, "-aW", output_path]).stderr == ""
    linked = output_path.with_suffix(".linked.o")
    assert run([*output.processor.ld, "-r", "-o", linked, output_path]).stderr == ""
