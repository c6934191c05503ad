# SPDX-License-Identifier: GPL-2.0-or-later
"""The core module on Linux 6.12: with branch tracking (IBT), where functions begin with ENDBR."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.files import cache_folder
from kbuild_py.kernel.image import KernelImage
from kbuild_py.kernel.symbols import recover_cached
from kbuild_py.kernel.target import TargetKernel
from tests.core.modules import build_modules
from tests.core.test_boot import ALL, Functions, passes

pytestmark = [pytest.mark.kernel, pytest.mark.boot]


@pytest.mark.parametrize("cpus", [2])
def test_every_feature(debian12_newer: TargetKernel, tmp_path: Path, cpus: int) -> None:
    image = KernelImage.load(debian12_newer.vmlinux)
    symbols = recover_cached(image, debian12_newer.vmlinux, cache_folder() / "symbols")
    kernel = replace(debian12_newer, symbols=symbols)
    modules = build_modules(kernel, tmp_path / "modules")
    passes(Functions(kernel, modules), ALL, tmp_path / "boot", cpus)
