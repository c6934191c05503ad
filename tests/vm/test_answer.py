# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the guest's answer, wherever it may end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kbuild_py.vm.answer import Frame, parse


def sent(number: int, status: int, stdout: bytes, stderr: bytes, how: str = "end") -> bytes:
    sizes = f"{len(stdout)} {len(stdout)} {len(stderr)} {len(stderr)}"
    return f"step {number:04} begin\nstep {number:04} {how} {status} {sizes}\n".encode() + stdout + stderr


WHOLE = (
    b"started\n" + sent(1, 0, b"a\nb", b"") + sent(2, 3, b"\0\xff\r\n", b"step 0009 begin\n") + b"finished\n"
)


def test_a_whole_answer() -> None:
    answer = parse(WHOLE, 2)
    assert answer.started and answer.finished and answer.begun == 2
    assert answer.frames == (
        Frame(1, False, 0, b"a\nb", 3, b"", 0),
        Frame(2, False, 3, b"\0\xff\r\n", 4, b"step 0009 begin\n", 16),
    )


def test_every_beginning_of_an_answer_is_understood() -> None:
    whole = parse(WHOLE, 2)
    for end in range(len(WHOLE)):
        answer = parse(WHOLE[:end], 2)
        assert answer.frames == whole.frames[: len(answer.frames)]
        assert not answer.finished
        assert answer.started == (end >= len(b"started\n"))


def test_output_that_looks_like_the_format_is_output() -> None:
    answer = parse(sent(1, 0, b"finished\nstep 0002 begin\nstep 0002 end 0 0 0 0 0\n", b""), 2)
    assert not answer.finished and answer.begun == 1 and len(answer.frames) == 1


def test_less_may_be_sent_than_was_printed() -> None:
    answer = parse(b"step 0001 end 0 100 2 0 0\nabfinished\n", 1)
    assert answer.frames[0].stdout == b"ab" and answer.frames[0].stdout_size == 100 and answer.finished


def test_a_hung_step() -> None:
    assert parse(sent(1, 0, b"partial", b"", "hung"), 1).frames[0].hung


def test_steps_that_there_are_not_are_passed_over() -> None:
    answer = parse(sent(0, 0, b"", b"") + sent(3, 0, b"", b""), 2)
    assert answer.begun == 0 and not answer.frames


@given(st.binary())
def test_anything_can_be_read(data: bytes) -> None:
    parse(data, 3)
    assert parse(WHOLE + data, 2).frames[:2] == parse(WHOLE, 2).frames
