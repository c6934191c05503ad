# SPDX-License-Identifier: GPL-2.0-or-later
"""ppc64le: jumps and calls out of the patch module."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Options, Verdicts
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


def pair(folder: Path, old: str, new: str, text: str = TEXT) -> tuple[ObjectFile, ObjectFile]:
    objects = []
    for name, content in (("before", text), ("after", text.replace(old, new))):
        (folder / name).mkdir()
        (folder / name / "unit.c").write_text(content)
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


def test_what_is_called_without_room_is_copied(tmp_path: Path) -> None:
    """The module loader refuses such a call into the kernel; within the patch module it is right."""
    result = diff(*pair(tmp_path, "kept(x) + 1", "kept(x) + 2"))
    assert isinstance(result, Delta) and result.object is not None, result
    assert [(f.name, f.status.value, f.replaces) for f in result.functions] == [
        ("kept", "copied", False),
        ("g", "changed", True),
    ]
    assert "without room" in result.functions[0].why[0].text
    undefined = {symbol.name for symbol in result.object.symbols if not symbol.section}
    assert "other" in undefined and "kept" not in undefined


def test_what_a_copy_calls_and_jumps_to_is_copied(tmp_path: Path) -> None:
    more = "__attribute__((noipa)) static int last(int x) { return other(x) - 2; }\n"
    more += "__attribute__((noipa)) static int next(int x) { return last(x + 5); }\n"
    more += "int h(int x) { return next(x) + 7; }\n"
    text = TEXT.replace("int h(int x) { return other(x) + 1; }", more)
    result = diff(*pair(tmp_path, "next(x) + 7", "next(x) + 8", text))
    assert isinstance(result, Delta), result
    assert [function.name for function in result.functions] == ["last", "next", "h"]


@pytest.mark.parametrize(
    ("kept", "g"),
    [
        ("static int kept", "store(kept); return kept(x) + 1"),  # its address must stay the kernel's
        ('__attribute__((section(".noinstr.text"))) static int kept', "return kept(x) + 1"),
    ],
)
def test_what_cannot_be_copied_is_refused(kept: str, g: str, tmp_path: Path) -> None:
    text = "void store(int (*)(int));\n" + TEXT.replace("static int kept", kept).replace(
        "return kept(x) + 1", g
    )
    result = diff(*pair(tmp_path, "kept(x) + 1", "kept(x) + 2", text))
    assert isinstance(result, Verdicts), result
    assert {verdict.rule.name for verdict in result.verdicts} == {"call-without-room"}


def test_what_every_module_has_resolves(tmp_path: Path) -> None:
    text = TEXT + "int data; int read(int x) { return x; }"
    before, after = pair(tmp_path, "read(int x) { return x", "read(int x) { return data + x", text)
    assert any(symbol.name == ".TOC." for symbol in after.symbols)
    result = diff(before, after, Options(known=frozenset({"other"})))
    assert isinstance(result, Delta), result


def test_a_call_of_another_file_has_room(tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, "h(int x) { return other(x) + 1", "h(int x) { return other(x) + 2"))
    assert isinstance(result, Delta), result
    assert not any("TOC" in note for note in result.notes)


def test_a_copy_brings_its_jump_table(tmp_path: Path) -> None:
    """What leads to places in the function's middle is no address that the kernel's function must keep."""
    cases = " ".join(f"case {i}: x = other({i * i % 7}) + {i * 5 % 8}; break;" for i in range(7))
    text = TEXT.replace("return other(x) * 3;", f"switch (x & 7) {{ {cases} }} return x;")
    result = diff(*pair(tmp_path, "kept(x) + 1", "kept(x) + 2", text))
    assert isinstance(result, Delta) and result.object is not None, result
    assert [(f.name, f.status.value) for f in result.functions] == [("kept", "copied"), ("g", "changed")]
    (table,) = (section for section in result.object.sections if section.name == ".toc")
    (pointer,) = table.relocations
    home = result.object.symbols[pointer.symbol].section
    assert result.object.sections[home].name == ".text.kept" and pointer.addend
