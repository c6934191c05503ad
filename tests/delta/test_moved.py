# SPDX-License-Identifier: GPL-2.0-or-later
"""A static local that is used at another place may be another variable, and that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta
from tests.delta.compiling import CASES, compile_c, needs_gcc

pytestmark = needs_gcc

CALLS = """
void first(int); void second(int); void third(int);
int f(int x)
{
	first(x);
	if (x > 1) { %s }
	second(x);
	if (x > 2) { %s }
	third(x + %d);
	return x;
}
int g(int x) { static int other_one; return other_one += x; }
"""
PLAIN = "int f(int x) { if (x > 1) { %s x ^= 5; } if (x & 4) { %s x *= 77; } return x - %d; }"
COUNT = "static int count; count += x;"


def notes(folder: Path, text: str, before: tuple[object, ...], after: tuple[object, ...]) -> list[str]:
    objects = []
    for name, words in (("before", before), ("after", after)):
        source = folder / f"{name}.c"
        source.write_text(f'#include "{CASES / "kernel.h"}"\n{text % words}')
        objects.append(compile_c(source, folder / name / "unit.o"))
    result = diff(*objects)
    assert isinstance(result, Delta) and result.changed, result
    return [note for note in result.notes if "at another place" in note]


@pytest.mark.parametrize("text", [CALLS, PLAIN])
def test_one_taken_out_of_a_block_and_another_put_into_another(text: str, tmp_path: Path) -> None:
    (note,) = notes(tmp_path, text, (COUNT, "", 1), ("", COUNT, 1))
    assert note.startswith("count.") and "'f'" in note and "another name" in note


@pytest.mark.parametrize("text", [CALLS, PLAIN])
def test_one_that_stays_in_its_block(text: str, tmp_path: Path) -> None:
    assert notes(tmp_path, text, (COUNT, "", 1), (COUNT.replace("+= x", "+= x * 3"), "", 2)) == []


def test_one_that_an_unchanged_function_uses_is_known(tmp_path: Path) -> None:
    """g() is as before, so its variable is the one that it was, wherever f() looks at it."""
    assert notes(tmp_path, CALLS, (COUNT, "", 1), (COUNT, "", 2)) == []
