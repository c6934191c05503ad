# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/hand-written-patches.md: its commands do what it shows, and its pieces of C are in the example."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import BootReport, Outcome, render_report

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "hand-written-patches.md").read_text()
EXAMPLE = ROOT / "docs" / "example"
COMPLAINTS = re.compile(r"WARNING:|BUG:|Oops|general protection|INFO: (task|rcu)|refcount_t|were left over")


@dataclass(frozen=True)
class Command:
    """A command of the page: `$` where the patch is built, `#` as root on the patched machine."""

    prompt: str
    text: str
    output: str


def commands() -> Iterator[Command]:
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        for prompt, text, output in re.findall(r"^([$#]) (.*)\n((?:(?![$#] ).*\n)*)", block, re.MULTILINE):
            yield Command(prompt, text, output)


def run_on_host(steps: list[Command], project: Path, kernel: TargetKernel) -> None:
    """In one shell, with the packaged headers where the page has the running kernel's."""
    trial = project / "trial"
    script = "\n".join(step.text for step in steps if not step.text.startswith("HEADERS="))
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=trial if trial.exists() else project,
        env={**os.environ, "HEADERS": str(kernel.headers)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning:" not in done.stdout + done.stderr, done.stdout + done.stderr


def run_in_guest(steps: list[Command], project: Path, kernel: TargetKernel, folder: Path) -> BootReport:
    """One boot; what a step has written to a header comes back to the host."""
    trial = project / "trial"
    files: dict[str, bytes | Path] = {
        f"/trial/{path.relative_to(trial)}": path
        for path in trial.rglob("*")
        if path.suffix in (".ko", ".sh")
    }
    guest_steps: list[GuestStep] = []
    headers: dict[int, Path] = {}
    for step in steps:
        guest_steps.append(
            GuestStep(step.text, f"cd /trial; {step.text}", stdout=step.output, essential=True)
        )
        header = re.search(r">(\S+\.h)$", step.text)
        if header is not None:
            headers[len(guest_steps)] = trial / header[1]
            guest_steps.append(GuestStep(f"cat {header[1]}", f"cat /trial/{header[1]}"))
    report = boot(kernel.boot_image, Guest(tuple(guest_steps), files, append="secret=12345"), folder)
    assert report.outcome is Outcome.PASSED, render_report(report)
    assert not COMPLAINTS.search(report.console), report.console
    for number, path in headers.items():
        path.write_text(report.steps[number].output)
    return report


@pytest.mark.kernel
@pytest.mark.boot
def test_the_commands_of_the_page(debian12: TargetKernel, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "core", project / "core")
    shutil.copytree(EXAMPLE, project / "docs" / "example")
    for number, (prompt, steps) in enumerate(groupby(commands(), key=lambda step: step.prompt)):
        if prompt == "$":
            run_on_host(list(steps), project, debian12)
        else:
            run_in_guest(list(steps), project, debian12, tmp_path / f"boot-{number}")


def pieces() -> list[str]:
    """The page's and the manual's C, but for what is left out of it."""
    manuals = [path.read_text() for path in (ROOT / "man").iterdir() if path.suffix == ".9"]
    found = re.findall(r"^```c\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for text in manuals:
        found += re.findall(
            r"^\.EX\n(.*?)^\.EE$", text.partition(".SH EXAMPLES")[2], re.MULTILINE | re.DOTALL
        )
    return [piece.replace(r"\-", "-").replace(r"\e", "\\") for piece in found]


def test_pieces_of_code_are_the_examples() -> None:
    source = "\n".join(path.read_text() for path in sorted(EXAMPLE.rglob("*.c")))
    lines = {line.strip() for line in source.splitlines()}
    assert len(pieces()) > 5
    for piece in pieces():
        for line in piece.splitlines():
            text = re.sub(r"\s*/\*.*?\*/", "", line).strip()
            assert not text or text == "..." or text.startswith("#define ") or text in lines, line


def test_the_page_shows_what_describe_prints() -> None:
    script = (EXAMPLE / "patch" / "describe.sh").read_text()
    for name in re.findall(r"^#define ([A-Z]+_(?:[A-Z]+$)?)", PAGE, re.MULTILINE):
        assert f"#define {name}" in script


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["none_of_these"], "has no such function"), (["twice"], "several functions have this name")],
)
def test_describe_refuses(arguments: list[str], message: str, tmp_path: Path) -> None:
    source = tmp_path / "module.c"
    source.write_text("void once(void) { }\nstatic void twice(void) { }\nvoid *use = twice;\n")
    other = tmp_path / "other.c"
    other.write_text("static void twice(void) { }\nvoid *other = twice;\n")
    module = tmp_path / "module.ko"
    subprocess.run(["gcc", "-r", "-nostdlib", "-o", module, source, other], check=True)
    script = ["sh", EXAMPLE / "patch" / "describe.sh", "module", module]
    assert re.fullmatch(r"#define SIZE_once \d+UL\n", subprocess.check_output([*script, "once"], text=True))
    done = subprocess.run([*script, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and message in done.stderr and done.stdout == ""
