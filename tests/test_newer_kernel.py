# SPDX-License-Identifier: GPL-2.0-or-later
"""Patched code on a kernel with branch tracking: stacks unwind through it, and the kernel rewrites it.

Everything that objtool makes there, it makes on the patch object alone: ORC data, static calls, jump labels,
return sites.  One patch has them all, and one boot shows that the kernel takes them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import Outcome, render_report
from kbuild_py.vm.verify import kernel_log_step, load_step, unload_step
from tests.projects import KERNEL, edited, throw_away

pytestmark = [pytest.mark.kernel, pytest.mark.boot]

NAME, NEWER = "stacks", "debian-12-6.12-amd64"
FORK = "\tp = copy_process(NULL, trace, NUMA_NO_NODE, args);\n"
# The patched function has trace points (a jump label and a static call) and gets another static call.
PATCHED = """\
	cond_resched();
	if (!strcmp(current->comm, "dumper"))
		dump_stack();
	if (!strcmp(current->comm, "sleeper"))
		schedule_timeout_uninterruptible(10 * HZ);
"""
EVENT = "/tracing/events/sched/sched_process_fork/enable"
# From the patched function to the end of the stack.
FRAMES = ["kernel_clone [patch]", "__do_sys_", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"]


def steps(core: Path, patch: Path) -> tuple[GuestStep, ...]:
    """What the guest does; the outputs of those called `dump`, `sleep` and `refusal` are stacks."""

    def forking(comm: str) -> str:
        return f"sh -c 'printf {comm} >/proc/self/comm; /bin/true; :'"

    traced = "grep -c 'sched_process_fork: ' /tracing/trace"
    return (
        load_step(core),
        load_step(patch),
        GuestStep("mount", "mkdir /tracing && mount -t tracefs none /tracing", essential=True),
        GuestStep("off", f"/bin/true; {traced}", expect_status=1, stdout="0"),
        GuestStep("on", f"echo 1 >{EVENT}; /bin/true; {traced} >/tmp/count; test $(cat /tmp/count) -gt 0"),
        GuestStep("off again", f"echo 0 >{EVENT}; echo >/tracing/trace; /bin/true; {traced}", 1, "0"),
        GuestStep("dump", f"{forking('dumper')}; dmesg | sed -n '/Call Trace:/,/<.TASK>/p'"),
        GuestStep("sleep", f"{forking('sleeper')} >/dev/null 2>&1 </dev/null & sleep 2; cat /proc/$!/stack"),
        GuestStep(
            "refusal", f"echo 0 >/sys/kernel/kpatch/patches/{NAME}/enabled; dmesg | grep 'stack of pid'"
        ),
        GuestStep("wait", "sleep 10"),
        unload_step(patch),
        kernel_log_step(0, "end"),
    )


def frames(text: str) -> list[str]:
    """The functions of a stack dump that the unwinder is sure of, innermost first."""
    lines = [line for line in text.splitlines() if " ? " not in line]
    found = (re.search(r"([\w.]+)\+0x\w+/0x\w+( \[kpatch_stacks\])?", line) for line in lines)
    return [f"{one[1]}{' [patch]' if one[2] else ''}" for one in found if one]


@pytest.mark.parametrize("cpus", [2])
def test_stacks_unwind_through_patched_code(debian12_newer: TargetKernel, tmp_path: Path, cpus: int) -> None:
    project = throw_away(tmp_path / "project", [])
    patch = edited(debian12_newer.tree, "kernel/fork.c", FORK, PATCHED + FORK)
    project.add(NAME, patch, functions="[kernel_clone]")
    manifest = project.manifest(NAME)
    manifest.write_text(manifest.read_text().replace(f"[{KERNEL}]", f"[{NEWER}]"))
    project.built(f"build:{NAME}")
    module = project.root / "build" / NAME / NEWER / f"kpatch-{NAME}.ko"
    core = project.root / "build" / "core" / NEWER / "kpatch.ko"
    files: dict[str, bytes | Path] = {f"/modules/{path.name}": path for path in (core, module)}
    guest = Guest(steps(core, module), files, cpus=cpus, one_thread=True)
    report = boot(debian12_newer.boot_image, guest, tmp_path / "boot")
    assert report.outcome is Outcome.PASSED, render_report(report)
    outputs = {step.title: step.output for step in report.steps}
    for title in ("dump", "sleep", "refusal"):
        found = frames(outputs[title])
        last = found[found.index(FRAMES[0]) :]
        assert len(last) == len(FRAMES) or "x64_sys_call" in last, outputs[title]
        last = [name for name in last if name != "x64_sys_call"]
        assert all(name.startswith(wanted) for name, wanted in zip(last, FRAMES, strict=True)), outputs[title]
