# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots that go well and boots that go wrong in each of the ways there are."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.vm import qemu
from kbuild_py.vm.answer import parse
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot, kvm_works
from kbuild_py.vm.report import BootReport, Outcome, console_tail
from kbuild_py.vm.verify import kernel_log_step

QUIET = GuestStep("nothing", "true")


def image_header(size: int) -> bytes:
    """A boot header that announces one setup sector and `size` bytes of kernel."""
    header = bytearray(0x400)
    header[0x1F1] = 1
    header[0x1F4:0x1F8] = (size // 16).to_bytes(4, "little")
    header[0x1FE:0x200] = b"\x55\xaa"
    header[0x202:0x206] = b"HdrS"
    return bytes(header)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read"),
        (b"", "not an x86 kernel image"),
        (b"\x7fELF" * 5000, "not an x86 kernel image"),
        (image_header(4096) + bytes(4000), "cut short"),
    ],
)
def test_what_is_no_image_never_starts_and_is_found_out_at_once(
    content: bytes | None, says: str, tmp_path: Path
) -> None:
    image = tmp_path / "vmlinuz"
    if content is not None:
        image.write_bytes(content)
    start = time.monotonic()
    report = boot(image, Guest((QUIET,)), tmp_path / "vm")
    assert report.outcome is Outcome.NEVER_STARTED and says in report.reason
    assert time.monotonic() - start < 1


def test_a_missing_qemu_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install qemu-system-x86"):
        boot(tmp_path / "vmlinuz", Guest((QUIET,)), tmp_path / "vm")


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(image_header(16) + bytes(16))
    with pytest.raises(UserError, match="more memory"):
        boot(image, Guest((QUIET,), {"/big": bytes(30 << 20)}, memory=64), tmp_path / "vm")


