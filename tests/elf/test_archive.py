# SPDX-License-Identifier: GPL-2.0-or-later
"""Members of archives; `ar t` is the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.elf.archive import members
from kbuild_py.run import run


@pytest.mark.parametrize("kind", ["rc", "rcT", "rcS"])
def test_members_are_those_of_ar(kind: str, tmp_path: Path) -> None:
    names = ["a.o", "a-name-that-is-longer-than-sixteen-bytes.o", "b.o"]
    for length, name in enumerate(names, 3):
        (tmp_path / name).write_bytes(b"x" * length)
    run(["ar", kind, "lib.a", *names], cwd=tmp_path)
    data = (tmp_path / "lib.a").read_bytes()
    assert list(members(data)) == run(["ar", "t", "lib.a"], cwd=tmp_path).stdout.split() == names
    for end in range(len(data)):  # damage is no error
        assert set(members(data[:end])) <= {name[:n] for name in names for n in range(len(name) + 1)}


def test_other_files_have_none() -> None:
    assert members(b"") == members(b"\x7fELF") == ()
