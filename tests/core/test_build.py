# SPDX-License-Identifier: GPL-2.0-or-later
"""The core module builds without a warning on both kernels, and to the same bytes in every folder."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from kbuild_py import run
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.module.build import build_core
from tests.core.modules import CORE

pytestmark = pytest.mark.kernel


def warnings(kernel: TargetKernel, folder: Path, argument: str) -> list[str]:
    """Build a copy; what the compiler, sparse and the check of doc comments complain about."""
    core = Path(shutil.copytree(CORE, folder / "core"))
    result = run.run(["make", "-C", kernel.headers, f"M={core}", "modules", argument])
    lines = (result.stdout + result.stderr).splitlines()
    assert any("switch.o" in line for line in lines)
    return [line for line in lines if re.search(r": (warning|error):|: warning ", line)]


@pytest.mark.parametrize("kernel", ["debian12", "debian12_newer"])
def test_no_warnings(kernel: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    assert warnings(request.getfixturevalue(kernel), tmp_path, "W=1") == []


@pytest.mark.parametrize("kernel", ["debian12", "debian12_newer"])
def test_sparse_is_content(kernel: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if shutil.which("sparse") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("sparse is not installed")
        pytest.skip("sparse is not installed")
    assert warnings(request.getfixturevalue(kernel), tmp_path, "C=2") == []


def test_equal_bytes_in_two_folders(debian12: TargetKernel, tmp_path: Path) -> None:
    sources = Path(shutil.copytree(CORE, tmp_path / "sources"))
    for source in sources.iterdir():
        os.utime(source, (86400, 86400))
    build_core(debian12, CORE, tmp_path / "one")
    build_core(debian12, sources, tmp_path / "in" / "another" / "folder")
    one = (tmp_path / "one" / "kpatch.ko").read_bytes()
    assert one == (tmp_path / "in" / "another" / "folder" / "kpatch.ko").read_bytes()
    assert str(tmp_path).encode() not in one
