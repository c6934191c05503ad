# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest is to do: a list of steps, the files they need, and how long it may take.

A step is a shell command and what it must give.  The guest only runs commands and sends back status and
output; what was expected is judged on the host (`judge`), so that a failure can say both what was
expected and what came, and so that the guest's init stays the same for every boot.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kbuild_py.errors import refuse
from kbuild_py.manifest.model import Check
from kbuild_py.vm.answer import Frame
from kbuild_py.vm.initramfs import BUSYBOX, busybox
from kbuild_py.vm.report import StepResult

INIT = Path(__file__).parents[2] / "templates" / "guest-init.sh"
DIFF_LINES = 30


@dataclass(frozen=True, slots=True)
class GuestStep:
    """A command for the guest's shell (busybox) and what it must give.

    title:         what a reader of the report sees
    command:       any number of lines of shell
    expect_status: exit status expected
    stdout:        exact standard output expected (trailing newlines ignored), or None
    contains:      text that must appear in standard output or standard error, or None
    absent:        text that must appear in neither, or None
    essential:     when the exit status is not the expected one the guest stops: later steps rest on this one
    timeout:       seconds, or None for the guest's `step_timeout`
    stage:         heading in the report, for example "after load"
    place:         where the step was asked for, for example manifest.yaml:12:5
    """

    title: str
    command: str
    expect_status: int = 0
    stdout: str | None = None
    contains: str | None = None
    absent: str | None = None
    essential: bool = False
    timeout: float | None = None
    stage: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine to boot: steps that run in order, and files (guest path -> content or host file).

    cpus, memory (MB): the machine's size
    start_timeout:     seconds until the guest's init must have started
    step_timeout:      seconds for each step that does not say otherwise
    timeout:           seconds for the whole boot
    append:            more kernel parameters
    one_thread:        translated, all CPUs are one thread: QEMU before 8.1 may go on with an old translation
                       of an instruction that another CPU has just changed, as ftrace does under callers
    disk:              a root file system to boot (virtio, /dev/vda) in place of the guest's own one, which
                       is then the second disk, as a cpio archive; the root file system runs the steps
    initramfs:         the disk's
    """

    steps: tuple[GuestStep, ...]
    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    cpus: int = 2
    memory: int = 512
    start_timeout: float = 120
    step_timeout: float = 60
    timeout: float = 600
    append: str = ""
    one_thread: bool = False
    disk: Path | None = None
    initramfs: Path | None = None


def step_for(check: Check) -> GuestStep:
    """The step that runs a manifest's check."""
    return GuestStep(
        title=one_line(check.command),
        command=check.command,
        expect_status=check.status,
        stdout=check.stdout,
        contains=check.contains,
        absent=check.absent,
        stage=check.when.value.replace("_", " "),
        place=check.place,
    )


def one_line(text: str) -> str:
    """The text with every run of white space made one space, as titles need it."""
    return " ".join(text.split())


def step_number(index: int) -> str:
    """The name of the step with this index (from 0) in the guest and in its kernel's log."""
    return f"{index + 1:04}"


def step_limit(guest: Guest, step: GuestStep) -> int:
    """Whole seconds that the step may take."""
    return max(1, math.ceil(guest.step_timeout if step.timeout is None else step.timeout))


def guest_files(guest: Guest) -> dict[str, bytes | Path]:
    """Everything the guest's file system holds: the guest's files, busybox, init, and the steps."""
    for path in guest.files:
        if path in (BUSYBOX, "/init", "/steps") or path.startswith("/steps/"):
            raise refuse(path, "this path in the guest is taken", "give the file another one")
    files = {**guest.files, BUSYBOX: busybox(), "/init": INIT}
    for index, step in enumerate(guest.steps):
        folder = f"/steps/{step_number(index)}"
        files[f"{folder}/title"] = one_line(step.title).encode()
        files[f"{folder}/command"] = step.command.encode() + b"\n"
        files[f"{folder}/limit"] = str(step_limit(guest, step)).encode()
        if step.essential:
            files[f"{folder}/essential"] = str(step.expect_status).encode()
    return files


def result_of(step: GuestStep, frame: Frame) -> StepResult:
    """What came back for a step, judged."""
    stdout, stderr = _text(frame.stdout), _text(frame.stderr)
    return StepResult(
        title=step.title,
        command=step.command,
        status=-1 if frame.hung else frame.status,
        output=stdout,
        failure=judge(step, frame),
        errors=stderr,
        stage=step.stage,
        place=step.place,
    )


def lost_result(step: GuestStep) -> StepResult:
    """The result of a step that was begun and from which nothing came back."""
    failure = "the guest ended in this step"
    return StepResult(step.title, step.command, -1, "", failure, stage=step.stage, place=step.place)


def judge(step: GuestStep, frame: Frame) -> str:
    """Why what came back is not what the step expects, or "" when it is."""
    if frame.hung:
        return "did not end in time"
    for name, total, sent in (
        ("standard output", frame.stdout_size, frame.stdout),
        ("standard error", frame.stderr_size, frame.stderr),
    ):
        if total > len(sent):
            return f"printed {total} bytes to {name}, of which only {len(sent)} came back"

    stdout, stderr = _text(frame.stdout), _text(frame.stderr)
    failures = []
    if frame.status != step.expect_status:
        failures.append(f"expected exit status {step.expect_status}, got {frame.status}")
    if step.stdout is not None and stdout.rstrip("\n") != step.stdout.rstrip("\n"):
        failures.append(_difference(step.stdout.rstrip("\n"), stdout.rstrip("\n")))
    if step.contains is not None and step.contains not in stdout and step.contains not in stderr:
        failures.append(f"expected output with {step.contains!r}, got {_shown(stdout + stderr)}")
    if step.absent is not None and (step.absent in stdout or step.absent in stderr):
        failures.append(f"expected output without {step.absent!r}, got {_shown(stdout + stderr)}")
    return "\n".join(failures)


def _text(data: bytes) -> str:
    # Bytes that are no text stay visible as \xNN, so a difference in them is one in the text too.
    return data.decode(errors="backslashreplace")


def _difference(expected: str, got: str) -> str:
    if "\n" not in expected and "\n" not in got:
        return f"expected {_shown(expected)}, got {_shown(got)}"
    if expected:
        head = "expected other output:"
        lines = list(
            difflib.unified_diff(expected.splitlines(), got.splitlines(), "expected", "got", n=1, lineterm="")
        )
    else:
        head = "expected no output, got:"
        lines = got.splitlines()
    if len(lines) > DIFF_LINES:
        lines[DIFF_LINES:] = [f"... and {len(lines) - DIFF_LINES} more lines"]
    return "\n".join((head, *lines))


def _shown(text: str, width: int = 400) -> str:
    if not text:
        return "nothing"
    return repr(text) if len(text) <= width else f"{text[:width]!r}... ({len(text)} characters)"