def test_what_qemu_itself_refuses_is_told(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(image_header(16) + bytes(16))
    report = boot(image, Guest((QUIET,), cpus=5000), tmp_path / "vm")
    assert report.outcome is Outcome.NEVER_STARTED and "CPUs" in report.reason


@pytest.mark.parametrize(
    ("sent", "total", "of_step", "why"),
    [
        (b"", 9, 9, ""),
        (b"", 11, 11, "no sign of the guest's init"),
        (b"started\nstep 0001 begin\n", 90, 5 + qemu.GRACE_SECONDS, ""),
        (b"started\nstep 0001 begin\n", 90, 6 + qemu.GRACE_SECONDS, "no sign of the guest"),
        (b"started\nstep 0001 begin\n", 101, 1, "the whole boot"),
        (b"started\nfinished\n", 500, 500, ""),
    ],
)
def test_the_limits(sent: bytes, total: float, of_step: float, why: str) -> None:
    guest = Guest((QUIET,), start_timeout=10, step_timeout=5, timeout=100)
    over = qemu._over(guest, parse(sent, 1), total, of_step)
    assert over.startswith(why) and bool(over) == bool(why)


@pytest.mark.parametrize("size", [0, 7, qemu.CONSOLE_BYTES, qemu.CONSOLE_BYTES + 7])
def test_of_an_endless_console_the_end_is_read(tmp_path: Path, size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    (tmp_path / "console").write_bytes(content)
    assert qemu._tail(tmp_path / "console") == content[-qemu.CONSOLE_BYTES :]


def test_kvm_can_be_forbidden_and_is_probed_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KBUILD_PY_KVM", "0")
    assert not kvm_works()
    monkeypatch.delenv("KBUILD_PY_KVM")
    start = time.monotonic()
    kvm_works()
    assert time.monotonic() - start < qemu.KVM_PROBE_SECONDS + 6


def booted(debian12: TargetKernel, folder: Path, *steps: GuestStep, **settings: object) -> BootReport:
    report = boot(debian12.boot_image, Guest(steps, **settings), folder)  # type: ignore[arg-type]
    assert processes_with(folder) == []
    return report


def processes_with(folder: Path) -> list[str]:
    """The processes whose command line names `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in line:
            found.append(line.replace(b"\0", b" ").decode())
    return found


@pytest.mark.kernel
@pytest.mark.boot
def test_steps_come_back_whole_whatever_they_print(debian12: TargetKernel, tmp_path: Path) -> None:
    noise = "for i in $(seq 300); do echo kernel noise $i > /dev/kmsg; done; "
    report = booted(
        debian12,
        tmp_path / "a, b'c",  # characters that mean something to QEMU or a shell
        GuestStep("release", "uname -r", stdout=debian12.release),
        GuestStep("every byte", noise + "cat /data/bytes; cat /data/bytes >&2"),
        GuestStep("too much", "head -c 1500000 /dev/zero"),
        GuestStep("quotes", "printf '%s\\n' \"a'b\" '$x' `echo c`", stdout="a'b\n$x\nc"),
        GuestStep("no input", "cat"),
        GuestStep("fails", "exit 7", expect_status=7, essential=True),
        GuestStep("answers", "echo finished; echo step 0009 begin", contains="step 0009"),
        GuestStep("places", "stat -c %F /proc/self /sys/kernel /tmp /run /dev/null; nproc", contains="\n2\n"),
        GuestStep("complain", "echo 'WARNING: not from the kernel' > /dev/kmsg"),
        kernel_log_step(0, "end"),
        files={"/data/bytes": bytes(range(256)) * 300},
    )
    complaints = report.steps[-1]
    assert [step for step in report.steps if step.failure] == [report.steps[2], complaints]
    assert complaints.output.count("\n") == 1 and "WARNING: not from" in complaints.output
    assert report.outcome is Outcome.FAILED and report.accelerator in ("tcg", "kvm")
    expected = (bytes(range(256)) * 300).decode(errors="backslashreplace")
    assert report.steps[1].output == report.steps[1].errors == expected
    assert "of which only 1048576 came back" in report.steps[2].failure
    assert "kernel noise 3" in report.console and "step 0001: release" in report.console


@pytest.mark.kernel
@pytest.mark.boot
def test_a_panic(debian12: TargetKernel, tmp_path: Path) -> None:
    crash = GuestStep("crash", "echo c > /proc/sysrq-trigger")
    report = booted(debian12, tmp_path, QUIET, crash, QUIET)
    assert report.outcome is Outcome.PANICKED
    assert report.reason == "sysrq triggered crash (in step 2: crash)"
    assert [bool(step.failure) for step in report.steps] == [False, True]
    assert "sysrq_handle_crash" in console_tail(report)


@pytest.mark.kernel
@pytest.mark.boot
def test_a_step_that_hangs(debian12: TargetKernel, tmp_path: Path) -> None:
    loop = GuestStep("loop", "echo begun; while :; do :; done", timeout=1)
    report = booted(debian12, tmp_path, loop, QUIET)
    assert report.outcome is Outcome.HUNG and "step 1: loop" in report.reason
    assert report.steps[0].output == "begun\n" and len(report.steps) == 1
    # The kernel was asked what runs where.
    assert "Show backtrace of all active CPUs" in report.console


@pytest.mark.kernel
@pytest.mark.boot
def test_a_guest_that_cannot_even_say_that_it_hangs(
    debian12: TargetKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "GRACE_SECONDS", 1.0)
    # Stops everything but init (which waits) and itself, the guest's own watch included.
    stop = GuestStep("stop", "kill -STOP $(pidof init | sed 's/ *\\b1\\b//'); sleep 1000", timeout=1)
    report = booted(debian12, tmp_path, stop)
    assert report.outcome is Outcome.HUNG and "no sign of the guest" in report.reason


@pytest.mark.kernel
@pytest.mark.boot
def test_a_guest_that_powers_off_has_not_passed(debian12: TargetKernel, tmp_path: Path) -> None:
    report = booted(debian12, tmp_path, QUIET, GuestStep("off", "poweroff -f; sleep 100"), QUIET)
    assert report.outcome is Outcome.FAILED and "Power down" in report.reason


@pytest.mark.kernel
@pytest.mark.boot
def test_a_kernel_that_finds_no_init_never_started(debian12: TargetKernel, tmp_path: Path) -> None:
    report = booted(debian12, tmp_path, QUIET, append="rdinit=/nowhere")
    assert report.outcome is Outcome.NEVER_STARTED and "panicked before" in report.reason


@pytest.mark.kernel
@pytest.mark.boot
def test_a_kernel_that_is_not_there_in_time_never_started(debian12: TargetKernel, tmp_path: Path) -> None:
    report = booted(debian12, tmp_path, QUIET, start_timeout=0.2)
    assert report.outcome is Outcome.NEVER_STARTED and "no sign of the guest's init" in report.reason


@pytest.mark.kernel
@pytest.mark.boot
def test_an_interrupt_ends_qemu(
    debian12: TargetKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> str:
        if processes_with(tmp_path):
            raise KeyboardInterrupt
        return ""  # not yet: the process is still on its way to become QEMU

    monkeypatch.setattr(qemu, "_over", interrupted)
    with pytest.raises(KeyboardInterrupt):
        boot(debian12.boot_image, Guest((QUIET,)), tmp_path)
    assert processes_with(tmp_path) == []
