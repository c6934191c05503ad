# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole project, in ways that a single stage's tests cannot see.

Sameness (folders, clocks, users), interruption, several at once, odd folders, a full disk, and patches that
are wrong in ways that only a booted kernel shows.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.files import CACHE_VARIABLE, cache_folder
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import Check, When
from kbuild_py.vm import qemu
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.report import Outcome, render_report
from kbuild_py.vm.verify import verify, verify_guest
from tests.projects import KERNEL, MEMINFO, Throwaway, edited, throw_away

NAME = "meminfo-string"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, debian12: TargetKernel) -> Throwaway:
    """A project that was built without any trouble; nobody changes it."""
    project = throw_away(tmp_path_factory.mktemp("reference") / "project")
    project.built("build")
    return project


@pytest.fixture
def project(tmp_path: Path, reference: Throwaway) -> Throwaway:
    """Another one, not built yet."""
    return throw_away(tmp_path / "project", source=reference.root)


def same(one: Throwaway, other: Throwaway) -> bool:
    """Both modules are the same, byte for byte."""
    return (one.module(NAME).read_bytes(), one.core.read_bytes()) == (
        other.module(NAME).read_bytes(),
        other.core.read_bytes(),
    )


# --- the same bytes -------------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.skipif(
    shutil.which("faketime") is None and os.environ.get("CI") != "true", reason="faketime is not installed"
)
def test_another_folder_clock_user_and_mask(reference: Throwaway, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    other = throw_away(
        tmp_path / "deeper" / "in" / "a+folder@with~signs.ä" / "project", source=reference.root
    )
    other.manifest(NAME).touch()
    command = other.command("build")
    settings = {
        "HOME": str(home),
        "USER": "somebody",
        "LOGNAME": "somebody",
        "TZ": "Pacific/Kiritimati",
        "LANG": "tr_TR.UTF-8",
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": "1",
        "KBUILD_BUILD_TIMESTAMP": "yesterday",
        "KCFLAGS": "-O0",
        "MAKEFLAGS": "-k",
        "CDPATH": "/",
        CACHE_VARIABLE: str(cache_folder()),
    }
    done = subprocess.run(
        ["faketime", "-f", "+400d", *command],
        cwd=other.root,
        env={**os.environ, **settings},
        umask=0o077,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert same(other, reference)
    # What the stages found out is the same as well.
    for stage in ("01-sources", "03-proof", "04-delta"):
        mine, theirs = (project.folder(NAME) / stage for project in (other, reference))
        files = [path.relative_to(mine) for path in mine.rglob("*") if path.is_file()]
        assert files
        for path in files:
            if not path.name.endswith(".log"):
                assert (mine / path).read_bytes() == (theirs / path).read_bytes(), path


# --- interrupted ----------------------------------------------------------------------------------------


@contextmanager
def started(project: Throwaway, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """doit, running, in a session of its own; nothing of it is left afterwards."""
    process = subprocess.Popen(
        project.command(*arguments),
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def interrupted(project: Throwaway, title: str, after: float, with_signal: signal.Signals) -> str:
    """Start a build, and stop it `after` seconds into the task with this in its title; what it printed."""
    with started(project, "build") as process:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if title in line:
                break
        assert title in text, text
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(with_signal)
        return text + process.communicate()[0]


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("title", "after", "with_signal"),
    [
        ("core module", 0.3, signal.SIGKILL),
        ("compile ", 0.2, signal.SIGINT),
        ("compile ", 0.7, signal.SIGKILL),
        ("patch module", 0.1, signal.SIGINT),
        ("patch module", 0.4, signal.SIGKILL),
    ],
)
def test_an_interrupted_build_goes_on(
    project: Throwaway, reference: Throwaway, title: str, after: float, with_signal: signal.Signals
) -> None:
    text = interrupted(project, title, after, with_signal)
    assert "Traceback" not in text
    # What is there under its name is whole.
    if project.module(NAME).exists():
        assert project.module(NAME).read_bytes() == reference.module(NAME).read_bytes()
    if project.core.exists():
        assert project.core.read_bytes() == reference.core.read_bytes()
    for path in (project.folder(NAME) / "02-objects").rglob("*.o"):
        if path.name.startswith("."):
            continue
        twin = reference.root / path.relative_to(project.root)
        assert path.read_bytes() == twin.read_bytes(), path
    project.built("build")
    assert same(project, reference)
    assert project.built("build").ran == []


@pytest.mark.kernel
@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_ended_build_leaves_nothing_behind(project: Throwaway, with_signal: signal.Signals) -> None:
    text = interrupted(project, "core module", 0.3, with_signal)
    assert text.endswith("interrupted; what is finished stays, and the next build goes on from there\n")
    assert list((project.root / "build" / "core").iterdir()) == []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            assert str(project.root).encode() not in path.read_bytes()


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("title", "with_signal"), [("compile ", signal.SIGINT), ("patch module", signal.SIGKILL)]
)
def test_outputs_of_an_interrupted_edit_do_not_count(
    project: Throwaway, reference: Throwaway, title: str, with_signal: signal.Signals
) -> None:
    """Built, edited, build killed, edit taken back: the result is that of the first build."""
    project.built("build")
    patch = project.root / "manifests" / NAME / f"{NAME}.patch"
    before = patch.read_text()
    patch.write_text(before.replace("VMALLOCTOTAL: ", "VMALLOC_TOTAL:"))
    interrupted(project, title, 0.3, with_signal)
    patch.write_text(before)
    project.built("build")
    assert same(project, reference)


# --- several at once ------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_two_builds_in_one_folder(project: Throwaway, reference: Throwaway) -> None:
    with started(project, "build") as one, started(project, "build") as other:
        texts = [one.communicate()[0], other.communicate()[0]]
        assert (one.returncode, other.returncode) == (0, 0), texts
    assert sorted("up to date" in text for text in texts) == [False, True], texts
    assert sum("at work in this folder" in text for text in texts) == 1
    assert same(project, reference)


@pytest.mark.kernel
def test_two_builds_with_one_cache(project: Throwaway, reference: Throwaway, tmp_path: Path) -> None:
    second = throw_away(tmp_path / "second", source=reference.root)
    with started(project, "build") as one, started(second, "build") as other:
        texts = [one.communicate()[0], other.communicate()[0]]
        assert (one.returncode, other.returncode) == (0, 0), texts
    assert same(project, reference) and same(second, reference)


@pytest.mark.kernel
def test_looking_does_not_wait(project: Throwaway) -> None:
    with started(project, "build") as one:
        assert one.stdout is not None
        one.stdout.readline()
        assert "waiting" not in project.built("list").stderr
        assert one.poll() is None


# --- odd places -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a b", "a:b", "a$b", "a'b", 'a"b', "a#b", "a%b", "a=b", "a,b", "a(b", "a\\b"]
)
def test_folders_that_the_kernels_build_cannot_work_in(tmp_path: Path, name: str) -> None:
    project = throw_away(tmp_path / name / "project")
    answer = project.doit("build")
    assert answer.status == 1 and answer.stdout == ""
    assert answer.stderr == (
        f"{project.root}: the kernel's build cannot work below a path with {name[1]!r} in it\n"
        "  hint: move the project to another folder\n"
    )


def test_a_cache_that_the_kernels_build_cannot_work_in(tmp_path: Path) -> None:
    answer = throw_away(tmp_path / "project").doit("build", env={CACHE_VARIABLE: str(tmp_path / "a b")})
    assert answer.status == 1 and "Traceback" not in answer.stderr
    assert answer.stderr.endswith("in it\n  hint: set KBUILD_PY_CACHE to another folder\n")


def test_a_file_in_the_place_of_the_build_folder(tmp_path: Path) -> None:
    project = throw_away(tmp_path / "project")
    (project.root / "build").write_text("")
    answer = project.doit("build")
    assert answer.status == 1
    assert answer.stderr.startswith(f"{project.root}/build: cannot write: ")


# --- no room --------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of that size at `folder`; skips where it cannot be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "kbuild-py-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.kernel
@pytest.mark.parametrize("size", ["16k", "1200k", "1700k"])
def test_a_full_disk(project: Throwaway, reference: Throwaway, size: str) -> None:
    build = project.root / "build"
    with small_disk(build, size):
        answer = project.doit("build")
        text = answer.stdout + answer.stderr
        assert answer.status != 0, text
        # In the words of this program, of a tool of the kernel's, or of the compiler.
        assert "No space left on device" in text or "not all data was written" in text, text
        assert "Traceback" not in text
        subprocess.run(["mount", "-o", "remount,size=100m", str(build)], check=True)
        project.built("build")
        assert same(project, reference)


# --- wrong patches --------------------------------------------------------------------------------------

BEFORE = "\tsi_meminfo(&i);\n"
CHECKS = """\
checks:
  after_load:
    - run: grep -c MemTotal /proc/meminfo
      stdout: "1"
"""


def verified(project: Throwaway, name: str, patch: str, checks: str) -> str:
    """Build and verify a patch that must fail in the guest only; what was printed."""
    project.add(name, patch, checks)
    project.built(f"build:{name}")
    answer = project.doit(f"verify:{name}")
    text = answer.stdout + answer.stderr
    assert answer.status != 0 and "Traceback" not in text, text
    # A failure is no record of success: the boot is tried again.
    assert project.doit("info", f"_verify:{name}:{KERNEL}").status != 0
    return text


@pytest.mark.boot
@pytest.mark.kernel
def test_a_patch_that_panics_the_kernel(project: Throwaway, debian12: TargetKernel) -> None:
    patch = edited(debian12.tree, MEMINFO, BEFORE, BEFORE + '\tpanic("out of meminfo %lu", i.totalram);\n')
    text = verified(project, "panics", patch, CHECKS)
    assert "the guest panicked: out of meminfo" in text
    assert "  | [" in text  # the console's tail
    assert "console.log" in text


@pytest.mark.boot
@pytest.mark.kernel
def test_a_patch_that_hits_a_bug(project: Throwaway, debian12: TargetKernel) -> None:
    patch = edited(debian12.tree, MEMINFO, BEFORE, BEFORE + "\tBUG_ON(i.totalram);\n")
    text = verified(project, "bug", patch, CHECKS)
    # This kernel ends the task and goes on; the task's end and the kernel's complaint are both told.
    assert "expected exit status 0, got 139" in text
    assert "no complaint in the kernel's log" in text and "kernel BUG at fs/proc/meminfo.c" in text


@pytest.mark.boot
@pytest.mark.kernel
def test_a_patch_whose_check_fails(project: Throwaway, debian12: TargetKernel) -> None:
    patch = edited(debian12.tree, MEMINFO, '"Committed_AS:   "', '"COMMITTED_AS:   "')
    checks = CHECKS + "    - run: grep COMMITTED /proc/meminfo\n      absent: COMMITTED\n"
    text = verified(project, "fails", patch, checks)
    assert "manifests/fails/manifest.yaml:13:7: grep COMMITTED /proc/meminfo: " in text
    assert "panicked" not in text and "hung" not in text


@pytest.mark.boot
@pytest.mark.kernel
def test_a_patch_that_never_returns(
    project: Throwaway, debian12: TargetKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "\twhile (READ_ONCE(i.totalram))\n\t\tcpu_relax();\n"
    project.add("hangs", edited(debian12.tree, MEMINFO, BEFORE, BEFORE + endless))
    project.built("build:hangs")
    check = Check(When.AFTER_LOAD, "grep MemTotal /proc/meminfo", None, None, None, 0, "manifest.yaml:14:7")
    guest = verify_guest([check], project.core, project.module("hangs"))
    # As `doit verify` does, which is more patient.
    monkeypatch.setattr(qemu, "POWER_OFF_SECONDS", 2.0)
    stage = project.folder("hangs") / "06-vm"
    with pytest.raises(UserError) as caught:
        verify(debian12.boot_image, replace(guest, step_timeout=5), stage, "place")
    (problem,) = caught.value.problems
    assert "the guest hung" in problem.cause and "grep MemTotal /proc/meminfo" in problem.cause
    # The kernel was asked what it is doing.
    assert "meminfo_proc_show" in (stage / "console.log").read_text()


@pytest.mark.boot
@pytest.mark.kernel
def test_a_patch_that_panics_while_it_is_loaded(project: Throwaway, debian12: TargetKernel) -> None:
    """The patched function runs for every module, from the instant it is applied."""
    source = "kernel/module/main.c"
    old = "void module_put(struct module *module)\n{\n"
    patch = edited(debian12.tree, source, old, old + '\tpanic("module_put is patched");\n')
    text = verified(project, "loads", patch, CHECKS)
    assert "the guest panicked" in text and "module_put is patched" in text
    assert "insmod kpatch-loads.ko" in text


@pytest.mark.boot
@pytest.mark.kernel
def test_patches_of_one_function_stack_and_are_superseded(
    project: Throwaway, debian12: TargetKernel, tmp_path: Path
) -> None:
    names = ("first", "second")
    for name in names:
        project.add(name, edited(debian12.tree, MEMINFO, '"Committed_AS:   "', f'"{name}:   "'))
        project.built(f"build:{name}")
    modules = [project.core, *map(project.module, names)]
    command = """
cd /modules
insmod kpatch.ko && insmod kpatch-first.ko && grep -q first: /proc/meminfo || exit 1
insmod kpatch-second.ko && grep -q second: /proc/meminfo || exit 2
rmmod kpatch_second && grep -q first: /proc/meminfo || exit 3
insmod kpatch-second.ko replace=1 && grep -q second: /proc/meminfo || exit 4
grep -q superseded /sys/kernel/kpatch/patches/first/state || exit 5
rmmod kpatch_first && rmmod kpatch_second && grep -q Committed_AS: /proc/meminfo || exit 6
"""
    guest = Guest(
        (GuestStep("stack and supersede", command),), {f"/modules/{path.name}": path for path in modules}
    )
    report = qemu.boot(debian12.boot_image, guest, tmp_path / "vm")
    assert report.outcome is Outcome.PASSED, render_report(report)
