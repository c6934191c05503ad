# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's one typed answer."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Outcome(enum.Enum):
    """How a boot ended."""

    PASSED = "passed"
    FAILED = "failed"  # a check did not give what was expected, or a module did not load
    PANICKED = "panicked"
    HUNG = "hung"
    NEVER_STARTED = "never started"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step of the guest's script: its title, exit status and output, and why it failed ("" if not)."""

    title: str
    command: str
    status: int
    output: str
    failure: str


@dataclass(frozen=True, slots=True)
class BootReport:
    """One boot: outcome, the steps that ran, the console's text, seconds it took."""

    outcome: Outcome
    steps: tuple[StepResult, ...]
    console: str
    seconds: float
