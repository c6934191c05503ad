# SPDX-License-Identifier: GPL-2.0-or-later
"""Markers that patch authors leave in the source, as kpatch's and the kernel's own macros write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Verdicts
from tests.delta.snippets import COMPILERS, compile_text

CODE = "int f(int x) { return other(x) * 3; } static noinline int g(int x) { return other(x); } "
CODE += "int h(int x) { return g(x) + g(4); } "


def both(compiler: str, folder: Path, before: str, after: str) -> Delta | Verdicts:
    return diff(
        compile_text(compiler, before, folder / "before" / "unit.o"),
        compile_text(compiler, after, folder / "after" / "unit.o"),
    )


def ignore(name: str) -> str:
    return f'void *__kpatch_ignore_func_{name} section(".kpatch.ignore.functions") = {name};'


@pytest.mark.parametrize("compiler", COMPILERS)
def test_notes_tell_what_markers_did(compiler: str, tmp_path: Path) -> None:
    after = CODE.replace("other(x) * 3", "other(x) * 5").replace("g(4)", "g(5)") + ignore("h") + ignore("g")
    result = both(compiler, tmp_path, CODE, after)
    assert isinstance(result, Delta) and [item.name for item in result.functions] == ["f"]
    assert any(note.startswith("h: left as the kernel has it") for note in result.notes), result.notes
    assert any("function g is to be ignored, and does not change" in note for note in result.notes)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_everything_ignored_is_no_change(compiler: str, tmp_path: Path) -> None:
    result = both(compiler, tmp_path, CODE, CODE.replace("* 3", "* 5") + ignore("f"))
    assert isinstance(result, Delta) and not result.changed and result.notes


@pytest.mark.parametrize("compiler", COMPILERS)
def test_an_ignored_caller_that_would_have_to_carry_is_refused(compiler: str, tmp_path: Path) -> None:
    """g has no place for ftrace, so h would have to be patched with it."""
    text = CODE.replace("static noinline int g", "static noinline notrace int g")
    result = both(compiler, tmp_path, text, text.replace("return other(x); }", "return other(x + 1); }"))
    assert isinstance(result, Delta) and {item.name for item in result.functions} == {"g", "h"}
    changed = text.replace("return other(x); }", "return other(x + 1); }").replace("g(4)", "g(5)")
    result = both(compiler, tmp_path, text, changed + ignore("h"))
    assert isinstance(result, Verdicts)
    assert {verdict.rule.name for verdict in result.verdicts} == {"ignored-function"}


def test_hooks_of_old_kernels(tmp_path: Path) -> None:
    """Before there were callbacks, a global variable of one name stood in each file."""
    hook = (
        "static void start(void) { use(0); } struct kpatch_load { void (*fn)(void); char *objname; } "
        'kpatch_load_data section(".kpatch.hooks.load") = { start, NULL };'
    )
    result = both(COMPILERS[0], tmp_path, CODE, CODE + hook)
    assert isinstance(result, Delta)
    assert [(item.kind, item.function) for item in result.callbacks] == [("load", "start")]
    assert [(item.name, item.status.value) for item in result.functions] == [("start", "new")]
    assert not result.data
