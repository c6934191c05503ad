# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the core stops the machine, next to the transition of the kernel's own livepatch.

One boot of a kernel; core/bench/ has a module with 200 functions, and patches of the first 1, 10 or 200 of
them, for the core and for livepatch.  The number of tasks grows by processes that sleep.  Idle, nothing
else happens; busy, on every CPU a process calls all of the functions all the time, by a system call.

What is printed is the least and the median of several switches by `enabled`, as
/sys/kernel/kpatch/last_stop_ns has it: the time from when the first CPU begins to look at stacks, with all
others stopped, until the switch is done.  Its bulk should be the look at every task's stack: linear in tasks,
and the same for any number of functions.  Where the guest's CPUs are threads of a host that has others to
run, the switch waits for the host as well, in steps of its time slices: the least is what the check costs.

Livepatch does not stop the machine, and checks every task for itself: its time is that from the beginning of
its transition until the last task has been switched.  What the first attempt leaves is tried again every
second, so this is seconds rather than a precise time, and is taken once.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbuild_py.elf.read import read_object
from kbuild_py.errors import refuse
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.module.build import build_core, kbuild
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import BootReport, Outcome, render_report

TASKS = (50, 500, 2000)
FUNCTIONS = (1, 10, 200)
ROUNDS = 5
LIVEPATCH_SECONDS = 30
STEP_SECONDS = 400

# Words for the steps.  $kernel has the parameters release=, build_id= and size=.
WORDS = f"""
cd /modules
kpatch=/sys/kernel/kpatch

stop() {{
    dmesg | tail -n 5
    exit 1
}}

count() {{
    ls -d /proc/[0-9]*/task/[0-9]* | wc -l
}}

fill() {{ # NUMBER: so many tasks
    have=$(count)
    while [ $have -lt $1 ]; do
        sleep 100000 &
        have=$((have + 1))
    done
    sleep 2
}}

switch() {{ # TASKS STATE FUNCTIONS APPLIED
    echo $4 >$kpatch/patches/bench/enabled && echo kpatch-$4 $1 $2 $3 $(cat $kpatch/last_stop_ns)
}}

transition() {{ # TASKS STATE FUNCTIONS
    livepatch=/sys/kernel/livepatch/kpb_livepatch
    end_livepatch || return 0
    insmod kpb_livepatch.ko nr=$3 || return 0
    for tenth in $(seq {LIVEPATCH_SECONDS * 10}); do
        [ $(cat $livepatch/transition) = 0 ] && break
        sleep 0.1
    done
    ns=$(cat /sys/module/kpb_livepatch/parameters/transition_ns)
    [ $ns = 0 ] && ns={LIVEPATCH_SECONDS}000000000
    echo livepatch $1 $2 $3 $ns
    end_livepatch
}}

end_livepatch() {{ # its module is gone; busy callers may hold it up, then the next transition tries again
    for tenth in $(seq {LIVEPATCH_SECONDS * 10}); do
        [ -e /sys/module/kpb_livepatch ] || return 0
        [ "$(cat $livepatch/enabled 2>/dev/null)" = 1 ] && echo 0 >$livepatch/enabled
        [ -e $livepatch ] || rmmod kpb_livepatch 2>/dev/null
        sleep 0.1
    done
    [ ! -e /sys/module/kpb_livepatch ]
}}

measure() {{ # TASKS STATE
    for functions in {" ".join(map(str, FUNCTIONS))}; do
        insmod kpb_patch.ko nr=$functions $kernel || stop
        for round in $(seq {ROUNDS}); do
            switch $1 $2 $functions 0
            switch $1 $2 $functions 1
        done
        rmmod kpb_patch || exit 1
        [ ! -e kpb_livepatch.ko ] || transition $1 $2 $functions
    done
    return 0
}}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: `what` is kpatch-1 (applied), kpatch-0 (undone) or livepatch."""

    what: str
    tasks: int
    state: str
    functions: int
    ns: int


