# SPDX-License-Identifier: GPL-2.0-or-later
"""Each folder of cases/ is a small change of a C file with what the diff must say about it.

expected.json: about; then `unchanged`, or `rules` (names of verdicts), or `functions` (name without the
compiler's numbers -> status) with, where given, causes (function -> first cause), data and locals (names;
`*` for the compiler's number), undefined (among the references), tables (section -> bytes), forced
(functions), callbacks (kind and function).
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Verdicts
from kbuild_py.elf.write import write_object
from tests.delta.checker import check, plain
from tests.delta.compiling import CASES, compile_case, needs_gcc

NAMES = sorted(folder.name for folder in CASES.iterdir() if folder.is_dir())


@needs_gcc
@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, tmp_path: Path) -> None:
    expected = json.loads((CASES / name / "expected.json").read_text())
    before, after = compile_case(name, tmp_path)
    result = diff(before, after)
    if "rules" in expected:
        assert isinstance(result, Verdicts), result
        assert {verdict.rule.name for verdict in result.verdicts} == set(expected["rules"])
        assert all(verdict.place and verdict.cause for verdict in result.verdicts)
        return
    assert isinstance(result, Delta), result
    if expected.get("unchanged"):
        assert not result.changed and not result.functions
        return
    assert result.object is not None
    output = tmp_path / "output.o"
    output.write_bytes(write_object(result.object))
    check(tmp_path / "after" / "unit.o", output, result.to_json(), branches=name == "sched-text")
    # The module loader refuses a relocated field that is not zero.
    for section in result.object.sections:
        for relocation in section.relocations:
            field = section.data[relocation.offset : relocation.offset + 4]
            assert not any(field), f"{section.name}+{relocation.offset:#x}"
    found = {plain(function.name): function for function in result.functions}
    assert {key: function.status.value for key, function in found.items()} == expected["functions"]
    for function, cause in expected.get("causes", {}).items():
        assert found[function].why[0].cause.value == cause, found[function].why
    for function, carried in expected.get("carries", {}).items():
        assert sorted(found[function].carries) == carried
        assert found[function].replaces == bool(carried)
    if "forced" in expected:
        assert [plain(f.name) for f in result.functions if f.force_unsafe] == expected["forced"]
    if "callbacks" in expected:
        assert sorted([item.kind, plain(item.function)] for item in result.callbacks) == expected["callbacks"]
    _same_names(
        {item.name for item in result.data if not plain(item.name).startswith("__func__")}, expected, "data"
    )
    if "locals" in expected:
        _same_names(set(result.locals), expected, "locals")
    assert {reference.name for reference in result.references} >= set(expected.get("undefined", ()))
    for section, size in expected.get("tables", {}).items():
        assert sum(s.size for s in result.object.sections if s.name == section) == size, section


def _same_names(found: set[str], expected: dict[str, list[str]], key: str) -> None:
    patterns = expected.get(key, [])
    unmatched = [name for name in found if not any(fnmatch(name, pattern) for pattern in patterns)]
    unfound = [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in found)]
    assert not unmatched and not unfound, (key, found)


@needs_gcc
def test_static_local_keeps_the_number_that_the_kernel_knows(tmp_path: Path) -> None:
    before, after = compile_case("static-local", tmp_path)
    result = diff(before, after)
    assert isinstance(result, Delta)
    original = {symbol.name for symbol in before.symbols}
    assert result.locals <= original
    # The new variable got the number of the old one in this compile, and yet both are told apart.
    assert not {item.name for item in result.data} & result.locals


@needs_gcc
@pytest.mark.parametrize("name", NAMES)
def test_an_object_with_itself_is_no_change(name: str, tmp_path: Path) -> None:
    for obj in compile_case(name, tmp_path):
        result = diff(obj, obj)
        if isinstance(result, Verdicts):  # what may not be in a kernel at all
            assert {verdict.rule.name for verdict in result.verdicts} <= {
                "tls",
                "common-symbol",
                "bad-marker",
            }
        else:
            assert not result.changed and not result.removed
