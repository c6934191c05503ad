# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are wrong, and the whole text of the error that each gives.

A case is a folder: cases/manifest/CASE has `manifest.yaml`, which becomes manifests/probe/manifest.yaml of a
project that is valid otherwise; cases/kernel/CASE has `stock.yaml`, which becomes
manifests/kernels/stock.yaml.  `expected.txt` is the error.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.manifest.load import load_project
from tests.manifest.project import make_project

CASES = Path(__file__).parent / "cases"
FILES = {"manifest": "manifests/probe/manifest.yaml", "kernel": "manifests/kernels/stock.yaml"}


@pytest.mark.parametrize(
    "case", [path for kind in FILES for path in sorted((CASES / kind).iterdir())], ids=lambda path: path.name
)
def test_error_text(case: Path, tmp_path: Path) -> None:
    make_project(tmp_path)
    file = FILES[case.parent.name]
    shutil.copy(case / Path(file).name, tmp_path / file)
    with pytest.raises(UserError) as caught:
        load_project(tmp_path)
    assert f"{caught.value}\n" == (case / "expected.txt").read_text()
