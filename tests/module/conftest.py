# SPDX-License-Identifier: GPL-2.0-or-later
"""One patch module with references of every kind, built once as a user builds it."""

from __future__ import annotations

import pytest

from kbuild_py.kernel.target import TargetKernel
from tests.projects import Throwaway, throw_away

EXAMPLE = "cgroup-features"


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory, debian12: TargetKernel) -> Throwaway:
    """A copy of the project in which `EXAMPLE` is built."""
    project = throw_away(tmp_path_factory.mktemp("module") / "project", [EXAMPLE])
    project.built("build")
    return project
