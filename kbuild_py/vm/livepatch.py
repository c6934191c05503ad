# SPDX-License-Identifier: GPL-2.0-or-later
"""Loading and unloading a livepatch in a guest, which takes time in both directions.

`insmod` returns when the transition begins.  It ends when no task is in an old function any more: within a
second or two in an idle guest, never when a task sleeps in one.  So both ways are waited for, with bounded
patience, and a step that gives up names the tasks that hold the transition up (/proc/PID/patch_state) and
where they are.  `rmmod` works when the patch is disabled and its own transition has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kbuild_py.manifest.model import Check, When
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.verify import check_steps, kernel_log_step, kernel_name, load_step, unload_step

PATIENCE = 45  # seconds; a step has 60


def wait_step(patch: str, enabled: bool, stage: str) -> GuestStep:
    """Wait until the patch (its module's name) is applied by all tasks, or by none and gone."""
    folder = f"/sys/kernel/livepatch/{patch}"
    # In /proc/PID/patch_state: -1 no transition, 0 unpatched, 1 patched.
    wanted, ended = ("1", f'[ "$(cat {folder}/transition)" = 0 ]') if enabled else ("0", f"[ ! -e {folder} ]")
    command = (
        f"for second in $(seq {PATIENCE}); do {ended} && exit 0; sleep 1; done\n"
        f"echo 'these tasks hold the transition of {patch} up:'\n"
        "for task in /proc/[0-9]*/task/[0-9]*; do\n"
        f"    case $(cat $task/patch_state) in -1 | {wanted}) continue ;; esac\n"
        '    echo "${task##*/} $(cat $task/comm)"; cat $task/stack\n'
        "done 2>/dev/null\n"
        "exit 1"
    )
    title = f"every task {'has gone over to' if enabled else 'has left'} {patch}"
    return GuestStep(title, command, essential=True, stage=stage)


def disable_step(patch: str, stage: str) -> GuestStep:
    """Begin the way back."""
    command = f"echo 0 > /sys/kernel/livepatch/{patch}/enabled"
    return GuestStep(f"disable {patch}", command, essential=True, stage=stage)


def livepatch_guest(
    checks: Sequence[Check],
    patch: Path,
    modules: Sequence[Path] = (),
    files: Mapping[str, bytes | Path] | None = None,
    *,
    since: int = 0,
) -> Guest:
    """The guest that shows what a livepatch does: checks, load, checks, disable and unload, checks.

    patch: the module file; modules: the kernel's own modules to load first, in an order that it accepts;
    since: how many steps the guest has had before these
    """
    name = kernel_name(patch)
    steps = [load_step(module, "before load") for module in modules]
    steps += check_steps(checks, When.BEFORE_LOAD)
    loaded = len(steps)
    steps += [load_step(patch), wait_step(name, True, "load")]
    steps += check_steps(checks, When.AFTER_LOAD)
    steps += [disable_step(name, "unload"), wait_step(name, False, "unload"), unload_step(patch)]
    steps += [kernel_log_step(since + loaded, "unload"), *check_steps(checks, When.AFTER_UNLOAD)]
    steps.append(kernel_log_step(since + len(steps), "end"))
    here = {f"/modules/{module.name}": module for module in (*modules, patch)}
    return Guest(tuple(steps), {**(files or {}), **here})
