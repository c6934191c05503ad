# SPDX-License-Identifier: GPL-2.0-or-later
"""doit reads this file; the tasks themselves are in kbuild_py/tasks.py."""

import sys
from pathlib import Path

from kbuild_py.errors import UserError
from kbuild_py.tasks import configuration, load_tasks

ROOT = Path(__file__).resolve().parent
try:
    DOIT_CONFIG = configuration(ROOT)
except UserError as error:
    sys.exit(str(error))


def task_project():  # type: ignore[no-untyped-def]
    """all tasks"""
    try:
        yield from load_tasks(ROOT)
    except UserError as error:
        sys.exit(str(error))
