# SPDX-License-Identifier: GPL-2.0-or-later
"""Booting a kernel image in QEMU: one function, one result.

The image is the very file that a boot loader would start, unchanged, with the kernel's defaults: address
randomisation, mitigations and alternatives stay on, because a patch has to live with them.  The only
parameters added are the console and `panic=-1`, which with QEMU's `-no-reboot` turns a panic into the end
of the process.

Everything that can go wrong with a patched kernel has to come back as an answer, so nothing here waits
without a bound.  The guest's init watches each step and reports one that does not end; for a guest that
is too dead to do so the host has its own clock, a little later.  What is left of QEMU is ended with
this process, whichever way that ends.

The guest's instructions are translated (TCG) unless KVM proves in a short probe that it works:
/dev/kvm may exist, be accessible, and yet hang whoever uses it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from kbuild_py import run
from kbuild_py.errors import refuse
from kbuild_py.progress import Step, step
from kbuild_py.vm.answer import Answer, parse
from kbuild_py.vm.guest import Guest, guest_files, lost_result, result_of, step_limit
from kbuild_py.vm.initramfs import archive
from kbuild_py.vm.report import BootReport, Outcome

QEMU = "qemu-system-x86_64"
KVM_VARIABLE = "KBUILD_PY_KVM"
KVM_PROBE_SECONDS = 2.0
# The guest's own watch comes first; the host's is for guests that cannot answer any more.
GRACE_SECONDS = 15.0
POWER_OFF_SECONDS = 15.0
POLL_SECONDS = 0.03
CONSOLE_BYTES = 512 * 1024  # of the console's text, the last so many are kept in the report

_PANIC = re.compile(r"Kernel panic - not syncing: *(.*)")
_RESTART = re.compile(r"reboot: (Power down|Restarting system|System halted)")


def boot(boot_image: Path, guest: Guest, folder: Path) -> BootReport:
    """Boot `boot_image`, run the guest's steps, and say how it went.

    folder gets initramfs.cpio, console.log (the kernel's console), answer.bin (what the guest's init sent)
    and qemu.log (the command, and what QEMU itself printed).

    Whatever the guest does is an outcome in the report.  Raises `UserError` when QEMU or the static busybox
    is not installed, or when a file that the guest needs cannot be read.
    """
    start = time.monotonic()
    run.find(QEMU)
    image_fault = _image_fault(boot_image)
    if image_fault:
        return BootReport(Outcome.NEVER_STARTED, (), "", 0.0, image_fault)
    files = Files(folder)
    _prepare(files, guest)
    accelerator = "kvm" if kvm_works() else "tcg"
    with step(f"boot {boot_image.name} ({accelerator})") as shown:
        argv = command(boot_image, guest, files, accelerator)
        with run.running(argv, log=files.qemu_log) as process:
            ended = _wait(process, guest, files, shown)
    answer = parse(files.answer.read_bytes(), len(guest.steps))
    return _report(guest, answer, ended, files, accelerator, time.monotonic() - start)


class Files:
    """The files of one boot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.initramfs = self.folder / "initramfs.cpio"
        self.console = self.folder / "console.log"
        self.answer = self.folder / "answer.bin"
        self.qemu_log = self.folder / "qemu.log"


@dataclass(frozen=True, slots=True)
class _Ended:
    """How the wait for QEMU ended: its exit status (None: it was still running), and why no longer waited."""

    status: int | None
    why: str = ""


def _prepare(files: Files, guest: Guest) -> None:
    """Write the guest's file system and empty the files that QEMU is going to fill."""
    content = archive(guest_files(guest))
    if guest.disk is None and len(content) > guest.memory * 1024 * 1024 // 3:
        # The kernel needs room for the archive and for what it unpacks, beside itself.
        raise refuse(
            files.initramfs,
            f"the guest's files ({len(content) >> 20} MB) do not fit its memory ({guest.memory} MB)",
            "give the guest more memory",
        )
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
        files.initramfs.write_bytes(content)
        files.console.write_bytes(b"")
        files.answer.write_bytes(b"")
    except OSError as error:
        raise refuse(files.folder, f"cannot write: {error.strerror}") from error


