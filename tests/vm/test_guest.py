# SPDX-License-Identifier: GPL-2.0-or-later
"""Judging what came back, and what is put into the guest."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess

import pytest

from kbuild_py.errors import UserError
from kbuild_py.manifest.model import Check, When
from kbuild_py.vm.answer import Frame
from kbuild_py.vm.guest import INIT, Guest, GuestStep, guest_files, judge, result_of, step_for

STEP = GuestStep("title", "command")


def frame(stdout: bytes = b"", stderr: bytes = b"", status: int = 0) -> Frame:
    return Frame(1, False, status, stdout, len(stdout), stderr, len(stderr))


@pytest.mark.parametrize(
    ("step", "came"),
    [
        (STEP, frame()),
        (STEP, frame(b"whatever", b"else")),
        (dataclasses.replace(STEP, expect_status=2), frame(status=2)),
        (dataclasses.replace(STEP, stdout="a\nb"), frame(b"a\nb\n\n", b"not looked at")),
        (dataclasses.replace(STEP, stdout="a\nb\n"), frame(b"a\nb")),
        (dataclasses.replace(STEP, stdout=""), frame(b"\n")),
        (dataclasses.replace(STEP, contains="no such"), frame(b"", b"rm: no such file")),
        (dataclasses.replace(STEP, absent="Oops"), frame(b"fine", b"fine")),
    ],
)
def test_what_is_expected_passes(step: GuestStep, came: Frame) -> None:
    assert judge(step, came) == ""


@pytest.mark.parametrize(
    ("step", "came", "says"),
    [
        (STEP, frame(status=1), ["expected exit status 0, got 1"]),
        (dataclasses.replace(STEP, stdout="new"), frame(b"old\n"), ["expected 'new', got 'old'"]),
        (dataclasses.replace(STEP, stdout="new"), frame(b" new"), ["got ' new'"]),
        (dataclasses.replace(STEP, stdout="new"), frame(), ["got nothing"]),
        (dataclasses.replace(STEP, stdout="a\nb\nc"), frame(b"a\nB\nc"), ["-b", "+B"]),
        (dataclasses.replace(STEP, stdout="a"), frame(b"a\xff"), [r"a\\xff"]),
        (dataclasses.replace(STEP, contains="x"), frame(b"y", b"z"), ["with 'x'", "'yz'"]),
        (dataclasses.replace(STEP, absent="x"), frame(b"y", b"x"), ["without 'x'"]),
        (
            dataclasses.replace(STEP, stdout="a", contains="b"),
            frame(b"c", status=3),
            ["status 0, got 3", "expected 'a'", "with 'b'"],
        ),
        (STEP, Frame(1, True, 0, b"", 0, b"", 0), ["did not end"]),
        (STEP, Frame(1, False, 0, b"ab", 9, b"", 0), ["9 bytes to standard output, of which only 2"]),
        (STEP, Frame(1, False, 0, b"", 0, b"", 9), ["9 bytes to standard error"]),
    ],
)
def test_what_is_not_expected_says_what_was_and_what_came(
    step: GuestStep, came: Frame, says: list[str]
) -> None:
    failure = judge(step, came)
    assert all(text in failure for text in says), failure


def test_a_long_difference_is_cut() -> None:
    step = dataclasses.replace(STEP, stdout="\n".join("abcdefgh" * 40))
    failure = judge(step, frame("\n".join("ABCDEFGH" * 40).encode()))
    assert len(failure.splitlines()) < 40 and "more lines" in failure


def test_output_where_none_was_expected_is_shown_as_it_is() -> None:
    failure = judge(dataclasses.replace(STEP, stdout=""), frame(b"BUG: one\n---\n"))
    assert failure == "expected no output, got:\nBUG: one\n---"


def test_a_hung_step_has_no_exit_status() -> None:
    assert result_of(STEP, Frame(1, True, 0, b"partial", 7, b"", 0)).status == -1


def test_the_step_of_a_check() -> None:
    check = Check(When.AFTER_LOAD, "cat\n  /proc/x\n", "out", "in", "no", 4, "m.yaml:3:5")
    assert step_for(check) == GuestStep(
        title="cat /proc/x",
        command="cat\n  /proc/x\n",
        expect_status=4,
        stdout="out",
        contains="in",
        absent="no",
        stage="after load",
        place="m.yaml:3:5",
    )


def test_a_file_must_not_replace_the_guests_own() -> None:
    for path in ("/init", "/bin/busybox", "/steps/0001/command"):
        with pytest.raises(UserError, match="taken"):
            guest_files(Guest((STEP,), {path: b""}))


def test_init_is_a_shell_script_that_parses() -> None:
    subprocess.run(["sh", "-n", INIT], check=True)
    if shutil.which("shellcheck"):
        # SC3045: dash has no `read -t`; busybox has.  (Its own --shell is in newer versions only.)
        subprocess.run(["shellcheck", "--shell=dash", "--exclude=SC3045", INIT], check=True)
