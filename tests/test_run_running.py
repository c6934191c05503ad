# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that go on while a block runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.run import running


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_is_ended_with_its_children_when_the_block_is_left(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(["sh", "-c", "echo out; echo err >&2; sleep 1000 & echo $!; wait"], log=log) as process:
        while log.read_text().count("\n") < 4:
            time.sleep(0.01)
        child = int(log.read_text().split()[-1])
        assert process.poll() is None and alive(child)
    time.sleep(0.1)
    assert process.returncode == -9 and not alive(child)
    assert log.read_text().startswith("$ sh -c ") and "\nout\nerr\n" in log.read_text()


def test_an_exception_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt), running(["sleep", "1000"]) as process:
        raise KeyboardInterrupt
    assert process.poll() == -9


def test_it_dies_with_the_process_that_started_it() -> None:
    code = (
        "from kbuild_py.run import running; import time\n"
        "with running(['sleep', '1000']) as p: print(p.pid, flush=True); time.sleep(1000)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.2)  # setpriv has become the program by then
    assert alive(child)
    parent.kill()
    parent.wait()
    time.sleep(0.2)
    assert not alive(child)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(UserError, match="no-such-program"), running(["no-such-program"]):
        pass