def command(boot_image: Path, guest: Guest, files: Files, accelerator: str) -> list[str]:
    """QEMU's command line."""
    threads = "single" if guest.one_thread else "multi"
    # fmt: off
    return [
        QEMU,
        "-accel", "kvm" if accelerator == "kvm" else f"tcg,thread={threads}",
        "-cpu", "max",
        "-smp", str(guest.cpus),
        "-m", str(guest.memory),
        "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot",
        "-serial", f"file:{files.console}",
        "-serial", f"file:{files.answer}",
        "-kernel", str(boot_image.absolute()),
        *_file_systems(guest, files),
        "-append", f"console=ttyS0 panic=-1 {guest.append}".strip(),
    ]
    # fmt: on


def _file_systems(guest: Guest, files: Files) -> list[str]:
    if guest.disk is None:
        return ["-initrd", str(files.initramfs)]
    initramfs = [] if guest.initramfs is None else ["-initrd", str(guest.initramfs)]
    return [
        *initramfs,
        "-drive",
        f"file={guest.disk},format=raw,if=virtio",
        "-drive",
        f"file={files.initramfs},format=raw,if=virtio,readonly=on",
    ]


def _wait(process: subprocess.Popen[bytes], guest: Guest, files: Files, shown: Step) -> _Ended:
    """Follow the guest until QEMU ends or a limit is over."""
    begin = time.monotonic()
    seen = b""
    answer = parse(seen, len(guest.steps))
    begun, begun_at, finished_at = 0, begin, 0.0
    with files.answer.open("rb") as stream:
        while True:
            status = process.poll()
            more = stream.read()
            now = time.monotonic()
            if more:
                seen += more
                answer = parse(seen, len(guest.steps))
            if answer.begun != begun:
                begun, begun_at = answer.begun, now
                shown.update(f"step {begun} of {len(guest.steps)}, {guest.steps[begun - 1].title}")
            if answer.finished and not finished_at:
                finished_at = now
            if status is not None:
                return _Ended(status)
            if why := _over(guest, answer, now - begin, now - begun_at):
                return _Ended(None, why)
            if finished_at and now - finished_at > POWER_OFF_SECONDS:
                return _Ended(None, "the guest did not power off")
            time.sleep(POLL_SECONDS)


def _over(guest: Guest, answer: Answer, total: float, of_step: float) -> str:
    """Which limit is over ("": none), `total` seconds after the start, `of_step` in the present step."""
    if answer.finished:
        return ""
    if not answer.started and total > min(guest.start_timeout, guest.timeout):
        return f"no sign of the guest's init within {total:.0f} s"
    if total > guest.timeout:
        return f"the whole boot was not over within {guest.timeout:.0f} s"
    if answer.begun and of_step > step_limit(guest, guest.steps[answer.begun - 1]) + GRACE_SECONDS:
        return f"no sign of the guest within {of_step:.0f} s"
    return ""


