# SPDX-License-Identifier: GPL-2.0-or-later
"""A cache folder of its own, and a system whose only source is an archive on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.manifest.model import KernelDescription
from tests.kernel.repository import Repository


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """An archive with linux 6.1.176-1 and 6.1.192-2; apt's system configuration has this source only."""
    archive = Repository(tmp_path / "archive")
    archive.folder.mkdir()
    archive.add_kernel("6.1.176-1", "50")
    archive.add_kernel("6.1.176-1", "50", "cloud-amd64")
    archive.add_kernel("6.1.192-2", "56")
    (tmp_path / "sources.list").write_text(archive.source)
    (tmp_path / "no-more").mkdir()
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "{tmp_path}/no-more";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv("KBUILD_PY_CACHE", str(tmp_path / "cache"))
    return archive


@pytest.fixture
def description(tmp_path: Path) -> KernelDescription:
    """A description in a file, of the older kernel in `repository`."""
    path = tmp_path / "kernels" / "stock.yaml"
    path.parent.mkdir()
    path.write_text(
        "# the kernel\nname: stock\nrelease: 6.1.0-50-amd64  # ABI 50\nversion: '6.1.176-1'\nflavour: amd64\n"
    )
    return KernelDescription(
        "stock", "a kernel", path, "debian", "x86_64", "6.1.0-50-amd64", "6.1.176-1", "amd64"
    )
