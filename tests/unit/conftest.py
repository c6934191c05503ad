# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of compiling share."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kbuild_py.files import CACHE_VARIABLE
from kbuild_py.kernel.target import TargetKernel


@pytest.fixture
def cold(debian12: TargetKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TargetKernel:
    """The prepared kernel, with nothing recorded yet."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return debian12


@pytest.fixture
def patch_file(debian12: TargetKernel, tmp_path: Path) -> Callable[..., Path]:
    """Make a patch file from changes of the kernel's sources: `patch_file({path: change of its text})`."""

    def make(changes: dict[str, Callable[[str], str]], name: str = "test.patch") -> Path:
        text = ""
        for path, change in changes.items():
            old = (debian12.tree / path).read_text()
            new = change(old)
            assert new != old, path
            text += "".join(
                difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"a/{path}", f"b/{path}")
            )
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return make


def snapshot(tree: Path) -> dict[str, tuple[int, int]]:
    """Each file and folder of a tree with its size and the time it was written."""
    found: dict[str, tuple[int, int]] = {}
    for folder, _, names in os.walk(tree):
        for name in (".", *names):
            path = f"{folder}/{name}"
            status = os.lstat(path)
            found[path] = (status.st_size, status.st_mtime_ns)
    return found
