# SPDX-License-Identifier: GPL-2.0-or-later
"""GNU readelf as an oracle: its listings as plain values, to compare with what the reader found."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from kbuild_py.run import run

needs_readelf = pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
needs_ld = pytest.mark.skipif(shutil.which("ld") is None, reason="ld is not installed")

_SECTION = re.compile(
    r"^ +\[ *(\d+)\] (.*?) +([A-Z0-9_]+|0x[0-9a-f]+) +[0-9a-f]{16} [0-9a-f]+ ([0-9a-f]+) ([0-9a-f]{2,}) "
    r"([A-Za-z ]{3,}?) +(\d+) +(\d+) +(\d+)$"
)
_SYMBOL = re.compile(
    r"^ *(\d+): ([0-9a-f]{16}) +(\d+|0x[0-9a-f]+) (\S+) +(\S+) +(\S+) +(?:\[.*\] +)?(\S+)(?: (.*))?$"
)
_TABLE = re.compile(r"^Relocation section '(.*)' at offset 0x[0-9a-f]+ contains (\d+) entr")
_RELOCATION = re.compile(r"^([0-9a-f]{16}) +([0-9a-f]{16}) (R_\S+|unrecognized: \S+)(?: +(.*))?$")


@dataclass(frozen=True, slots=True)
class Listing:
    """sections: (index, name, size, align); symbols: (index, value, size, section index as text, name);
    relocations: (offset, type, symbol index) per table name, in order."""

    sections: tuple[tuple[int, str, int, int], ...]
    symbols: tuple[tuple[int, int, int, str, str], ...]
    relocations: tuple[tuple[str, tuple[tuple[int, str, int], ...]], ...]
    complaints: str


def listing(path: Path) -> Listing:
    """What `readelf -SW -sW -rW` prints for an object with fewer than 65,280 sections."""
    result = run(["readelf", "-SW", "-sW", "-rW", path], check=False)
    sections, symbols = [], []
    tables: list[tuple[str, list[tuple[int, str, int]]]] = []
    for line in result.stdout.splitlines():
        if found := _SECTION.match(line):
            name = "" if found[1] == "0" else found[2].strip()
            sections.append((int(found[1]), name, int(found[4], 16), int(found[9])))
        elif found := _TABLE.match(line):
            tables.append((found[1], []))
        elif found := _RELOCATION.match(line):
            tables[-1][1].append((int(found[1], 16), found[3], int(found[2], 16) >> 32))
        elif found := _SYMBOL.match(line):
            name = found[8] or ""
            symbols.append((int(found[1]), int(found[2], 16), int(found[3], 0), found[7], name))
    relocations = tuple((name, tuple(rows)) for name, rows in tables)
    return Listing(tuple(sections), tuple(symbols), relocations, result.stderr)
