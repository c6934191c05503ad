# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of core/ share."""

from __future__ import annotations

import pytest

from kbuild_py.kernel.target import TargetKernel
from tests.core.modules import Modules, build_modules


@pytest.fixture(scope="package")
def modules(debian12: TargetKernel, tmp_path_factory: pytest.TempPathFactory) -> Modules:
    """The core and the tests' own modules, for `debian12`."""
    return build_modules(debian12, tmp_path_factory.mktemp("core"))
