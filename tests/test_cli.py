# SPDX-License-Identifier: GPL-2.0-or-later
"""`kbuild-py` and the launcher, as a user starts them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kbuild_py.cli import BROKEN_PIPE, DONE, INTERRUPTED, REFUSED, USAGE, main
from kbuild_py.kernel.target import TargetKernel
from tests.projects import KERNEL, TOP, edited, throw_away


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["functions", "meminfo-sting"], "no manifest is called 'meminfo-sting'\n  hint: did you mean 'mem"),
        (["kernel", "lock", "x"], "no kernel is called 'x'\n  hint: there are: debian-12-6.12-amd64, "),
    ],
)
def test_unknown_names_are_refused_before_anything_is_done(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(TOP / "tests")  # any folder of the project will do
    assert main(arguments) == REFUSED
    printed = capsys.readouterr()
    assert printed.err.startswith(says) and printed.out == ""


def test_a_manifest_without_a_patch_changes_no_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing has to be built to say so, least of all every other manifest."""
    project = throw_away(tmp_path / "project", ["nr-open-min", "meminfo-string"])
    monkeypatch.chdir(project.root)
    assert main(["functions", "nr-open-min"]) == DONE
    assert capsys.readouterr().out == "    functions: []\n"
    assert not (project.root / "build").exists()


def test_outside_of_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["schema", "--check"]) == REFUSED
    assert capsys.readouterr().err.startswith(f"{tmp_path}: is not inside a project")


def test_schema_writes_what_it_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "dodo.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert main(["schema", "--check"]) == REFUSED
    assert "hint: kbuild-py schema --write" in capsys.readouterr().err
    assert main(["schema", "--write"]) == main(["schema", "--check"]) == DONE


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["schema"], ["kernel"], ["functions"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == USAGE and "usage: kbuild-py" in capsys.readouterr().err


@pytest.mark.kernel
def test_functions_adds_to_a_log_that_has_both_outputs(tmp_path: Path, debian12: TargetKernel) -> None:
    root = throw_away(tmp_path / "project").root
    log = tmp_path / "log"
    log.write_text("earlier line\n")
    argv = [sys.executable, "-c", "from kbuild_py.cli import main; main(['functions', 'meminfo-string'])"]
    with log.open("a") as stream:
        subprocess.run(argv, cwd=root, stdout=stream, stderr=stream, check=True)
    lines = log.read_text().splitlines()
    assert lines[0] == "earlier line"
    assert any("compile fs/proc/meminfo.c" in line for line in lines)
    assert lines[-2:] == ["    functions:", "      - meminfo_proc_show"]


def launcher(root: Path) -> None:
    """A project that the launcher has set up, with a doit that prints how it was started."""
    (root / ".venv/bin").mkdir(parents=True)
    for name in ("doit", "pyproject.toml"):
        shutil.copy(TOP / name, root / name)
    digests = (f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}"
               for name in ("doit", "pyproject.toml"))  # fmt: skip
    (root / ".venv/.project").write_text("\n".join([str(root), *digests]) + "\n")
    (root / ".venv/bin/python").symlink_to(sys.executable)
    (root / ".venv/bin/doit").write_text("import os, sys; print(os.getcwd(), *sys.argv)\n")


def test_the_launcher_starts_doit_under_its_own_name(tmp_path: Path) -> None:
    root = tmp_path / "project"
    launcher(root)
    done = subprocess.run([root / "doit", "build:x"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{root} {root}/.venv/bin/doit build:x\n", done.stderr


@pytest.mark.parametrize("change", ["moved", "another pyproject.toml"])
def test_the_launcher_sets_up_what_is_not_set_up_like_this(tmp_path: Path, change: str) -> None:
    """And starts nothing when that fails, nor the next time."""
    root = tmp_path / "project"
    launcher(root)
    if change == "moved":
        root = root.rename(tmp_path / "elsewhere")
    else:
        (root / "pyproject.toml").write_text("")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in {"python3": 'test "$1" = -c || exit 7', "dpkg-query": "echo installed"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    for _ in range(2):
        done = subprocess.run(
            [root / "doit"], env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (7, "", "doit: making .venv\n")


@pytest.mark.parametrize(
    ("output", "json", "what"),
    [
        ("a.o", "x.json", "--output is the original too"),
        ("./sub/../b.o", None, "--output is the patched object too"),
        ("out.o", "a.o", "--json is the original too"),
        ("out.o", "out.o", "--json is --output too"),
        ("link.o", None, "--output is the original too"),
    ],
)
def test_diff_overwrites_none_of_its_files(
    output: str,
    json: str | None,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("a.o", "b.o"):
        (tmp_path / name).write_bytes(Path(sys.executable).read_bytes()[:64])
    (tmp_path / "link.o").symlink_to("a.o")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.o")}
    arguments = ["diff", "a.o", "b.o", "--output", output, *(["--json", json] if json else [])]
    assert main(arguments) == REFUSED
    assert what in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.o")} == before


def test_a_reader_that_leaves_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    script = (
        "import sys; from kbuild_py import cli;"
        "cli._schema = lambda _: print('text') or cli.DONE; sys.exit(cli.main(['schema', '--check']))"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, "")


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("kbuild_py.cli._schema", interrupted)
    assert main(["schema", "--check"]) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.kernel
def test_verdicts_have_places_below_the_project(tmp_path: Path, debian12: TargetKernel) -> None:
    project = throw_away(tmp_path / "project", manifests=())
    patch = edited(
        debian12.tree, "fs/proc/uptime.c", 'proc_create_single("uptime"', 'proc_create_single("up"'
    )
    project.add("late", patch)
    answer = project.doit("build:late")
    assert answer.status != 0
    place = f"build/late/{KERNEL}/02-objects/fs/proc/uptime/patched.o(.init.text+0x0): "
    assert any(line.startswith(place) for line in answer.stdout.splitlines()), answer.stdout
