# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's one typed answer, as JSON for tools and as text for people."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from kbuild_py.errors import Problem, UserError, refuse

TAIL_LINES = 40
SHOWN_LINES = 30
SHOWN_WIDTH = 200
# All but tab and newline.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Outcome(enum.Enum):
    """How a boot ended."""

    PASSED = "passed"
    FAILED = "failed"  # a check did not give what was expected, or a module did not load
    PANICKED = "panicked"
    HUNG = "hung"
    NEVER_STARTED = "never started"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step of the guest's script: its title, exit status and output, and why it failed ("" if not).

    status: exit status, -1 when the step was still running
    output: standard output; errors: standard error.  Bytes that are no UTF-8 are written as \\xNN.
    stage:  heading that the step stands under; place: where it was asked for.  Both may be empty.
    """

    title: str
    command: str
    status: int
    output: str
    failure: str
    errors: str = ""
    stage: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class BootReport:
    """One boot: outcome, the steps that ran, the console's text, seconds it took.

    reason:      why the outcome is not PASSED, one sentence; empty when it is
    accelerator: what ran the guest's instructions, tcg or kvm
    """

    outcome: Outcome
    steps: tuple[StepResult, ...]
    console: str
    seconds: float
    reason: str = ""
    accelerator: str = ""


def to_json(report: BootReport) -> dict[str, Any]:
    """The report as plain values for `files.write_json`."""
    return asdict(report) | {"outcome": report.outcome.value}


def from_json(value: dict[str, Any]) -> BootReport:
    """What `to_json` made."""
    steps = tuple(StepResult(**step) for step in value["steps"])
    return BootReport(**(value | {"outcome": Outcome(value["outcome"]), "steps": steps}))


def console_tail(report: BootReport, lines: int = TAIL_LINES) -> str:
    """The console's last lines."""
    return "\n".join(report.console.splitlines()[-lines:])


def render_report(report: BootReport) -> str:
    """The report as text: stage by stage each step with its command and output; the console if it matters."""
    lines = _by_stage(report, _whole)
    if report.outcome in (Outcome.PANICKED, Outcome.HUNG, Outcome.NEVER_STARTED):
        lines += ["last lines of the console:", *_indented(console_tail(report), "  | ")]
    verdict = f"{report.outcome.value} in {report.seconds:.1f} s"
    lines.append(f"{verdict}: {report.reason}" if report.reason else verdict)
    return printable("\n".join(lines)) + "\n"


def printable(text: str) -> str:
    """The text with control characters as \\xNN: what a guest prints does nothing to a reader's terminal."""
    return CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def render_summary(report: BootReport) -> str:
    """One line a step, with the first line of what it printed: what a user sees when a boot has ended."""
    return printable("\n".join(_by_stage(report, _short)))


def _by_stage(report: BootReport, shown: Callable[[StepResult], list[str]]) -> list[str]:
    """The lines of each step, under the headings of their stages."""
    lines = []
    for stage, steps in groupby(report.steps, lambda step: step.stage):
        lines += [f"{stage}:"] if stage else []
        for step in steps:
            lines += shown(step)
    return lines


def _whole(step: StepResult) -> list[str]:
    lines = [_title(step)]
    if step.title != " ".join(step.command.split()):
        lines += _indented(step.command, "      $ ")
    lines += _indented(_shortened(step.output), "      ")
    lines += _indented(_shortened(step.errors), "      ")
    return lines + _indented(step.failure, "      ! ")


def _short(step: StepResult) -> list[str]:
    output = step.output.strip().splitlines() or [""]
    shown = output[0][:SHOWN_WIDTH] + (" ..." if len(output) > 1 else "")
    return [f"{_title(step)}: {shown}" if shown else _title(step)]


def _title(step: StepResult) -> str:
    return f"  [{'FAILED' if step.failure else 'ok'}] {step.title}"


def _indented(text: str, prefix: str) -> list[str]:
    return [f"{prefix}{line}".rstrip() for line in text.strip("\n").splitlines()]


def _shortened(text: str) -> str:
    """Enough of a step's output to recognise it; the JSON report has it whole."""
    lines = [line if len(line) <= SHOWN_WIDTH else f"{line[:SHOWN_WIDTH]}..." for line in text.splitlines()]
    if len(lines) > SHOWN_LINES:
        lines[SHOWN_LINES:] = [f"... and {len(lines) - SHOWN_LINES} more lines"]
    return "\n".join(lines)


def require_passed(report: BootReport, place: object, log: Path) -> None:
    """Raise `UserError` with one problem for each failed step, or for the way the boot ended.

    place: what was verified, used where a step has no place of its own; log: where the console's text is.
    """
    if report.outcome is Outcome.PASSED:
        return
    if report.outcome is not Outcome.FAILED:
        tail = printable("\n".join(_indented(console_tail(report, 20), "  | ")))
        cause = f"the guest {_ENDED[report.outcome]}: {report.reason}"
        raise refuse(place, f"{cause}\n{tail}" if tail else cause, f"the whole console is in {log}")
    problems = []
    for step in report.steps:
        if step.failure:
            said = _indented(_shortened(step.errors), "  | ")
            cause = printable("\n".join((f"{step.title}: {step.failure}", *said)))
            problems.append(Problem(step.place or str(place), cause, f"the whole console is in {log}"))
    if not problems:
        problems = [Problem(str(place), report.reason, f"the whole console is in {log}")]
    raise UserError(*problems)


_ENDED = {
    Outcome.PANICKED: "panicked",
    Outcome.HUNG: "hung",
    Outcome.NEVER_STARTED: "never started",
}
