# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's part that needs no kernel: the diff by object size."""

from __future__ import annotations

import re
import shutil

import pytest

from kbuild_py.bench import diff_by_size


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_the_diff_is_timed_by_object_size() -> None:
    _, *rows = diff_by_size(1, (10, 200))
    found = [re.fullmatch(r" +([\d.]+) MB, +(\d+) symbols +([\d.]+) s", row) for row in rows]
    assert all(found) and len(found) == 2
    symbols = [int(match[2]) for match in found if match]
    assert symbols[0] < symbols[1]