def bench_core(root: Path, kernel: TargetKernel) -> str:
    """The table as text.  root: the project, its core/ is built and measured.

    Raises `UserError` when the modules cannot be built, or when the boot does not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="kbuild-py-bench-") as temporary:
        folder = Path(temporary)
        modules = build(root / "core", kernel, folder)
        cpus = min(2, os.cpu_count() or 1)
        guest = Guest(
            steps(kernel, modules), files(modules), cpus=cpus, memory=2048, timeout=3600, one_thread=True
        )
        report = boot(kernel.boot_image, guest, folder / "boot")
    if report.outcome is not Outcome.PASSED:
        raise refuse(kernel.name, f"the measurement failed:\n{render_report(report)}", "see the output above")
    found = samples(report)
    machine = f"{kernel.release}, {cpus} CPUs ({report.accelerator})"
    title = f"stop time on {machine}, least / median of {ROUNDS} switches"
    return "\n".join((title, *table(found))) + "\n"


def build(core: Path, kernel: TargetKernel, folder: Path) -> tuple[Path, ...]:
    """Build the core and the modules of core/bench/ below `folder`."""
    build_core(kernel, core, folder / "core")
    sources = Path(shutil.copytree(core / "bench", folder / "modules"))
    shutil.copy(core / "kpatch.h", sources)
    kbuild(kernel, sources, extra_symbols=folder / "core" / "Module.symvers")
    return (folder / "core" / "kpatch.ko", *sorted(sources.glob("*.ko")))


def files(modules: Iterable[Path]) -> dict[str, bytes | Path]:
    return {f"/modules/{module.name}": module for module in modules}


def steps(kernel: TargetKernel, modules: Iterable[Path]) -> tuple[GuestStep, ...]:
    """One step for each number of tasks, idle and busy."""
    target = next(module for module in modules if module.name == "kpb_target.ko")
    size = next(symbol.size for symbol in read_object(target).symbols if symbol.name == "kpb_000")
    words = f"kernel='release={kernel.release} build_id={kernel.build_id} size={size}'\n{WORDS}"

    def step(title: str, command: str) -> GuestStep:
        return GuestStep(title, words + command, essential=True, timeout=STEP_SECONDS)

    made = [step("load", "insmod kpatch.ko && insmod kpb_target.ko")]
    for tasks in TASKS:
        busy = """
for cpu in $(seq $(nproc)); do
    dd if=/proc/kpatch-bench of=/dev/null bs=16 2>/dev/null &
    callers="$callers $!"
done
"""
        made.append(step(f"{tasks} tasks", f"fill {tasks}\nmeasure $(count) idle"))
        made.append(step(f"{tasks} tasks, busy", f"{busy}measure $(count) busy\nkill $callers"))
    return tuple(made)


def samples(report: BootReport) -> list[Sample]:
    """What the guest has measured."""
    rows = [line.split() for step in report.steps for line in step.output.splitlines()]
    return [Sample(row[0], int(row[1]), row[2], int(row[3]), int(row[4])) for row in rows if len(row) == 5]


def table(found: Sequence[Sample]) -> list[str]:
    """One line for each combination: microseconds of applying and undoing, livepatch's milliseconds."""
    lines = [
        "tasks  CPUs  functions            applied             undone  each task   livepatch's transition"
    ]
    for tasks, state, functions in dict.fromkeys((one.tasks, one.state, one.functions) for one in found):
        here = [one for one in found if (one.tasks, one.state, one.functions) == (tasks, state, functions)]
        applied, undone, other = (
            [one.ns for one in here if one.what == what] for what in ("kpatch-1", "kpatch-0", "livepatch")
        )
        lines.append(
            f"{tasks:5}  {state}  {functions:9}  {microseconds(applied)}  {microseconds(undone)}"
            f"  {min(applied, default=0) / tasks / 1000:6.2f} us   {transition(other)}"
        )
    return lines


def microseconds(ns: Sequence[int]) -> str:
    if not ns:
        return "          refused"
    return f"{min(ns) / 1000:6.0f} / {statistics.median(ns) / 1000:6.0f} us"


def transition(ns: Sequence[int]) -> str:
    """Livepatch's time, for people: it may not have come to an end."""
    if not ns:
        return "none, or refused"
    if statistics.median(ns) >= LIVEPATCH_SECONDS * 1e9:
        return f"not within {LIVEPATCH_SECONDS} s"
    return f"{statistics.median(ns) / 1e6:8.1f} ms"
