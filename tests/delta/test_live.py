# SPDX-License-Identifier: GPL-2.0-or-later
"""Patch objects are right when they do what the patched source says: random programs, patched as they run.

The oracle is the C compiler: both versions in one program, which is told when to change (programs.reference).
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Options
from kbuild_py.run import run
from tests.delta import live, programs
from tests.delta.compiling import CASES, COMPILER, needs_gcc
from tests.delta.snippets import CLANG, COMPILERS, compile_text

pytestmark = needs_gcc

SEEDS = 30  # per compiler; some 0.2 s each
# A program may change what cannot be patched, and these are the ways in which it can.
REFUSALS = {"no-fentry", "static-local-lost"}
LINK = (COMPILER or "gcc", "-O1", "-w", "-fno-pie", "-no-pie", "-z", "noexecstack", f"-I{CASES}")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with live.o and reference.o."""
    folder = tmp_path_factory.mktemp("harness")
    for name, flags in (("live.o", ()), ("reference.o", ("-DREFERENCE",))):
        run([*LINK, *flags, "-c", "-o", folder / name, live.HARNESS])
    return folder


def test_the_harness_sees_a_difference(harness: Path, tmp_path: Path) -> None:
    """A patch that is not applied is noticed."""
    old = programs.program(random.Random(1))
    last = old.functions[-1]
    body = (*last.body, programs.Statement("add", (3, 5, 7)))
    new = programs.with_body(old, last.number, body)
    before = compile_text(COMPILERS[0], programs.source(old), tmp_path / "before" / "unit.o")
    after = compile_text(COMPILERS[0], programs.source(new), tmp_path / "after" / "unit.o")
    patched, none = diff(before, after), diff(before, before)
    assert isinstance(patched, Delta) and isinstance(none, Delta)
    wanted = live.run_reference(LINK, harness, tmp_path / "reference", old, new)
    assert live.run_patched(LINK, harness, tmp_path / "patched", before, patched, old) == wanted
    assert live.run_patched(LINK, harness, tmp_path / "none", before, none, old) != wanted


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_patched_program_does_what_the_source_says(
    compiler: str, seed: int, harness: Path, tmp_path: Path
) -> None:
    rng = random.Random(seed + (SEEDS if compiler == CLANG else 0))
    old = programs.program(rng)
    new = programs.edited(rng, old)
    before = compile_text(compiler, programs.source(old), tmp_path / "before" / "unit.o")
    after = compile_text(compiler, programs.source(new), tmp_path / "after" / "unit.o")
    result = diff(before, after, Options(object="vmlinux"))
    if not isinstance(result, Delta):
        assert {verdict.rule.name for verdict in result.verdicts} <= REFUSALS, result
        return
    wanted = live.run_reference(LINK, harness, tmp_path / "reference", old, new)
    assert live.run_patched(LINK, harness, tmp_path / "patched", before, result, old) == wanted
