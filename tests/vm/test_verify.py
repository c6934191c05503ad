# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of a verification, and one with modules of the stock kernel in the places of core and patch."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import Check, When
from kbuild_py.vm.report import Outcome, from_json
from kbuild_py.vm.verify import COMPLAINTS, kernel_log_step, kernel_name, verify, verify_guest, verify_steps


def check(when: When, command: str, stdout: str | None = None) -> Check:
    return Check(when, command, stdout, None, None, 0, f"m.yaml:{len(command)}:1")


def test_the_order() -> None:
    checks = [check(When.AFTER_UNLOAD, "3"), check(When.AFTER_LOAD, "2"), check(When.BEFORE_LOAD, "1")]
    steps = verify_steps(checks, Path("/k/kpatch.ko"), Path("/p/kpatch-a-b.ko"), [Path("/m/loop.ko")])
    assert [step.title for step in steps] == [
        "insmod loop.ko",
        "1",
        "insmod kpatch.ko",
        "insmod kpatch-a-b.ko",
        "2",
        "rmmod kpatch_a_b",
        "no complaint in the kernel's log",
        "3",
        "rmmod kpatch",
        "no complaint in the kernel's log",
    ]
    # From the first insmod of the patch's on, and from the last rmmod on.
    assert "step 0003:" in steps[6].command and "step 0009:" in steps[9].command
    assert all(step.essential for step in steps if "mod " in step.title)


def test_the_kernels_name_of_a_module() -> None:
    assert kernel_name(Path("/x/kpatch-meminfo-string.ko")) == "kpatch_meminfo_string"
    assert kernel_name(Path("snd-pcm.ko.xz")) == "snd_pcm"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("<4>[    1.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2", True),
        ("<1>[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000", True),
        ("<4>[    1.0] Oops: 0000 [#1] PREEMPT SMP NOPTI", True),
        ("<4>[    1.0] Unpatched return thunk in use. This should not happen!", True),
        ("<3>[    1.0] kpatch: patch module refused", True),
        ("<6>[    1.0] kpatch: loaded", False),
        ("<4>[    1.0] kpatch: loading out-of-tree module taints kernel.", False),
        ("<5>[    1.0] kpatch: module verification failed: signature and/or required key missing", False),
        ("<3>[    1.0] i8042: No controller found", False),
        ("<12>[    1.0] kbuild-py: step 0007: grep WARNING: BUG: Oops", False),
    ],
)
def test_complaints_in_the_kernels_log(line: str, complaint: bool, tmp_path: Path) -> None:
    # The step's own command, with a dmesg that prints a log of three lines.
    log = tmp_path / "log"
    log.write_text(f"<4>[ 0.5] WARNING: before\n<12>[ 0.6] kbuild-py: step 0002: mark\n{line}\n")
    command = kernel_log_step(1, "x").command.replace("dmesg -r", f"cat {log}")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ((f"{line}\n", 0) if complaint else ("", 1))


def test_without_the_mark_all_of_the_log_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("<4>[ 0.5] WARNING: pushed the mark out\n")
    command = kernel_log_step(1, "x").command.replace("dmesg -r", f"cat {log}")
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode == 0


def test_complaints_are_extended_regular_expressions() -> None:
    subprocess.run(["grep", "-E", "|".join(COMPLAINTS)], input=b"WARNING:", check=True, capture_output=True)


@pytest.mark.kernel
@pytest.mark.boot
def test_load_check_unload_with_stock_modules(debian12: TargetKernel, tmp_path: Path) -> None:
    network = debian12.modules / "kernel/drivers/net"
    there = "ls -d /sys/module/dummy /sys/module/nlmon 2>/dev/null; true"
    checks = [
        check(When.BEFORE_LOAD, there, stdout=""),
        check(When.AFTER_LOAD, there, stdout="/sys/module/dummy\n/sys/module/nlmon"),
        check(When.AFTER_UNLOAD, there, stdout="/sys/module/dummy"),
    ]
    guest = verify_guest(checks, network / "dummy.ko", network / "nlmon.ko")
    report = verify(debian12.boot_image, guest, tmp_path, "m.yaml")
    assert report.outcome is Outcome.PASSED
    assert from_json(json.loads((tmp_path / "report.json").read_text())) == report
    assert "after unload:" in (tmp_path / "report.txt").read_text()
    assert "Linux version" in (tmp_path / "console.log").read_text()


@pytest.mark.kernel
@pytest.mark.boot
def test_a_failed_check_does_not_stop_and_a_failed_load_does(debian12: TargetKernel, tmp_path: Path) -> None:
    garbage = tmp_path / "kpatch-garbage.ko"
    garbage.write_bytes(b"no module")
    core = debian12.modules / "kernel/drivers/net/dummy.ko"
    checks = [
        check(When.BEFORE_LOAD, "echo old", stdout="new"),
        check(When.BEFORE_LOAD, "uname -r", stdout=debian12.release),
        check(When.AFTER_LOAD, "true"),
    ]
    with pytest.raises(UserError) as caught:
        verify(debian12.boot_image, verify_guest(checks, core, garbage), tmp_path / "vm", "m.yaml")
    wrong, refused = caught.value.problems
    assert wrong.place == "m.yaml:8:1" and "expected 'new', got 'old'" in wrong.cause
    assert refused.place == "m.yaml" and "insmod kpatch-garbage.ko" in refused.cause
    assert "invalid module format" in refused.cause
    report = from_json(json.loads((tmp_path / "vm/report.json").read_text()))
    assert report.outcome is Outcome.FAILED and len(report.steps) == 4


@pytest.mark.kernel
@pytest.mark.boot
def test_a_module_that_is_refused_shows_what_the_kernel_said(debian12: TargetKernel, tmp_path: Path) -> None:
    network = debian12.modules / "kernel/drivers/net"
    needy = debian12.modules / "kernel/net/sctp/sctp.ko"  # needs another module, which is not there
    with pytest.raises(UserError) as caught:
        verify(debian12.boot_image, verify_guest([], network / "dummy.ko", needy), tmp_path, "m.yaml")
    (problem,) = caught.value.problems
    assert "sctp: Unknown symbol" in problem.cause and "dummy" not in problem.cause
