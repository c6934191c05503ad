# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of runtime/ share: the built modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from tests.runtime.modules import build


@pytest.fixture(scope="package")
def modules(debian12: TargetKernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with kpatch.ko, the victim and the patches."""
    return build(debian12, tmp_path_factory.mktemp("runtime"))
