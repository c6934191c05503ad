# SPDX-License-Identifier: GPL-2.0-or-later
"""What doit prints and its exit status, with tasks that need no kernel."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.exceptions import TaskFailed

from kbuild_py.reporter import Reporter


def run(folder: Path, action: Callable[[], Any], *options: str) -> tuple[int, str]:
    """Status and output of a run of two tasks, the second of which waits for the first."""
    out = io.StringIO()
    settings = {"reporter": Reporter, "dep_file": str(folder / "record"), "backend": "json", "outfile": out}

    def tasks() -> Any:
        yield {"basename": "first", "actions": [action]}
        yield {"basename": "second", "actions": None, "task_dep": ["first"]}

    loader = ModuleTaskLoader({"DOIT_CONFIG": {**settings, "continue": True}, "task_all": tasks})
    try:
        return DoitMain(loader).run(["run", *options, "second"]), out.getvalue()
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code, out.getvalue()


@pytest.mark.parametrize("options", [(), ("-n", "2", "-P", "thread")])
def test_a_refusal_is_status_1_also_for_what_waited_for_it(tmp_path: Path, options: tuple[str, ...]) -> None:
    status, text = run(tmp_path, lambda: TaskFailed("x.patch:1: no"), *options)
    assert status == 1
    assert text.splitlines()[-3:] == ["first: refused", "x.patch:1: no", "1 failed"]


def test_what_breaks_is_status_2(tmp_path: Path) -> None:
    def breaks() -> None:
        raise ZeroDivisionError

    status, text = run(tmp_path, breaks)
    assert status == 2
    assert "first: error" in text and "ZeroDivisionError" in text


def test_done_is_status_0(tmp_path: Path) -> None:
    assert run(tmp_path, lambda: None)[0] == 0
