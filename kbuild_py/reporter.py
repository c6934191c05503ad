# SPDX-License-Identifier: GPL-2.0-or-later
"""What doit prints: one line a task that ran, one paragraph a failure, nothing for work that was not due.

The exit status tells the two kinds of failure apart: 1, something was refused; 2, something broke.
"""

from __future__ import annotations

from typing import Any, TextIO

from kbuild_py.progress import put


class Reporter:
    """doit's reporter interface (doit, `reporter.py`): called at each step of a run."""

    desc = "one line for each task that runs, and the reasons of failures"

    def __init__(self, outstream: TextIO, options: dict[str, Any]) -> None:
        self._out = outstream
        self._failed = 0
        self._broken = False
        self._ran = 0

    def _line(self, text: str) -> None:
        put(self._out, text)

    def initialize(self, tasks: Any, selected_tasks: Any) -> None:
        self._selected = tuple(selected_tasks)

    def get_status(self, task: Any) -> None:
        pass

    def execute_task(self, task: Any) -> None:
        if task.actions:
            self._ran += 1
            self._line(task.title())

    def add_failure(self, task: Any, fail: Any) -> None:
        # What only waited for something that failed adds nothing to the reason.
        if fail.get_name() != "UnmetDependency":
            self._failed += 1
            refused = fail.get_name() == "TaskFailed"
            self._broken |= not refused
            self._line(f"{task.name}: {'refused' if refused else 'error'}")
            self._line(fail.get_msg().rstrip())

    def add_success(self, task: Any) -> None:
        pass

    def skip_uptodate(self, task: Any) -> None:
        pass

    def skip_ignore(self, task: Any) -> None:
        self._line(f"{task.name}: ignored, as `doit ignore` was told")

    def cleanup_error(self, exception: Any) -> None:
        self._line(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        self._failed += 1
        self._broken = True
        self._line(msg)

    def teardown_task(self, task: Any) -> None:
        pass

    def complete_run(self) -> None:
        if self._failed:
            self._line(f"{self._failed} failed")
            if not self._broken:
                # doit's own status is 2, "error", as soon as a task waited for one that was refused.
                raise SystemExit(1)
        elif not self._ran:
            self._line("everything is up to date")
