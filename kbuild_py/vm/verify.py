# SPDX-License-Identifier: GPL-2.0-or-later
"""The last stage of a build: the patch module in the kernel that it is for, before, while and after.

One boot runs the manifest's checks three times over: before anything is loaded (the old behaviour is
there to be changed), with core and patch loaded (it is changed), and after the patch is unloaded (it is
back).  Beside the checks, the kernel's own log must hold no complaint from the load to the last unload.
The checks before load and after unload show the old behaviour, which may well be a bug that complains; so
what they cause is not held against the patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kbuild_py.files import write_atomic, write_json
from kbuild_py.manifest.model import Check, When
from kbuild_py.progress import say
from kbuild_py.vm.guest import Guest, GuestStep, step_for, step_number
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import BootReport, render_report, render_summary, require_passed, to_json

# What a kernel says when something is wrong with it, whoever caused it, as an extended regular expression;
# and anything of level "error" or worse (0 to 3) that the core or a patch module says.
COMPLAINTS = (
    "WARNING:",
    "BUG:",
    "kernel BUG at",
    "Oops",
    "general protection fault",
    "invalid opcode",
    "Kernel panic",
    "[Uu]npatched return thunk",
    "INFO: (task|rcu)",
    "self-detected stall",
    "UBSAN:",
    "unchecked MSR access",
    "Unknown symbol",
    "disagrees about version of symbol",
    "<[0-3]>.*(kpatch|livepatch)",
)


def kernel_name(module: Path) -> str:
    """The name that the kernel gives to the module in this file."""
    return module.name.partition(".ko")[0].replace("-", "_")


def check_steps(checks: Sequence[Check], when: When) -> list[GuestStep]:
    """The manifest's checks of one stage."""
    return [step_for(check) for check in checks if check.when is when]


def load_step(module: Path, stage: str = "load") -> GuestStep:
    """`insmod` of a module file that the guest has under /modules; nothing goes on when it fails."""
    # Why a module is refused is in the kernel's log, behind the line that init wrote for this step.
    command = (
        f"insmod /modules/{module.name} && exit\n"
        "status=$?\n"
        "dmesg | sed -n '/kbuild-py: step/h;//!H;${x;p}' | sed 1d >&2\n"
        "exit $status"
    )
    return GuestStep(f"insmod {module.name}", command, essential=True, stage=stage)


def unload_step(module: Path, stage: str = "unload") -> GuestStep:
    """`rmmod` of a module; nothing goes on when it fails."""
    command = f"rmmod {kernel_name(module)}"
    return GuestStep(command, command, essential=True, stage=stage)


def kernel_log_step(since: int, stage: str) -> GuestStep:
    """Prints the complaints in the kernel's log since the step with index `since`; expects none.

    Init writes each step's number into the log.  When that line has been pushed out, all of the log counts.
    """
    mark = f"kbuild-py: step {step_number(since)}:"
    command = (
        f"dmesg -r | grep -q '{mark}' && from='/{mark}/' || from=1\n"
        f"dmesg -r | sed -n \"$from,\\$p\" | grep -v 'kbuild-py: step' |\n"
        f"    grep -E -A 12 '{'|'.join(COMPLAINTS)}'"
    )
    return GuestStep("no complaint in the kernel's log", command, expect_status=1, stdout="", stage=stage)


def verify_steps(
    checks: Sequence[Check], core: Path, patch: Path, modules: Sequence[Path] = ()
) -> tuple[GuestStep, ...]:
    """The steps that show what a patch does: checks, load, checks, unload, checks, in this order.

    core, patch: the module files; modules: the kernel's own modules to load first, in an order that the
    kernel accepts (what the patch changes, or what the checks need).
    """
    steps = [load_step(module, "before load") for module in modules]
    steps += check_steps(checks, When.BEFORE_LOAD)
    loaded = len(steps)
    steps += [load_step(core), load_step(patch)]
    steps += check_steps(checks, When.AFTER_LOAD)
    steps += [unload_step(patch), kernel_log_step(loaded, "unload")]
    steps += check_steps(checks, When.AFTER_UNLOAD)
    steps += [unload_step(core, "end"), kernel_log_step(len(steps), "end")]
    return tuple(steps)


def verify_guest(
    checks: Sequence[Check],
    core: Path,
    patch: Path,
    modules: Sequence[Path] = (),
    files: Mapping[str, bytes | Path] | None = None,
) -> Guest:
    """The guest for `verify_steps`, with the module files under /modules."""
    here = {f"/modules/{module.name}": module for module in (*modules, core, patch)}
    return Guest(verify_steps(checks, core, patch, modules), {**(files or {}), **here})


def verify(boot_image: Path, guest: Guest, folder: Path, place: object) -> BootReport:
    """Boot, write `report.json` and `report.txt` into the stage's folder, show it, refuse unless all passed.

    place: what is verified, for errors that belong to no single check: the manifest's path.
    Raises `UserError` with every failed check, or with how the guest ended and its console's last lines.
    """
    report = boot(boot_image, guest, folder)
    write_json(folder / "report.json", to_json(report))
    write_atomic(folder / "report.txt", render_report(report))
    say(render_summary(report))
    require_passed(report, place, folder / "console.log")
    return report
