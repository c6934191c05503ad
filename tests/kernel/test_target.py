# SPDX-License-Identifier: GPL-2.0-or-later
"""kernel.json in the cache, when it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.files import CACHE_VARIABLE
from kbuild_py.kernel.prepare import prepared, workshop
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.load import load_kernels
from tests.projects import TOP

DAMAGED = ("", "{", "{}", "[]", "null", '{"release": "6.1.0-50-amd64"}')


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kernel.json"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        TargetKernel.load(path)
    assert caught.value.problems[0].place == str(path)
    assert caught.value.problems[0].remedy == "remove the file and build again"


@pytest.mark.parametrize("content", DAMAGED)
def test_a_kernel_with_a_damaged_file_is_not_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    description = load_kernels(TOP)[0]
    result = workshop(description).result
    result.parent.mkdir(parents=True)
    result.write_text(content)
    assert prepared(description) is None
