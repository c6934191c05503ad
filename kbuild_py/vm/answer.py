# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what the guest's init sends over the second serial port.

The format is described where it is written, in templates/guest-init.sh: lines that say how far the
guest is, and behind each step's closing line as many bytes of output as the line announces.  The answer
may end anywhere, because a kernel may die anywhere: what came is used, what did not come is missing.
The same bytes are read again from the start whenever more of them have come, so there is no state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_STEP = re.compile(rb"step (\d+) (end|hung) (\d+) (\d+) (\d+) (\d+) (\d+)")
_BEGIN = re.compile(rb"step (\d+) begin")


@dataclass(frozen=True, slots=True)
class Frame:
    """What the guest sent for one step.  Sizes are bytes printed; less may have been sent."""

    number: int  # counted from 1
    hung: bool
    status: int
    stdout: bytes
    stdout_size: int
    stderr: bytes
    stderr_size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """How far the guest is: init started, the step begun last (0: none), steps that came back, the end."""

    started: bool
    begun: int
    frames: tuple[Frame, ...]
    finished: bool


def parse(data: bytes, steps: int) -> Answer:
    """Read what has come so far from a guest with so many steps.

    Lines that are none of the format's, or speak of steps that there are not, are passed over.
    """
    started = finished = False
    begun = 0
    frames = []
    position = 0
    while (end := data.find(b"\n", position)) >= 0:
        line, position = data[position:end], end + 1
        if line == b"started":
            started = True
        elif line == b"finished":
            finished = True
        elif (match := _BEGIN.fullmatch(line)) and 1 <= int(match[1]) <= steps:
            begun = int(match[1])
        elif (match := _STEP.fullmatch(line)) and 1 <= int(match[1]) <= steps:
            number, status, stdout_size, stdout_sent, stderr_size, stderr_sent = (
                int(match[group]) for group in (1, 3, 4, 5, 6, 7)
            )
            if len(data) < position + stdout_sent + stderr_sent:
                # Still on its way; whether it ever arrives is for the caller's clock to say.
                break
            middle = position + stdout_sent
            stdout, stderr = data[position:middle], data[middle : middle + stderr_sent]
            position = middle + stderr_sent
            hung = match[2] == b"hung"
            frames.append(Frame(number, hung, status, stdout, stdout_size, stderr, stderr_size))
    return Answer(started, begun, tuple(frames), finished)
