# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines and scopes of real objects; addr2line is the oracle, and damage never raises anything."""

from __future__ import annotations

import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.elf.lines import NO_LINES, read_lines
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.elf.scopes import read_scopes
from kbuild_py.run import run

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
FLAGS = ["-O2", "-ffunction-sections", "-fdata-sections", "-fno-pie", "-fno-asynchronous-unwind-tables", "-c"]
HEADER = """
static inline __attribute__((always_inline)) int deep(int x)
{
    return x * 7 + other(x);
}
static inline __attribute__((always_inline)) int outer(int x)
{
    if (x > 5)
        x = deep(x) + 3;
    return x;
}
static inline int kept(int x) { return other(x) * 1234; }
"""
SOURCE = """
int other(int);
#include "sub/inner.h"
int counter = 5;
static int hidden = 6;
int (*pointer)(int) = kept;
int f(int x)
{
    hidden++;
    if (x)
        return outer(x) + counter;
    return other(hidden) + kept(x);
}
__attribute__((section(".shared"))) int g(int x)
{
    return other(x) + 2;
}
__attribute__((section(".shared"))) int h(int x)
{
    return outer(x + 9);
}
"""

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no compiler is installed")


def compiled(folder: Path, compiler: str, *flags: str) -> tuple[Path, ObjectFile]:
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "inner.h").write_text(HEADER)
    (folder / "unit.c").write_text(SOURCE)
    path = folder / "unit.o"
    run([compiler, *FLAGS, *flags, "-o", path, "unit.c"], cwd=folder)
    return path, read_object(path)


def oracle(path: Path, section: str, offset: int) -> list[tuple[str, str]]:
    """Function and file:line of the code at an offset, innermost first."""
    lines = run(["addr2line", "-e", path, "-j", section, "-f", "-i", f"{offset:#x}"]).stdout.splitlines()
    places = [re.sub(r" \(discriminator.*", "", line) for line in lines[1::2]]
    return list(zip(lines[::2], places, strict=True))


@pytest.mark.parametrize("form", ["-gdwarf-4", "-gdwarf-5", "-gdwarf-5 -gz=zlib", "-gdwarf-4 -O1"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_lines_and_scopes_are_those_of_addr2line(compiler: str, form: str, tmp_path: Path) -> None:
    path, obj = compiled(tmp_path, compiler, *form.split())
    lines = read_lines(obj)
    scopes = read_scopes(obj, lines)
    assert scopes.units == ("unit.c",)
    compared = 0
    for name in (".text.f", ".shared"):
        section = next(section for section in obj.sections if section.name == name)
        for offset in range(section.size):
            expected = oracle(path, name, offset)
            found = lines.at(section.index, offset)
            if expected[0][1].endswith(":?") or expected[0][1].endswith(":0"):
                continue  # padding
            assert found is not None, (name, offset)
            file, line = expected[0][1].rsplit(":", 1)
            assert found[1] == int(line) and file.endswith(found[0]), (name, offset, found, expected)
            inlined = tuple(function for function, _ in reversed(expected))[1:]
            assert scopes.chain(section.index, offset) == inlined, (name, offset)
            compared += bool(inlined)
    assert compared > 10
    variables = {
        next(s.name for s in obj.symbols if s.section == at[0] and s.value == at[1] and s.type == 1): place
        for at, place in scopes.variables.items()
    }
    assert variables == {"counter": ("unit.c", 4), "hidden": ("unit.c", 5), "pointer": ("unit.c", 6)}
    # `kept` has code of its own because its address is used, and is inlined as well.  clang does not say
    # whether the source has the word.
    starts = {s.name for s in obj.symbols if (s.section, s.value) in scopes.inline and s.type == 2}
    assert starts == ({"kept"} if compiler == "gcc" else set())


def test_without_debug_information_nothing_is_known(tmp_path: Path) -> None:
    _, obj = compiled(tmp_path, COMPILERS[0])
    assert read_lines(obj) == NO_LINES
    assert not read_scopes(obj, NO_LINES).units


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("seed", range(30))
def test_damage_is_no_error(seed: int, compiler: str, tmp_path: Path) -> None:
    _, obj = compiled(tmp_path, compiler, "-gdwarf-5" if seed % 2 else "-gdwarf-4")
    chance = random.Random(seed)
    for _ in range(20):
        sections = list(obj.sections)
        for section in obj.sections:
            if section.name.startswith(".debug_"):
                data = bytearray(section.data)
                for _ in range(chance.randrange(4)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                if chance.random() < 0.2:
                    data = data[: chance.randrange(len(data))]
                kept = tuple(r for r in section.relocations if r.offset + 8 <= len(data))
                sections[section.index] = replace(section, data=bytes(data), size=len(data), relocations=kept)
        broken = replace(obj, sections=tuple(sections))
        read_scopes(broken, read_lines(broken))
