# SPDX-License-Identifier: GPL-2.0-or-later
"""ppc64le: jumps and calls out of the patch module."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Verdicts
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.run import run

COMPILER = "powerpc64le-linux-gnu-gcc"
FLAGS = [
    "-O2", "-mcmodel=medium", "-mno-pcrel", "-ffunction-sections", "-fdata-sections", "-fno-pie",
    "-fno-asynchronous-unwind-tables", "-mprofile-kernel", "-pg",
]  # fmt: skip
TEXT = """
int other(int);
__attribute__((noipa)) static int kept(int x) { return other(x) * 3; }
int f(int x) { if (x > 1) return kept(x + 1); return x; }
int g(int x) { return kept(x) + 1; }
int h(int x) { return other(x) + 1; }
"""
pytestmark = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")


def pair(folder: Path, old: str, new: str) -> tuple[ObjectFile, ObjectFile]:
    objects = []
    for name, text in (("before", TEXT), ("after", TEXT.replace(old, new))):
        (folder / name).mkdir()
        (folder / name / "unit.c").write_text(text)
        run([COMPILER, *FLAGS, "-c", "unit.c"], cwd=folder / name)
        objects.append(read_object(folder / name / "unit.o"))
    return objects[0], objects[1]


def test_a_sibling_call_is_refused(tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, "kept(x + 1)", "kept(x + 2)"))
    assert isinstance(result, Verdicts), result
    (verdict,) = result.verdicts
    assert verdict.rule.name == "sibling-call" and ".text.f+0x" in str(verdict.place)
    assert "'f' ends with a jump to kept" in verdict.cause


def test_a_sibling_call_of_a_function_that_is_shipped_is_none(tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, "other(x) * 3", "other(x) * 5"))
    assert isinstance(result, Delta), result
    assert [function.name for function in result.functions] == ["kept"]


def test_a_call_without_room_is_noted(tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, "kept(x) + 1", "kept(x) + 2"))
    assert isinstance(result, Delta), result
    assert any("g: calls kept" in note for note in result.notes)


def test_a_call_of_another_file_has_room(tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, "h(int x) { return other(x) + 1", "h(int x) { return other(x) + 2"))
    assert isinstance(result, Delta), result
    assert not any("TOC" in note for note in result.notes)
