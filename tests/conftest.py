# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests share: the prepared stock kernels.

A kernel is prepared once (minutes for the first time, milliseconds after), in the user's own cache, exactly
as a build does it.  At home a missing tool skips the tests that need the kernel; in CI (CI=true) it fails.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.files import read_json
from kbuild_py.kernel.prepare import prepare
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.kernel.tree import require_tools
from kbuild_py.manifest.model import KernelDescription

KERNELS = Path(__file__).parent.parent / "manifests" / "kernels"


def description_of(name: str, flavour: str) -> KernelDescription:
    """The description that the committed lock file `name` belongs to."""
    path = KERNELS / f"{name}.yaml"
    lock = read_json(KERNELS / f"{name}.lock.json")
    return KernelDescription(name, name, path, "debian", "x86_64", lock["release"], lock["version"], flavour)


def _prepared(name: str, flavour: str) -> TargetKernel:
    missing = [program for program in ("apt-get", "dpkg-deb", "gcc-12") if shutil.which(program) is None]
    try:
        require_tools()
    except UserError as error:
        missing += [problem.place for problem in error.problems]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"not installed: {', '.join(missing)}")
    return prepare(description_of(name, flavour))


@pytest.fixture(scope="session")
def debian12() -> TargetKernel:
    """The stock Debian 12 kernel, prepared."""
    return _prepared("debian-12-amd64", "amd64")


@pytest.fixture(scope="session")
def debian12_cloud() -> TargetKernel:
    """The stock Debian 12 kernel for clouds, prepared."""
    return _prepared("debian-12-cloud-amd64", "cloud-amd64")


@pytest.fixture(scope="session")
def debian12_newer(debian12: TargetKernel) -> TargetKernel:
    """Debian 12's 6.12 kernel, prepared: with branch tracking (IBT).  Skipped where `debian12` is."""
    return _prepared("debian-12-6.12-amd64", "amd64")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick answers first: plain tests, then those that need the kernel, then those that boot it."""

    def cost(item: pytest.Item) -> int:
        return 2 if item.get_closest_marker("boot") else 1 if item.get_closest_marker("kernel") else 0

    items.sort(key=cost)  # stable: the order within each kind stays
