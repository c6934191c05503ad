# SPDX-License-Identifier: GPL-2.0-or-later
"""Throw-away copies of this project, for tests that run `doit` as a user does.

A copy holds all that a build reads: dodo.py, the program, templates, core, kernels, and the manifests that
the test asks for.  Kernels come from the user's own cache, where the fixtures of conftest.py prepared them.
"""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[1]
KERNEL = "debian-12-amd64"
MEMINFO = "fs/proc/meminfo.c"


@dataclass(frozen=True)
class Answer:
    """What one run of doit left."""

    status: int
    stdout: str
    stderr: str

    @property
    def ran(self) -> list[str]:
        """The titles of the tasks that ran, in their order (a title is all that a task prints there)."""
        return [line for line in self.stdout.splitlines() if line.startswith(("core module", "kernel "))
                or f" for {KERNEL}: " in line]  # fmt: skip


@dataclass(frozen=True)
class Throwaway:
    """A copy of the project at `root`."""

    root: Path

    def command(self, *arguments: str) -> list[str]:
        """The command line, for tests that start doit themselves."""
        return [sys.executable, "-B", "-m", "doit", *arguments]

    def doit(self, *arguments: str, env: dict[str, str] | None = None, umask: int = -1) -> Answer:
        """Run doit to its end."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env={**os.environ, **(env or {})},
            umask=umask,
            capture_output=True,
            text=True,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def built(self, *arguments: str, **how: object) -> Answer:
        """Run doit, which must succeed."""
        answer = self.doit(*arguments, **how)  # type: ignore[arg-type]
        assert answer.status == 0, answer.stdout + answer.stderr
        return answer

    def manifest(self, name: str) -> Path:
        return self.root / "manifests" / name / "manifest.yaml"

    def folder(self, name: str) -> Path:
        """The folder of a manifest's outputs."""
        return self.root / "build" / name / KERNEL

    def module(self, name: str) -> Path:
        return self.folder(name) / f"kpatch-{name}.ko"

    @property
    def core(self) -> Path:
        return self.root / "build" / "core" / KERNEL / "kpatch.ko"

    def add(
        self,
        name: str,
        patch: str,
        checks: str = "checks: {}\n",
        functions: str = "auto",
        hooks: str = "",
        sources: Mapping[str, str] | None = None,
    ) -> None:
        """Write a manifest of that name, for vmlinux.

        patch:   may be empty, then there is none
        hooks:   "{load: f}"
        sources: C files of the manifest, by name
        """
        folder = self.root / "manifests" / name
        folder.mkdir()
        text = f"schema: 1\nname: {name}\ndescription: A patch that exists for the tests\n"
        if patch:
            (folder / f"{name}.patch").write_text(patch)
            text += f"patch: {name}.patch\n"
        for file, content in (sources or {}).items():
            (folder / file).write_text(content)
        if sources:
            text += f"sources: [{', '.join(sources)}]\n"
        text += f"kernels: [{KERNEL}]\nobjects:\n  vmlinux:\n    functions: {functions}\n"
        text += f"    hooks: {hooks}\n" if hooks else ""
        (folder / "manifest.yaml").write_text(text + checks)


def throw_away(
    root: Path, manifests: Sequence[str] = ("meminfo-string",), source: Path = TOP, *, both: bool = False
) -> Throwaway:
    """A copy of this project at `root`, with these of its manifests, each for one kernel only.

    source: what to copy; give the first copy's root where two copies must be equal while somebody edits
    both:   for the backends that the manifests name, and not for the core only
    """
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("kbuild_py", "templates", "core", "runtime", "man", "manifests/kernels"):
        shutil.copytree(source / name, root / name, ignore=ignore)
    shutil.copy(source / "dodo.py", root)
    for name in manifests:
        shutil.copytree(source / "manifests" / name, root / "manifests" / name)
        path = root / "manifests" / name / "manifest.yaml"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text(
            "".join(
                f"kernels: [{KERNEL}]\n" if line.startswith("kernels:") else line
                for line in lines
                if both or not line.startswith("backend:")
            )
        )
    return Throwaway(root)


def edited(tree: Path, source: str, old: str, new: str) -> str:
    """A patch that replaces the one place in a kernel source that has the text `old`."""
    text = (tree / source).read_text()
    assert text.count(old) == 1, f"{source} has {text.count(old)} times {old!r}"
    lines = (text.splitlines(keepends=True), text.replace(old, new).splitlines(keepends=True))
    return "".join(difflib.unified_diff(*lines, f"a/{source}", f"b/{source}"))
