# SPDX-License-Identifier: GPL-2.0-or-later
"""`doit matrix`: what it says of builds in every state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kbuild_py.kernel.target import TargetKernel
from tests.projects import KERNEL, MEMINFO, Throwaway, edited, throw_away

pytestmark = pytest.mark.kernel

GOOD, LATE, WRONG = "meminfo-string", "late", "wrong"


def states(project: Throwaway, status: int) -> dict[str, str]:
    """Manifest -> state, as the table has it, which must be what the files have."""
    answer = project.doit("matrix")
    assert answer.status == status, answer.stdout + answer.stderr
    rows = [line.split("  ") for line in answer.stdout.splitlines() if f" {KERNEL} " in f" {line} "]
    table = {
        row[0].strip(): [cell.strip() for cell in row if cell.strip()][3] for row in rows if len(row) > 3
    }
    cells = read(project)
    assert list(table) == [cell["manifest"] for cell in cells]
    for cell in cells:
        rule = f": {cell['rule']}" if cell["problems"] else ""
        assert table[cell["manifest"]] == cell["outcome"] + rule
    assert all(name in (project.root / "build" / "matrix.md").read_text() for name in table)
    return table


def read(project: Throwaway) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads((project.root / "build" / "matrix.json").read_text())["cells"]
    return cells


def test_every_state(tmp_path: Path, debian12: TargetKernel) -> None:
    project = throw_away(tmp_path / "project")
    # Changes code that is gone when the patch is loaded; and a text that is not there.
    project.add(
        LATE, edited(debian12.tree, "fs/proc/uptime.c", 'create_single("uptime"', 'create_single("<up>"')
    )
    project.add(WRONG, edited(debian12.tree, MEMINFO, "SwapTotal", "SwapAll").replace("SwapTotal", "Nowhere"))
    assert states(project, 0) == {GOOD: "not built", LATE: "not built", WRONG: "not built"}

    assert project.doit("build").status == 1
    found = states(project, 1)
    assert found == {GOOD: "built", LATE: "refused: changed-init", WRONG: "refused: sources"}
    cells = {cell["manifest"]: cell for cell in read(project)}
    assert cells[LATE]["stage"] == "delta" and cells[LATE]["problems"][0]["place"].startswith("build/late/")
    assert 0 < cells[GOOD]["proven"] <= cells[GOOD]["functions"] and cells[WRONG]["functions"] == 0
    page = (project.root / "build" / "matrix.html").read_text()
    assert "refused: changed-init" in page and "<up>" not in page

    # What has changed since is neither built nor refused.
    for name in (GOOD, LATE):
        text = project.manifest(name).with_name(f"{name}.patch")
        text.write_text(f"Subject: edited\n{text.read_text()}")
    assert states(project, 1) == {GOOD: "stale", LATE: "not built", WRONG: "refused: sources"}
    assert project.doit("build").status == 1
    assert states(project, 1)[GOOD] == "built"
