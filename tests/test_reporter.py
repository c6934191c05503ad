# SPDX-License-Identifier: GPL-2.0-or-later
"""What doit prints and its exit status, with tasks that need no kernel."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.exceptions import TaskFailed

from kbuild_py.reporter import Reporter
from tests.projects import TOP


def settings_for(folder: Path, out: TextIO) -> dict[str, Any]:
    record = str(folder / "record")
    return {"reporter": Reporter, "dep_file": record, "backend": "json", "outfile": out, "continue": True}


def run_with(settings: dict[str, Any], action: Callable[[], Any], *options: str) -> int:
    """Status of a run of two tasks, the second of which waits for the first."""

    def tasks() -> Any:
        yield {"basename": "first", "actions": [action]}
        yield {"basename": "second", "actions": None, "task_dep": ["first"]}

    loader = ModuleTaskLoader({"DOIT_CONFIG": settings, "task_all": tasks})
    try:
        status: int = DoitMain(loader).run(["run", *options, "second"])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code
    return status


def run(folder: Path, action: Callable[[], Any], *options: str) -> tuple[int, str]:
    """Status and output of `run_with`."""
    out = io.StringIO()
    return run_with(settings_for(folder, out), action, *options), out.getvalue()


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


def test_the_work_goes_on_when_the_reader_has_gone(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.test_reporter import settings_for, run_with;"
        "from kbuild_py.progress import say;"
        f"folder = Path({str(tmp_path)!r}); say('one'); say('two');"
        "status = run_with(settings_for(folder, sys.stdout), lambda: (folder / 'made').touch());"
        "sys.exit(status)"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, stdout=writer, stderr=writer)
    os.close(writer)
    assert done.returncode == 0 and (tmp_path / "made").exists()
