# SPDX-License-Identifier: GPL-2.0-or-later
"""The report as JSON, as text and as an error."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.vm.report import (
    BootReport,
    Outcome,
    StepResult,
    from_json,
    render_report,
    render_summary,
    require_passed,
    to_json,
)

GOOD = StepResult("uname", "uname -r", 0, "6.1\n", "", stage="before load")
BAD = StepResult(
    "cat /p", "cat /p", 1, "", "expected 'a', got nothing", "cat: no\n", "after load", "m.yaml:4:7"
)
FAILED = BootReport(Outcome.FAILED, (GOOD, BAD), "boot\nmessages\n", 4.25, "1 of 2 steps failed", "tcg")
PASSED = BootReport(Outcome.PASSED, (GOOD,), "boot\n", 4.0, "", "tcg")
LOG = Path("06-vm/console.log")


def test_json_there_and_back() -> None:
    for report in (FAILED, PASSED):
        assert from_json(json.loads(json.dumps(to_json(report)))) == report


def test_text() -> None:
    assert render_report(FAILED) == (
        "before load:\n"
        "  [ok] uname\n"
        "      $ uname -r\n"
        "      6.1\n"
        "after load:\n"
        "  [FAILED] cat /p\n"
        "      cat: no\n"
        "      ! expected 'a', got nothing\n"
        "failed in 4.2 s: 1 of 2 steps failed\n"
    )


def test_summary_has_a_line_for_each_step() -> None:
    more = dataclasses.replace(GOOD, output="first\nsecond\n")
    assert render_summary(dataclasses.replace(FAILED, steps=(GOOD, more, BAD))) == (
        "before load:\n  [ok] uname: 6.1\n  [ok] uname: first ...\nafter load:\n  [FAILED] cat /p"
    )


def test_text_shows_the_console_when_the_guest_died() -> None:
    text = render_report(dataclasses.replace(FAILED, outcome=Outcome.PANICKED))
    assert "  | messages\n" in text


def test_text_is_short_where_output_is_long() -> None:
    long = dataclasses.replace(GOOD, output="x" * 5000 + "\n" + "line\n" * 5000)
    text = render_report(dataclasses.replace(PASSED, steps=(long,)))
    assert len(text) < 1000 and "more lines" in text


def test_passed_is_no_error() -> None:
    require_passed(PASSED, "m.yaml", LOG)


def test_each_failed_step_is_a_problem_at_its_place() -> None:
    with pytest.raises(UserError) as caught:
        require_passed(dataclasses.replace(FAILED, steps=(BAD, GOOD, BAD)), "m.yaml", LOG)
    assert [problem.place for problem in caught.value.problems] == ["m.yaml:4:7", "m.yaml:4:7"]
    assert "cat /p: expected 'a', got nothing\n  | cat: no\n" in str(caught.value)
    assert str(LOG) in str(caught.value)


@pytest.mark.parametrize("outcome", [Outcome.PANICKED, Outcome.HUNG, Outcome.NEVER_STARTED])
def test_a_guest_that_died_is_one_problem_with_the_consoles_tail(outcome: Outcome) -> None:
    report = dataclasses.replace(FAILED, outcome=outcome, reason="the why")
    with pytest.raises(UserError) as caught:
        require_passed(report, "m.yaml", LOG)
    (problem,) = caught.value.problems
    assert problem.place == "m.yaml" and "the why" in problem.cause and "messages" in problem.cause
    assert outcome.value in problem.cause


def test_control_characters_of_a_guest_stay_in_the_guest() -> None:
    bad = dataclasses.replace(BAD, output="\x1b[2Jgone\tnot\n", failure="expected other output:\n+\x9b2J\r")
    report = dataclasses.replace(FAILED, steps=(bad,))
    with pytest.raises(UserError) as caught:
        require_passed(report, "m.yaml", LOG)
    for text in (render_report(report), render_summary(report), str(caught.value)):
        assert not {"\x1b", "\x9b", "\r"} & set(text)
    assert "\\x1b[2Jgone\tnot" in render_report(report)
