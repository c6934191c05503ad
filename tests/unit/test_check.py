# SPDX-License-Identifier: GPL-2.0-or-later
"""What is refused before anything is compiled."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import PatchedObject
from kbuild_py.unit.check import check_patches

pytestmark = pytest.mark.kernel

VMLINUX = (PatchedObject("vmlinux", None, "m.yaml:8:3"),)


def problems(kernel: TargetKernel, *patches: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        check_patches(kernel, patches, VMLINUX)
    return [str(problem) for problem in caught.value.problems]


def add(text: str) -> str:
    return text + "int added;\n"


def test_several_patches_of_several_files(debian12: TargetKernel, patch_file: Callable[..., Path]) -> None:
    one = patch_file({"fs/exec.c": add, "fs/proc/meminfo.c": add}, "1.patch")
    two = patch_file({"kernel/fork.c": add}, "2.patch")
    units = check_patches(debian12, [one, two], VMLINUX)
    assert [unit.source.path for unit in units] == ["fs/exec.c", "fs/proc/meminfo.c", "kernel/fork.c"]
    assert all(unit.command.source == unit.source.path for unit in units)
    assert all(unit.source.text.endswith("int added;\n") for unit in units)


def test_every_problem_at_once(
    debian12: TargetKernel, patch_file: Callable[..., Path], tmp_path: Path
) -> None:
    sources = {
        "fs/ext4/super.c": add,
        "mm/kasan/common.c": add,
        "kernel/sched/clock.c": add,
        "fs/exec.c": add,
    }
    patch = patch_file(sources)
    last = (debian12.tree / "fs/exec.c").read_text().splitlines()[-1]
    text = patch.read_text().replace(f"\n {last}\n+int", "\n was never there\n+int")
    patch.write_text(text + text.replace("fs/exec.c", "fs/exek.c")[text.index("--- a/fs/exec.c") :])
    config = tmp_path / "config"
    config.write_text('CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-99) 12.2.0"\n')
    found = problems(replace(debian12, config=config), patch)
    expected = [
        "gcc-12: is not the kernel's compiler",
        "'fs/exek.c' is not in the kernel tree\n  hint: did you mean 'fs/exec.c'?",
        "this hunk does not apply: the patch expects\n    was never there\n",
        "test.patch:1: fs/ext4/super.c is part of the module ext4",
        "mm/kasan/common.c is put neither into vmlinux nor into a module by its folder's makefile",
        "kernel/sched/clock.c is no translation unit of its own: kernel/sched/build_utility.c includes it",
    ]
    assert len(found) == len(expected)
    for text, problem in zip(expected, found, strict=True):
        assert text in problem


def test_the_option_of_a_file_that_is_not_built(
    debian12: TargetKernel, patch_file: Callable[..., Path]
) -> None:
    (problem,) = problems(debian12, patch_file({"kernel/gcov/base.c": add}))
    assert "is put neither into vmlinux nor" in problem
    (problem,) = problems(debian12, patch_file({"mm/cma.c": add}))
    assert "hint: the file belongs to CONFIG_CMA, which this kernel does not set" in problem


def test_a_moved_hunk_is_noted(debian12: TargetKernel, patch_file: Callable[..., Path]) -> None:
    patch = patch_file({"fs/exec.c": add})
    patch.write_text(re.sub(r"@@ -(\d+)", "@@ -2", patch.read_text()))
    (unit,) = check_patches(debian12, [patch], VMLINUX)
    assert "the only place where its lines are" in unit.source.notes[0]
