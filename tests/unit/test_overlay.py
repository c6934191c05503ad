# SPDX-License-Identifier: GPL-2.0-or-later
"""Overlays: the tree's layout, a few files replaced, nothing written to the tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.unit.overlay import make_overlay


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree."""
    for name in (
        "Makefile",
        "fs/Makefile",
        "fs/proc/a.c",
        "fs/proc/internal.h",
        "fs/xfs/x.c",
        "include/l/fs.h",
    ):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


def listing(folder: Path) -> dict[str, str]:
    """Every file that can be reached, with its content."""
    found: dict[str, str] = {}
    for path in folder.iterdir():
        if path.is_dir():
            found |= {f"{path.name}/{name}": text for name, text in listing(path).items()}
        else:
            found[path.name] = path.read_text()
    return found


def test_everything_is_there_and_the_files_are_replaced(tmp_path: Path, tree: Path) -> None:
    (tmp_path / "other.h").write_text("linked")
    overlay = make_overlay(
        tmp_path / "overlay", tree, {"fs/proc/a.c": b"new", "fs/proc/made.h": tmp_path / "other.h"}
    )
    before = listing(tree)
    assert listing(overlay) == {**before, "fs/proc/a.c": "new", "fs/proc/made.h": "linked"}
    assert [(overlay / name).is_symlink() for name in ("fs", "fs/proc", "fs/xfs", "include")] == [
        False,
        False,
        True,
        True,
    ]


def test_what_is_written_beside_replaced_files_stays_out_of_the_tree(tmp_path: Path, tree: Path) -> None:
    before = listing(tree)
    overlay = make_overlay(tmp_path / "overlay", tree, {"fs/proc/a.c": b"new"}, also_real=["include/l/x.c"])
    for name in (".tmp", "fs/.tmp", "fs/proc/a.o", "include/l/x.h"):
        (overlay / name).write_text("made")
    (overlay / "fs/proc/a.c").write_text("newer")
    assert listing(tree) == before


def test_a_second_overlay_replaces_the_first(tmp_path: Path, tree: Path) -> None:
    make_overlay(tmp_path / "overlay", tree, {"fs/proc/a.c": b"new", "fs/xfs/extra.c": b""})
    overlay = make_overlay(tmp_path / "overlay", tree, {"fs/xfs/x.c": b"x"})
    assert listing(overlay) == {**listing(tree), "fs/xfs/x.c": "x"}
