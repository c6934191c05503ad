# SPDX-License-Identifier: GPL-2.0-or-later
"""How long builds take, against the tools that they cannot do without.

Everything is measured in one run on one machine, so that the ratios mean something whatever the machine:

* a warm build of one file for one kernel (kernel and core prepared, nothing of the manifest built) over the
  bare compiler, objtool and linker commands that this very build ran, two at a time where they may be;
* a build with nothing to do over starting Python with the same imports;
* the diff of objects of several sizes, compiled from generated C with one function changed;
* the steps of preparing each kernel, as they were timed when they were done.

The builds run in a temporary folder with links to the project's files; its `build/` is not touched.
"""

from __future__ import annotations

import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kbuild_py.delta.diff import diff
from kbuild_py.elf.read import read_object
from kbuild_py.kernel.kbuild import environment
from kbuild_py.kernel.prepare import seconds
from kbuild_py.manifest.model import KernelDescription
from kbuild_py.run import run

LINKED = ("manifests", "core", "templates", "kbuild_py")
COMPILE = ("-O2", "-ffunction-sections", "-fdata-sections", "-fno-pie", "-mcmodel=kernel", "-pg", "-mfentry")
IMPORTS = "import doit.doit_cmd, kbuild_py.tasks, dodo"


def bench(root: Path, manifest: str, source: str, kernel: KernelDescription, rounds: int = 5) -> str:
    """The whole table as text.  `source` is the one file that `manifest` patches."""
    lines = []
    with tempfile.TemporaryDirectory(prefix="kbuild-py-bench-") as temporary:
        project = Path(temporary)
        for name in LINKED:
            (project / name).symlink_to(root / name)
        shutil.copy(root / "dodo.py", project)
        doit = [sys.executable, "-m", "doit"]
        task = f"_module:{manifest}:{kernel.name}"
        run([*doit, f"core:{kernel.name}"], cwd=project)

        def build() -> None:
            run([*doit, task], cwd=project)

        def forget() -> None:
            shutil.rmtree(project / "build" / manifest, ignore_errors=True)

        forget()
        build()
        folder = project / "build" / manifest / kernel.name
        stages = bare_commands(folder, source)
        bare = median(lambda: run_stages(stages, kernel.arch), rounds)
        warm = median(build, rounds, forget)
        lines += row("one file, warm build", warm, "its bare tools", bare)
        lines += [f"    {title}" for title in slowest(stages, kernel.arch)]
        idle = median(build, rounds)
        imports = median(lambda: run([sys.executable, "-c", IMPORTS], cwd=project), rounds)
        lines += row("nothing to do", idle, "Python and its imports", imports)
    lines += diff_by_size(rounds)
    lines.append(f"preparing {kernel.release}, when it was done:")
    lines += [f"    {name:<12} {took:7.1f} s" for name, took in seconds(kernel).items()]
    return "\n".join(lines) + "\n"


def diff_by_size(rounds: int, sizes: Sequence[int] = (100, 1000, 4000, 10000)) -> list[str]:
    """Seconds that reading and comparing a pair takes, by the number of its functions."""
    lines = ["diff, by size of one object:"]
    with tempfile.TemporaryDirectory(prefix="kbuild-py-bench-") as temporary:
        paths = Path(temporary, "before.o"), Path(temporary, "after.o")
        for size in sizes:
            for path, number in zip(paths, (1, 2), strict=True):
                source = path.with_suffix(".c")
                source.write_text(generated(size, number))
                run(["gcc", *COMPILE, "-c", "-o", path.name, source.name], cwd=path.parent)
            took = median(lambda: diff(read_object(paths[0]), read_object(paths[1])), rounds)
            symbols, bytes_ = len(read_object(paths[0]).symbols), paths[0].stat().st_size
            lines.append(f"    {bytes_ / 1e6:5.2f} MB, {symbols:6} symbols {took:7.2f} s")
    return lines


def generated(count: int, number: int) -> str:
    """C with `count` functions, each with a variable of its own; the first one uses `number`."""
    lines = ["int other(int, const char *);"]
    for index in range(count):
        value = number if not index else 1
        lines.append(
            f"static int v{index}; int f{index}(int x) "
            f'{{ v{index} += x; return other(x + {value}, "text {index}"); }}'
        )
    return "\n".join(lines) + "\n"


def row(title: str, took: float, against: str, reference: float) -> list[str]:
    """One comparison as lines."""
    return [
        f"{title:<24} {took:7.2f} s",
        f"  {against:<22} {reference:7.2f} s   ratio {took / reference:.2f}",
    ]


def median(action: Callable[[], object], rounds: int, before: Callable[[], None] | None = None) -> float:
    """Median of the seconds that `action` takes; `before` runs ahead of each round, untimed."""
    times = []
    for _ in range(rounds):
        if before:
            before()
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def bare_commands(folder: Path, source: str) -> list[list[list[str]]]:
    """The tools' own commands of a build: stages in order, each with commands that may run at once.

    They are read from the logs of the stages.
    """
    stem = source.removesuffix(".c")
    objects, module = folder / "02-objects" / stem, folder / "05-module"
    logs = {path.name: shell(first_line(path)) for path in objects.glob("*.compile.log")}
    tools = [
        objtool(objects / "original.o", objects / "proof.objtool.log"),
        objtool(folder / "04-delta" / f"{stem}.o", folder / "04-delta" / f"{stem}.objtool.objtool.log"),
    ]
    headers, *made = (module / "build.log").read_text().splitlines()
    steps = [line.removeprefix("$ ") for line in made if line.startswith("$ ")]
    return [
        [logs["original.compile.log"], logs["patched.compile.log"]],
        tools,
        *([shell(f"{headers.removeprefix('$ ')} && {step}")] for step in steps if " -o " in step),
    ]


def objtool(before: Path, log: Path) -> list[str]:
    """The logged command, with a copy of the object before it: objtool works in place."""
    command = first_line(log)
    return shell(f"cp {shlex.quote(str(before))} {command.split()[-1]} && {command}")


def first_line(path: Path) -> str:
    """The command that a log begins with."""
    return path.read_text().partition("\n")[0].removeprefix("$ ")


def shell(command: str) -> list[str]:
    return ["sh", "-c", command]


def run_stages(stages: Sequence[Sequence[Sequence[str]]], arch: str) -> None:
    """Run the commands, those of one stage two at a time; `UserError` when one of them fails."""
    with ThreadPoolExecutor(2) as pool:
        for stage in stages:
            for done in [pool.submit(run, command, env=environment(arch)) for command in stage]:
                done.result()


def slowest(stages: Sequence[Sequence[Sequence[str]]], arch: str) -> list[str]:
    """Each stage's own time, for whoever wants to know where it goes."""
    return [
        f"{median(lambda stage=stage: run_stages([stage], arch), 3):5.2f} s  {program(stage[0])}"  # type: ignore[misc]
        for stage in stages
        if stage
    ]


def program(command: Sequence[str]) -> str:
    """What a shell command runs, for people."""
    words = command[-1].rpartition("&& ")[2].split()
    output = words[words.index("-o") + 1] if "-o" in words else words[-1]
    return f"{Path(words[0]).name} -> {Path(output).name}"
