# SPDX-License-Identifier: GPL-2.0-or-later
"""The one door to other programs: argument lists, never a shell.

A program that fails is a `UserError` that names the command in a form that can be pasted, its exit
status and the last lines it printed.  A program that is missing names the Debian package that has it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kbuild_py.errors import UserError, refuse
from kbuild_py.files import write_atomic

# Program -> Debian package, for the hint when it is missing.
PACKAGES: dict[str, str] = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "bc": "bc",
    "bison": "bison",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "dpkg-deb": "dpkg",
    "flex": "flex",
    "ld": "binutils",
    "make": "make",
    "pahole": "dwarves",
    "qemu-system-x86_64": "qemu-system-x86",
    "readelf": "binutils",
    "setpriv": "util-linux",
    "strip": "binutils",
    "tar": "tar",
    "xz": "xz-utils",
}


@dataclass(frozen=True, slots=True)
class Completed:
    """What a finished program left: exit status, standard output, standard error."""

    status: int
    stdout: str
    stderr: str


def pasteable(argv: Sequence[str | Path], cwd: Path | None = None) -> str:
    """The command as a line for a shell."""
    line = shlex.join(str(word) for word in argv)
    return f"cd {shlex.quote(str(cwd))} && {line}" if cwd else line


def find(program: str) -> str:
    """The program's full path; a `UserError` that names its package when it is missing."""
    found = shutil.which(program)
    if found is None:
        package = PACKAGES.get(program, program)
        raise refuse(program, "this program is not installed", f"apt-get install {package}")
    return found


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    check: bool = True,
    timeout: float | None = None,
    stdin: bytes | None = None,
) -> Completed:
    """Run a program to its end and return what it printed.

    env:     variables added to this process's environment.
    log:     file that gets the pasteable command and all output.
    check:   a status other than 0 raises `UserError` with the command and the output's tail.
    timeout: seconds until the program and its children are ended and `UserError` is raised.
    """
    if "/" not in str(argv[0]):
        find(str(argv[0]))
    try:
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise refuse(pasteable(argv, cwd), f"cannot be started: {error.strerror}") from error
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise refuse(pasteable(argv, cwd), f"did not end within {timeout:.0f} s") from error
    finally:
        # Not poll(): what is waited for may be a child's output, when the program itself has ended.
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    result = Completed(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
    if log is not None:
        write_atomic(log, f"$ {pasteable(argv, cwd)}\n{result.stdout}{result.stderr}[exit {result.status}]\n")
    if check and result.status != 0:
        raise failed(argv, cwd, result)
    return result


def show(argv: Sequence[str | Path], *, cwd: Path | None = None) -> int:
    """Run a program whose output the user watches, and return its exit status."""
    return subprocess.run([str(word) for word in argv], cwd=cwd, stdin=subprocess.DEVNULL).returncode


# How long to wait for a program that was ended: one that is stuck in the kernel stays.
ENDED_SECONDS = 5.0


@contextmanager
def running(argv: Sequence[str | Path], *, log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program that goes on while the block runs; leaving the block, however, ends it.

    For a program whose end is not what is waited for.  It is ended with its children, also when this
    process dies (parent-death signal), and never waited for without a bound.

    log: file that gets the pasteable command and all output.
    """
    words = [find("setpriv"), "--pdeathsig", "KILL", find(str(argv[0])), *(str(word) for word in argv[1:])]
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"$ {pasteable(argv)}\n")
    with Path(log or os.devnull).open("ab") as output:
        process = subprocess.Popen(
            words,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDED_SECONDS)


def failed(argv: Sequence[str | Path], cwd: Path | None, result: Completed) -> UserError:
    """The error for a program that ended with a status other than 0."""
    tail = "\n".join((result.stdout + result.stderr).strip().splitlines()[-20:])
    cause = f"exit status {result.status}" + (f"\n{tail}" if tail else "")
    return refuse(pasteable(argv, cwd), cause)
