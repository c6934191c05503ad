# SPDX-License-Identifier: GPL-2.0-or-later
"""The core module on Linux 6.12: with branch tracking (IBT), where functions begin with ENDBR."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from tests.core.modules import build_modules
from tests.core.test_boot import ALL, Functions, passes

pytestmark = [pytest.mark.kernel, pytest.mark.boot]


@pytest.mark.parametrize("cpus", [2])
def test_every_feature(debian12_newer: TargetKernel, tmp_path: Path, cpus: int) -> None:
    modules = build_modules(debian12_newer, tmp_path / "modules")
    passes(Functions(debian12_newer, modules), ALL, tmp_path / "boot", cpus)
