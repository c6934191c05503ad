# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases of cases/ on every processor, and what is special to one of them.

The same C gives the same answer everywhere, but for what a processor or a compiler does in its own way:
`expected.json` may have an object `on`, whose keys name a processor or a toolchain (processors.py) and whose
values stand in for the others there.  `skip` says why a case makes no sense on one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Verdicts
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.write import write_object
from tests.delta.checker import check, plain
from tests.delta.processors import BY_NAME, CASES, Toolchain

NAMES = sorted(folder.name for folder in CASES.iterdir() if folder.is_dir())
MAIN = ("x86_64-clang", "aarch64", "ppc64le", "s390x", "loongarch64-clang")
# What a second compiler or other flags change is seen in these.
SOME = (
    "alternative", "body", "carried", "cold", "exception", "jump-label", "notrace", "operations",
    "sched-text", "static-local", "string", "switch", "warn", "warn-line",
)  # fmt: skip
RUNS = [
    (toolchain, case)
    for toolchain in BY_NAME
    for case in NAMES
    if toolchain in MAIN or case in SOME
]  # fmt: skip


@pytest.fixture(scope="session")
def compiled(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], tuple[ObjectFile, ObjectFile]]:
    """What was compiled already: (toolchain, case) -> both objects."""
    return {}


def expectation(toolchain: Toolchain, case: str) -> dict[str, Any]:
    """What the case says about this processor and toolchain."""
    expected: dict[str, Any] = json.loads((CASES / case / "expected.json").read_text())
    others = expected.pop("on", {})
    for key in ("clang" if "clang" in toolchain.name else "gcc", toolchain.processor, toolchain.name):
        expected |= others.get(key, {})
    return expected


@pytest.mark.parametrize(("toolchain", "case"), RUNS)
def test_case(toolchain: str, case: str, tmp_path: Path) -> None:
    tools = BY_NAME[toolchain]
    expected = expectation(tools, case)
    if "skip" in expected:
        pytest.skip(expected["skip"])
    before, after = (
        tools.compile(CASES / case / f"{side}.c", tmp_path / side / "unit.o") for side in ("before", "after")
    )
    same = diff(before, before)
    if isinstance(same, Delta):
        assert not same.changed and not same.removed
    result = diff(before, after)
    if "rules" in expected:
        assert isinstance(result, Verdicts), result
        assert {verdict.rule.name for verdict in result.verdicts} == set(expected["rules"])
        return
    assert isinstance(result, Delta), result
    if expected.get("unchanged"):
        assert not result.changed
        return
    assert result.object is not None
    output = tmp_path / "output.o"
    output.write_bytes(write_object(result.object))
    check(tmp_path / "after" / "unit.o", output, result.to_json(), branches=case == "sched-text")
    found = {plain(function.name): function for function in result.functions}
    # Not every compiler splits off unlikely parts, and not for every processor.
    statuses = {k: f.status.value for k, f in found.items() if not k.endswith(".cold")}
    assert statuses == {k: v for k, v in expected["functions"].items() if not k.endswith(".cold")}
    for section, size in expected.get("tables", {}).items():
        assert sum(s.size for s in result.object.sections if s.name == section) == size, section
