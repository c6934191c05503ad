# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix: what has become of each manifest for each kernel and backend, without building anything.

The stamps of a build's tasks (stamps.py) say where it stands:

    refused    a stage refused these very inputs; the first reason and its rule are shown
    failed     the module is built, and the kernel that was booted with it did not pass the checks
    verified   built, and it did
    built      the module is there and is made from these very inputs
    stale      it is there, and an input has changed since
    not built  none of this

It is shown as text, and written as JSON (all reasons), Markdown and HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from kbuild_py import stamps
from kbuild_py.baseline.proof import Proof, State
from kbuild_py.columns import aligned
from kbuild_py.errors import Problem
from kbuild_py.files import read_json, write_atomic, write_json
from kbuild_py.module.render import render

# What the end of a verdict's cause names: [static-local-lost].
RULE = re.compile(r" \[([a-z-]+)\]$")
FORMAT = 1


class Outcome(Enum):
    """Where one build stands."""

    VERIFIED = "verified"
    BUILT = "built"
    STALE = "stale"
    NOT_BUILT = "not built"
    REFUSED = "refused"
    FAILED = "failed"


BAD = (Outcome.REFUSED, Outcome.FAILED)


@dataclass(frozen=True, slots=True)
class Stage:
    """One task of a build: its name, its stamp, and its inputs as `stamps.fingerprint` takes them."""

    name: str
    stamp: Path
    values: Sequence[str]
    files: Sequence[str | Path]

    def is_current(self) -> bool:
        """Whether what it made is of these inputs."""
        return stamps.is_current(self.stamp, self.values, self.files)

    def refusal(self) -> tuple[Problem, ...]:
        """Why it was refused; nothing when it was not, or when an input has changed since."""
        try:
            return stamps.refusal(self.stamp, stamps.fingerprint(self.values, self.files))
        except OSError:  # an input is not there, so it never came to that
            return ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One manifest for one kernel through one backend.

    stage:    the stage that refused, or ""
    problems: why, all of it
    proven:   functions of the touched files that are proven to be the kernel's, of how many
    """

    manifest: str
    kernel: str
    backend: str
    outcome: Outcome
    stage: str
    problems: tuple[Problem, ...]
    proven: tuple[int, int]

    @property
    def rule(self) -> str:
        """The rule of the first reason, or the stage."""
        found = RULE.search(self.problems[0].cause) if self.problems else None
        return found[1] if found else self.stage


def cell(
    manifest: str,
    kernel: str,
    backend: str,
    stages: Sequence[Stage],
    verify: Stage,
    module: Path,
    proofs: Sequence[Path],
) -> Cell:
    """stages: up to the module, in their order; proofs: the files of those that are made"""
    outcome, stage, problems = _outcome(stages, verify, module)
    return Cell(manifest, kernel, backend, outcome, stage, problems, _proven(proofs))


def _outcome(
    stages: Sequence[Stage], verify: Stage, module: Path
) -> tuple[Outcome, str, tuple[Problem, ...]]:
    # What comes after an outdated stage is outdated, too.
    open_stage = next((one for one in stages if not one.is_current()), None)
    if open_stage and (problems := open_stage.refusal()):
        return Outcome.REFUSED, open_stage.name, problems
    if not module.exists():
        return Outcome.NOT_BUILT, "", ()
    if open_stage:
        return Outcome.STALE, "", ()
    if problems := verify.refusal():
        return Outcome.FAILED, verify.name, problems
    return Outcome.VERIFIED if verify.is_current() else Outcome.BUILT, "", ()


def _proven(proofs: Sequence[Path]) -> tuple[int, int]:
    functions = [
        one for path in proofs if path.exists() for one in Proof.from_json(read_json(path)).functions
    ]
    return sum(one.state is State.PROVEN for one in functions), len(functions)


def text(cells: Sequence[Cell]) -> str:
    """A table for a terminal; below it, what was refused and failed, with the first reason of each."""
    rows = [("MANIFEST", "KERNEL", "BACKEND", "STATE", "PROVEN"), *(_row(one) for one in cells)]
    lines = aligned(rows)
    for one in cells:
        if one.problems:
            more = f"\n  and {len(one.problems) - 1} more" if len(one.problems) > 1 else ""
            lines.append(f"{one.manifest}, {one.kernel}, {one.backend}: {one.problems[0]}{more}")
    return "\n".join(lines) + "\n"


def _row(one: Cell) -> tuple[str, str, str, str, str]:
    state = f"{one.outcome.value}: {one.rule}" if one.outcome in BAD else one.outcome.value
    proven, total = one.proven
    return one.manifest, one.kernel, one.backend, state, f"{proven} of {total}" if total else "-"


def markdown(cells: Sequence[Cell]) -> str:
    """A table, as Markdown has it."""
    lines = ["| manifest | kernel | backend | state | proven |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(value.replace('|', chr(92) + '|') for value in _row(one))} |" for one in cells]
    return "\n".join(lines) + "\n"


def page(cells: Sequence[Cell]) -> str:
    """A page of HTML that needs nothing else."""
    rows = [
        {
            "cells": [html.escape(value) for value in _row(one)],
            "state": one.outcome.name.lower(),
            "reasons": [html.escape(str(problem)) for problem in one.problems],
        }
        for one in cells
    ]
    return render("matrix.html.j2", {"rows": rows})


def write(folder: Path, cells: Sequence[Cell]) -> None:
    """Write matrix.json, matrix.md and matrix.html into `folder`."""
    write_json(folder / "matrix.json", {"format": FORMAT, "cells": list(_json(cells))})
    write_atomic(folder / "matrix.md", markdown(cells))
    write_atomic(folder / "matrix.html", page(cells))


def _json(cells: Sequence[Cell]) -> Iterator[dict[str, object]]:
    for one in cells:
        proven, total = one.proven
        yield {
            **asdict(one),
            "outcome": one.outcome.value,
            "rule": one.rule if one.problems else "",
            "proven": proven,
            "functions": total,
        }
