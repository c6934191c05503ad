# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that are run to their end, and programs that go on while a block runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.run import run, running


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- run ------------------------------------------------------------------------------------------------


def test_what_a_program_left(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log"
    script = "cat; echo $VALUE; pwd; printf '\\377' >&2; exit 3"
    done = run(["sh", "-c", script], cwd=tmp_path, env={"VALUE": "a b"}, log=log, check=False, stdin=b"in\n")
    assert (done.status, done.stdout, done.stderr) == (3, f"in\na b\n{tmp_path}\n", "\ufffd")
    lines = log.read_text().splitlines()
    assert lines[0].startswith(f"$ cd {tmp_path} && sh -c 'cat; ") and lines[-1].endswith("[exit 3]")


def test_a_failure_has_the_command_the_status_and_the_last_lines() -> None:
    with pytest.raises(UserError) as caught:
        run(["sh", "-c", "seq 100; echo why >&2; exit 4"])
    (problem,) = caught.value.problems
    assert problem.place == "sh -c 'seq 100; echo why >&2; exit 4'"
    assert problem.cause.splitlines() == ["exit status 4", *map(str, range(82, 101)), "why"]


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="hint: apt-get install dwarves"):
        run(["pahole", "--version"])


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be started: Permission denied"):
        run([tmp_path])


@pytest.mark.parametrize("then", ["wait", "exit 0"])
def test_no_child_outlives_the_time_limit(tmp_path: Path, then: str) -> None:
    """Also when the program itself has ended, and only a child still holds its output open."""
    with pytest.raises(UserError, match="did not end within 1 s"):
        run(["sh", "-c", f"sleep 1000 & echo $! >pid; {then}"], cwd=tmp_path, timeout=0.6)
    time.sleep(0.1)
    assert not alive(int((tmp_path / "pid").read_text()))


# --- running --------------------------------------------------------------------------------------------


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
