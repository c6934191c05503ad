# SPDX-License-Identifier: GPL-2.0-or-later
"""Why functions changed, from debug information of both compilers in both forms, and without any."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Verdicts
from kbuild_py.delta.report import WIDTH, report
from kbuild_py.delta.schema import diff_schema, schema_text
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.run import run
from tests.delta.compiling import CASES, FLAGS, compile_case, needs_gcc

pytestmark = needs_gcc

COMMITTED = Path(__file__).parents[2] / "docs" / "schema" / "diff-1.schema.json"
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
_GCC_ONLY = ("-mrecord-mcount", "-mskip-rax-setup", "-fno-ipa-icf", "-fno-strict-aliasing")

HEADER = """
int other(int);
static inline __attribute__((always_inline)) int deep(int x)
{
    return other(x) * 7;
}
static inline __attribute__((always_inline)) int outer(int x)
{
    if (x > 5)
        x = deep(x) + 3;
    return x;
}
"""
SOURCE = """
#include "sub/inner.h"
static int counter = 5;
int state __attribute__((section(".data.state"))) = 9;
int f(int x)
{
    return outer(x) + counter++ + state;
}
int g(int x)
{
    return other(x) + 2;
}
"""


def compiled(folder: Path, compiler: str, flags: str, *edit: str) -> ObjectFile:
    """The two files, compiled; `edit` is what is replaced in them."""
    (folder / "sub").mkdir(parents=True)
    old, new = edit or ("", "")
    assert not old or old in HEADER + SOURCE
    (folder / "sub" / "inner.h").write_text(HEADER.replace(old, new) if old else HEADER)
    (folder / "unit.c").write_text(SOURCE.replace(old, new) if old else SOURCE)
    kept = [flag for flag in FLAGS if compiler == "gcc" or flag not in _GCC_ONLY]
    run([compiler, *kept, *flags.split(), "-c", "-o", folder / "unit.o", "unit.c"], cwd=folder)
    return read_object(folder / "unit.o")


def pair(folder: Path, compiler: str, flags: str, *edit: str) -> tuple[ObjectFile, ObjectFile]:
    one = compiled(folder / "before", compiler, flags)
    return one, compiled(folder / "after", compiler, flags, *edit)


DEBUG = pytest.mark.parametrize("flags", ["-gdwarf-4", "-gdwarf-5"])
WITH = pytest.mark.parametrize("compiler", COMPILERS)


@WITH
@DEBUG
def test_code_of_an_inlined_function(compiler: str, flags: str, tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, compiler, flags, "* 7", "* 11"))
    assert isinstance(result, Delta), result
    (function,) = result.functions
    assert (function.name, function.source.split(":")[0]) == ("f", "unit.c")
    first = function.why[0]
    assert first.cause.value == "inline" and "inlines deep (by way of outer)" in first.text
    assert "sub/inner.h:5" in first.text
    assert function.first is not None and function.first.inlined == ("outer", "deep")
    text = report(result)
    assert "because inlines deep (by way of outer), whose code differs at sub/inner.h:5" in text
    assert "# sub/inner.h:5" in text


@WITH
@DEBUG
def test_the_line_of_an_edit(compiler: str, flags: str, tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, compiler, flags, "other(x) + 2", "other(x) + 4"))
    assert isinstance(result, Delta), result
    (function,) = result.functions
    assert function.name == "g" and function.why[0].cause.value == "body"
    assert function.first is not None
    assert function.first.source == function.first.original_source == "unit.c:11"
    assert "2" in function.first.original and "4" in function.first.patched
    assert function.first.inlined == ()


@WITH
def test_targets_are_named(compiler: str, tmp_path: Path) -> None:
    result = diff(
        *pair(tmp_path, compiler, "", "return other(x) + 2", "int another(int); return another(x) + 2")
    )
    assert isinstance(result, Delta), result
    (function,) = result.functions
    assert function.first is not None
    assert (function.first.original, function.first.patched) == ("call other", "call another")
    assert function.first.source == function.source == ""
    assert "original  call other\n" in report(result) and "patched   call another" in report(result)


@WITH
@DEBUG
def test_verdicts_have_lines(compiler: str, flags: str, tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, compiler, flags, "= 5", "= 6"))
    assert isinstance(result, Verdicts)
    (verdict,) = result.verdicts
    assert verdict.source == "unit.c:3"
    assert f"{verdict.place}: unit.c:3: the initial value" in str(verdict.problem())
    edit = ("int g(int x)", "__attribute__((no_instrument_function)) int g(int x)")
    one = compiled(tmp_path / "three", compiler, flags, *edit)
    two = diff(one, replace(one, path="other.o"))
    assert isinstance(two, Delta) and not two.changed
    source = SOURCE.replace(*edit)
    (tmp_path / "four" / "sub").mkdir(parents=True)
    (tmp_path / "four" / "sub" / "inner.h").write_text(HEADER)
    (tmp_path / "four" / "unit.c").write_text(source.replace("other(x) + 2", "other(x) + 3"))
    kept = [flag for flag in FLAGS if compiler == "gcc" or flag not in _GCC_ONLY]
    run([compiler, *kept, flags, "-c", "unit.c"], cwd=tmp_path / "four")
    refused = diff(one, read_object(tmp_path / "four" / "unit.o"))
    assert isinstance(refused, Verdicts)
    assert [(v.rule.name, v.source) for v in refused.verdicts] == [("no-fentry", "unit.c:10")]


def test_an_inline_function_with_code_of_its_own(tmp_path: Path) -> None:
    text = (
        "int other(int);\nstatic inline __attribute__((no_instrument_function)) int h(int x)\n"
        "{ return other(x) + 1; }\nint (*pointer)(int) = h;\nint f(int x) { return h(x) * 3; }\n"
    )
    objects = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "unit.c").write_text(text if name == "one" else text.replace("+ 1", "+ 2"))
        run(["gcc", *FLAGS, "-g", "-c", "unit.c"], cwd=tmp_path / name)
        objects.append(read_object(tmp_path / name / "unit.o"))
    result = diff(*objects)
    assert isinstance(result, Verdicts)
    assert "it is inline in the source" in result.verdicts[0].cause


# --- schema and text --------------------------------------------------------------------------------------


def test_the_schema_is_up_to_date() -> None:
    command = "python -m kbuild_py.delta.schema > docs/schema/diff-1.schema.json"
    assert COMMITTED.read_text() == schema_text(), f"run: {command}"
    Draft202012Validator.check_schema(diff_schema())


@pytest.mark.parametrize("flags", ["", "-g"])
@pytest.mark.parametrize("name", sorted(folder.name for folder in CASES.iterdir() if folder.is_dir()))
def test_accounts_are_as_the_schema_says(name: str, flags: str, tmp_path: Path) -> None:
    validator = Draft202012Validator(json.loads(COMMITTED.read_text()))
    result = diff(*compile_case(name, tmp_path, *flags.split()))
    account = json.loads(json.dumps(result.to_json()))
    validator.validate(account)
    for key in list(account):
        assert not validator.is_valid({k: v for k, v in account.items() if k != key})
    if isinstance(result, Delta):
        assert all(len(line) <= WIDTH and line == line.rstrip() for line in report(result).splitlines())
        assert not flags or all(function.source for function in result.functions)
    else:
        assert all(verdict["anchor"].startswith("docs/verdicts.md#") for verdict in account["verdicts"])