def _report(
    guest: Guest, answer: Answer, ended: _Ended, files: Files, accelerator: str, seconds: float
) -> BootReport:
    """Make the one result of everything that came."""
    console = _tail(files.console).decode(errors="replace").replace("\r", "")
    results = tuple(result_of(guest.steps[frame.number - 1], frame) for frame in answer.frames)
    if answer.begun and answer.begun not in (frame.number for frame in answer.frames):
        results += (lost_result(guest.steps[answer.begun - 1]),)
    failed = [result for result in results if result.failure]
    at = _where(guest, answer)
    panic = _PANIC.search(console)

    if not answer.started:
        outcome, reason = Outcome.NEVER_STARTED, _never_started(ended, files, panic)
        if accelerator == "kvm":
            reason += f" (under KVM; {KVM_VARIABLE}=0 in the environment does without)"
    elif panic:
        outcome, reason = Outcome.PANICKED, f"{panic[1]} ({at})"
    elif any(frame.hung for frame in answer.frames):
        outcome, reason = Outcome.HUNG, f"the step did not end in time ({at})"
    elif answer.finished and failed:
        outcome, reason = Outcome.FAILED, f"{len(failed)} of {len(results)} steps failed"
        if left := len(guest.steps) - len(results):
            reason += f", {left} were not run"
    elif answer.finished and len(results) == len(guest.steps):
        outcome, reason = Outcome.PASSED, ""
    elif answer.finished:
        outcome, reason = Outcome.FAILED, f"only {len(results)} of {len(guest.steps)} steps came back"
    elif ended.status is None:
        outcome, reason = Outcome.HUNG, f"{ended.why} ({at})"
    elif ended.status != 0:
        outcome, reason = (
            Outcome.FAILED,
            f"QEMU ended with status {ended.status} ({at}), see {files.qemu_log}",
        )
    elif restart := _RESTART.search(console):
        outcome, reason = Outcome.FAILED, f"the guest stopped by itself: {restart[1]} ({at})"
    else:
        # QEMU ends like this when the processor gives up (triple fault) before the kernel can say a word.
        outcome, reason = Outcome.PANICKED, f"the kernel died without a message ({at})"
    return BootReport(outcome, results, console, seconds, reason, accelerator)


def _tail(path: Path) -> bytes:
    """The last `CONSOLE_BYTES` of a file: a kernel that prints in a loop fills it for minutes."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - CONSOLE_BYTES))
        return stream.read(CONSOLE_BYTES)


def _where(guest: Guest, answer: Answer) -> str:
    if not answer.begun:
        return "before the first step"
    when = (
        "after" if any(frame.number == answer.begun and not frame.hung for frame in answer.frames) else "in"
    )
    return f"{when} step {answer.begun}: {guest.steps[answer.begun - 1].title}"


def _never_started(ended: _Ended, files: Files, panic: re.Match[str] | None) -> str:
    if panic:
        return f"the kernel panicked before the guest's init: {panic[1]}"
    if ended.status is None:
        return ended.why
    if ended.status != 0:
        said = files.qemu_log.read_text(errors="replace").strip().splitlines()[-1]
        return f"QEMU ended with status {ended.status}: {said}"
    return "the machine stopped before the guest's init"


def _image_fault(boot_image: Path) -> str:
    """Why this is no whole bzImage ("" when it is one).

    QEMU runs whatever bytes it is given; garbage would then be found out only by a time limit.
    Source: the kernel's Documentation/x86/boot.rst, the real-mode header.
    """
    try:
        size = boot_image.stat().st_size
        with boot_image.open("rb") as stream:
            header = stream.read(0x268)
    except OSError as error:
        return f"cannot read the kernel image {boot_image}: {error.strerror}"
    if len(header) < 0x268 or header[0x1FE:0x200] != b"\x55\xaa" or header[0x202:0x206] != b"HdrS":
        return f"{boot_image} is not an x86 kernel image (no boot header)"
    setup_sectors = header[0x1F1] or 4
    needed = (setup_sectors + 1) * 512 + int.from_bytes(header[0x1F4:0x1F8], "little") * 16
    if size < needed:
        return f"{boot_image} is cut short: {size} of {needed} bytes"
    return ""


def kvm_works() -> bool:
    """Whether KVM may be used: not forbidden ($KBUILD_PY_KVM=0), and the probe ran a guest with it."""
    if os.environ.get(KVM_VARIABLE) == "0" or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    return _kvm_probe()


@functools.cache
def _kvm_probe() -> bool:
    """Let firmware run under KVM until it asks for a reboot, having found nothing to boot."""
    # fmt: off
    argv = [
        QEMU, "-accel", "kvm", "-cpu", "max", "-m", "16",
        "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
        "-no-reboot", "-boot", "reboot-timeout=0",
    ]
    # fmt: on
    with run.running(argv) as process, contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(KVM_PROBE_SECONDS) == 0
    return False
