# SPDX-License-Identifier: GPL-2.0-or-later
"""The command in a guest that has only busybox, as an initramfs has: every step is one use of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import Outcome, render_report

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "runtime"
COMMAND = RUNTIME / "kpatch"
SCRIPTS = (COMMAND, *sorted((RUNTIME / "initramfs-tools").rglob("kpatch")))
SCRIPTS = tuple(path for path in SCRIPTS if path.is_file())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(RUNTIME)))
def test_scripts_are_posix(path: Path) -> None:
    for shell in (["dash"], ["busybox", "sh"]):
        if shutil.which(shell[0]):
            subprocess.run([*shell, "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--shell=sh", path], check=True)


@pytest.mark.parametrize("shell", ["dash", "busybox sh"])
def test_wrong_usage(shell: str) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"no {shell}")
    for words in ([], ["nonsense"], ["info"], ["list", "--wait"], ["list", "--wait", "x"], ["list", "--no"]):
        done = subprocess.run([*shell.split(), COMMAND, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and done.stderr, words
    done = subprocess.run([*shell.split(), COMMAND, "help"], capture_output=True, text=True, check=True)
    assert "usage: kpatch" in done.stdout


def test_every_command_and_option_is_described() -> None:
    page = (ROOT / "man" / "kpatch.1").read_text().replace(r"\-", "-")
    usage = subprocess.run([COMMAND, "help"], capture_output=True, text=True, check=True).stdout
    options = set(re.findall(r"--[a-z-]+", usage))
    commands = set(re.findall(r"^  ([a-z]+)\b", usage, re.MULTILINE))
    assert {"--wait", "--all"} <= options and {"load", "guard", "version"} <= commands
    for option in options:
        assert option in page, option
    for command in commands:
        assert re.search(rf"^\.BR? \"?{command}\b", page, re.MULTILINE), command


ALPHA = "kpatch load /m/kpatch-alpha.ko"
SLEEPER = "insmod /m/kpt_victim.ko; (echo sleep >/proc/kpt-victim) 2>/dev/null & sleep 1\n"

STEPS = (
    GuestStep("another kernel", "kpatch load /m/kpatch-other.ko", 3, contains="is for kernel 6.1.0-1-amd64"),
    GuestStep("another build", "kpatch load /m/kpatch-rebuilt.ko", 3, contains="another build of"),
    GuestStep(
        "another build, livepatch", "kpatch load /m/livepatch-alien.ko", 3, contains="another build of"
    ),
    GuestStep("no patch", "kpatch load /m/kpt_victim.ko", 3, contains="is not a patch module"),
    GuestStep("no file", "kpatch load /m/nothing.ko", 6, contains="no such file"),
    GuestStep("not installed", "kpatch load nothing", 6, contains="no patch of this name is installed"),
    GuestStep("nothing was loaded", "lsmod | tail -n +2", stdout=""),
    GuestStep("nothing to show", "kpatch status", stdout="no patch is loaded"),
    GuestStep("no core", "mkdir /c; cp /m/kpatch-alpha.ko /c; kpatch load /c/kpatch-alpha.ko", 6),
    GuestStep("info", "kpatch info /m/kpatch-alpha.ko", contains="fits this kernel: yes"),
    GuestStep("info of what does not fit", "kpatch info /m/kpatch-other.ko", contains="fits this kernel: no"),
    GuestStep("load", f"{ALPHA} && cat /proc/cmdline", stdout="alpha: applied\nalpha"),
    GuestStep("load again", ALPHA, 3, contains="already applied"),
    GuestStep(
        "status",
        "kpatch status; kpatch list",
        stdout=(
            "alpha: applied (kpatch)\n  vmlinux: patched\n"
            "loaded:\n  alpha (kpatch) applied\ninstalled for RELEASE:"
        ),
    ),
    GuestStep("json", "kpatch status --json"),
    GuestStep(
        "replace",
        "kpatch replace /m/kpatch-beta.ko && cat /proc/cmdline && lsmod | grep -c alpha",
        1,
        stdout="beta: applied\nbeta\n0",
    ),
    GuestStep("unload what is not there", "kpatch unload alpha", 6, contains="is not loaded"),
    GuestStep(
        "unload",
        "kpatch unload beta && grep -c console /proc/cmdline && lsmod | grep -c beta",
        1,
        "beta: unloaded\n1\n0",
    ),
    GuestStep(
        "a task to the end", SLEEPER + "kpatch load --wait 3 /m/kpatch-sleeper.ko", 4, contains="victim_sleep"
    ),
    GuestStep("is not loaded", "kpatch status; lsmod | grep sleeper", 1, stdout="no patch is loaded"),
    GuestStep(
        "a task that goes",
        "(sleep 4; kill $(grep -l victim_sleep /proc/[0-9]*/stack | cut -d/ -f3)) & "
        "kpatch load --wait 30 /m/kpatch-sleeper.ko; s=$?; kpatch unload sleeper; exit $s",
        contains="trying again",
    ),
    GuestStep("two at a time", f"{ALPHA} & kpatch load /m/kpatch-beta.ko; s=$?; wait $! && exit $s"),
    GuestStep(
        "with mkdir's lock",
        "mkdir /nolock; ln -s $(which busybox) /bin/x; "
        "for a in $(busybox --list); do [ $a = flock ] || ln -s /bin/busybox /nolock/$a; done; "
        "for p in alpha beta; do (PATH=/nolock; /nolock/sh /usr/sbin/kpatch unload $p) & done; wait; "
        "kpatch status; ls -d /run/kpatch.lock.d",
        1,
        contains="no patch is loaded",
    ),
    GuestStep(
        "install",
        "kpatch install /m/kpatch-alpha.ko /m/livepatch-one.ko && cd /var/lib/kpatch/* && "
        "ls alpha one && kpatch load --all; s=$?; kpatch list; exit $s",
        1,  # both want one function, so the kernel refuses the second
        contains="alpha (kpatch) applied",
    ),
    GuestStep(
        "the other kind is refused by the kernel", "kpatch status; lsmod | grep one", 1, absent="one: applied"
    ),
    GuestStep(
        "load all that is left",
        "kpatch unload --all && kpatch uninstall alpha && kpatch load --all && kpatch list",
    ),
    GuestStep(
        "livepatch",
        "cat /proc/cmdline; kpatch status",
        stdout="one\none: applied (livepatch)\n  vmlinux: patched",
    ),
    GuestStep(
        "livepatch, replaced",
        "kpatch replace /m/livepatch-two.ko && cat /proc/cmdline; lsmod | grep livepatch_one",
        1,
        stdout="two: applied\ntwo",
    ),
    GuestStep(
        "livepatch, undone",
        "kpatch unload two; kpatch status; lsmod | grep two",
        1,
        "two: unloaded\nno patch is loaded",
    ),
    GuestStep(
        "a package's second version",
        "kpatch uninstall one; d=/usr/lib/kpatch/$(uname -r)/pack; mkdir -p $d && "
        "cp /m/kpatch.ko $d && cp /m/kpatch-gamma.ko $d && kpatch load gamma && kpatch load --all && "
        "kpatch unload gamma && kpatch load pack && kpatch unload --all && rm -r $d",
        stdout="one: no longer installed for RELEASE\ngamma: applied\ngamma: unloaded\n"
        "gamma: applied\ngamma: unloaded",
    ),
    GuestStep("held up", SLEEPER + "kpatch load --wait 2 /m/livepatch-slow.ko", 4, contains="victim_sleep"),
    GuestStep("who holds it up", "kpatch status; kpatch status --json"),
    GuestStep("signal", "kpatch signal && kpatch status", contains="was stopped and let go"),
    GuestStep("went on", "sleep 3; kpatch status", contains="slow: applied (livepatch)"),
    GuestStep("nothing to force", "kpatch force slow", 6, contains="no livepatch in transition"),
    GuestStep("all away", "kpatch unload --all; kpatch status", contains="no patch is loaded"),
    GuestStep(
        "signatures", f"echo Y >/sys/module/module/parameters/sig_enforce; {ALPHA}", 3, contains="not signed"
    ),
)


@pytest.mark.kernel
@pytest.mark.boot
def test_in_a_guest(debian12: TargetKernel, modules: Path, tmp_path: Path) -> None:
    steps = tuple(
        GuestStep(
            step.title,
            step.command,
            step.expect_status,
            step.stdout and step.stdout.replace("RELEASE", debian12.release),
            step.contains,
            step.absent,
        )
        for step in STEPS
    )
    files: dict[str, bytes | Path] = {f"/m/{path.name}": path for path in modules.glob("*.ko")}
    files["/usr/sbin/kpatch"] = COMMAND
    files["/bin/kpatch"] = COMMAND
    report = boot(debian12.boot_image, Guest(steps, files, one_thread=True), tmp_path)
    assert report.outcome is Outcome.PASSED, render_report(report)

    said = {step.title: step.output for step in report.steps}
    status = json.loads(said["json"])
    assert status["release"] == debian12.release and status["build_id"] == debian12.build_id
    (patch,) = status["patches"]
    assert (patch["name"], patch["state"], patch["objects"]) == ("alpha", "applied", {"vmlinux": True})
    (held,) = json.loads(said["who holds it up"].splitlines()[-1])["patches"]
    assert held["state"] == "applying" and held["backend"] == "livepatch"
    assert any("victim_sleep" in line for task in held["held_up_by"] for line in task["stack"])
    assert "victim_sleep" in said["who holds it up"].rpartition("\n{")[0]
