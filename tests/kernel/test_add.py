# SPDX-License-Identifier: GPL-2.0-or-later
"""`kbuild-py kernel add`: a description and its lock, from a release."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel.add import add_kernel
from kbuild_py.kernel.lock import read_lock
from kbuild_py.manifest.load import load_kernels
from tests.kernel.repository import Repository


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the kernels of an empty project."""
    path = tmp_path / "project" / "manifests" / "kernels"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("release", "version", "flavour"),
    [("6.1.0-56-amd64", "6.1.192-2", "amd64"), ("6.1.0-50-cloud-amd64", "6.1.176-1", "cloud-amd64")],
)
def test_a_kernel_is_described_and_locked(
    release: str, version: str, flavour: str, repository: Repository, folder: Path
) -> None:
    repository.publish()
    add_kernel(folder, "new-1.0", release)
    (kernel,) = load_kernels(folder.parents[1])
    assert (kernel.name, kernel.release, kernel.version, kernel.flavour) == (
        "new-1.0",
        release,
        version,
        flavour,
    )
    assert read_lock(kernel).version == version


@pytest.mark.parametrize(
    ("name", "release", "message"),
    [
        ("taken", "6.1.0-50-amd64", "there is a kernel taken already"),
        ("../x", "6.1.0-50-amd64", "is not a name"),
        ("new", "6.1", "is not the release of a Debian kernel"),
        ("new", "6.1.0-99-amd64", "no apt source has it"),
    ],
)
def test_what_is_refused_leaves_nothing(
    name: str, release: str, message: str, repository: Repository, folder: Path
) -> None:
    repository.publish()
    (folder / "taken.yaml").write_text("mine")
    with pytest.raises(UserError, match=message):
        add_kernel(folder, name, release)
    assert [path.read_text() for path in folder.parent.rglob("*.*")] == ["mine"]
