# SPDX-License-Identifier: GPL-2.0-or-later
"""doit on a throw-away copy of the project: what runs when, and what users are told.

All tests of this file share one copy, which is built once; whatever a test does to it is undone.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from doit.dependency import JSONCodec, JsonDB

from kbuild_py import bench
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.tasks import forgiving
from tests.projects import KERNEL, MEMINFO, Answer, Throwaway, edited, throw_away

pytestmark = pytest.mark.kernel

NAME = "meminfo-string"
HEAD = f"{NAME} for {KERNEL}: "
CORE = f"core module for {KERNEL}"
SOURCES = "apply the patch, record commands"
COMPILE = f"compile {MEMINFO}"
PROOF = f"prove {MEMINFO} against the image"
DIFF = f"diff {MEMINFO}"
CONTRACT = "compare what changed with what is declared"
MODULE = "build the patch module"
RECORD = "write the build's record"


def stages(answer: Answer) -> list[str]:
    """What ran, without the manifest's name, sorted."""
    return sorted(title.removeprefix(HEAD) for title in answer.ran)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, debian12: TargetKernel) -> Throwaway:
    """A copy of the project, built; and beside it, in `kept`, how it was then."""
    project = throw_away(tmp_path_factory.mktemp("tasks") / "project")
    project.built("build")
    shutil.copytree(project.root, project.root.with_name("kept"), symlinks=True)
    return project


@pytest.fixture
def project(copy: Throwaway) -> Throwaway:
    """The copy as it was when it was built."""
    shutil.rmtree(copy.root)
    shutil.copytree(copy.root.with_name("kept"), copy.root, symlinks=True)
    return copy


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


# --- what runs ------------------------------------------------------------------------------------------


def test_first_build_runs_each_stage_once(project: Throwaway) -> None:
    project.built("clean")
    answer = project.built("build")
    assert stages(answer) == sorted([CORE, SOURCES, COMPILE, PROOF, DIFF, CONTRACT, MODULE, RECORD])
    assert project.module(NAME).exists() and project.core.exists()
    # Which tasks ran, and nothing else.
    assert answer.stdout.splitlines() == answer.ran


def test_second_build_runs_nothing(project: Throwaway) -> None:
    before = project.module(NAME).stat()
    answer = project.built("build")
    assert answer.stdout == "everything is up to date\n"
    after = project.module(NAME).stat()
    # Not the time of access: the record's task looks at what it was made from.
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


def test_new_times_are_no_new_content(project: Throwaway) -> None:
    for path in project.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1, 1))
    assert project.built("build").ran == []


def test_new_content_with_old_time_and_size(project: Throwaway) -> None:
    path = project.root / "manifests" / NAME / f"{NAME}.patch"
    before = path.stat()
    replace(path, "VMALLOCTOTAL: ", "VMALLOCTOTAX: ")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    project.built("build")
    assert b"VMALLOCTOTAX" in project.module(NAME).read_bytes()


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        (f"manifests/{NAME}/manifest.yaml", "/proc/meminfo prints", "It prints", [MODULE]),
        (f"manifests/{NAME}/manifest.yaml", "checks:", "# A comment\nchecks:", []),
        (f"manifests/{NAME}/manifest.yaml", 'stdout: "1"', 'stdout: "2"', []),
        # What is declared is looked at, and is the same that was found.
        (f"manifests/{NAME}/manifest.yaml", "\n      - meminfo_proc_show", " auto", [CONTRACT]),
        (f"manifests/{NAME}/{NAME}.patch", "The smallest patch", "A small patch", [SOURCES]),
        # The original is the same, and so is its proof.
        (f"manifests/{NAME}/{NAME}.patch", "VMALLOCTOTAL: ", "VMALLOC_TOTAL:",
         [SOURCES, COMPILE, DIFF, CONTRACT, MODULE]),
        ("templates/Kbuild.j2", "# Patch module", "# The patch module", [MODULE]),
        ("templates/patch-module.c.j2", "Generated from", "Made from", [MODULE]),
        ("templates/guest-init.sh", "# The guest's init", "# Init of the guest", []),
        ("core/main.c", "\n#include", "\n/* A comment. */\n#include", [CORE]),
        ("core/kpatch.h", "\n#include", "\n/* A comment. */\n#include", [CORE, MODULE]),
        (f"manifests/kernels/{KERNEL}.yaml", "description: The", "description: That", []),
        ("dodo.py", "doit reads", "Read by doit:", []),
        ("kbuild_py/errors.py", "\nfrom __future__", "\n# A comment\nfrom __future__",
         [CORE, SOURCES, COMPILE, PROOF, DIFF, CONTRACT, MODULE]),
    ],
)  # fmt: skip
def test_a_changed_input_runs_what_depends_on_it(
    project: Throwaway, path: str, old: str, new: str, expected: list[str]
) -> None:
    replace(project.root / path, old, new)
    # The record names what went in, as it was written; none of the other changes reaches a module.
    recorded = path.startswith((f"manifests/{NAME}/", "kbuild_py/"))
    assert stages(project.built("build")) == sorted([*expected, RECORD] if recorded else expected)
    if MODULE in expected and "templates" not in path and "core" not in path:
        assert new.encode() in project.module(NAME).read_bytes() or "kbuild_py" in path
    assert project.built("build").ran == []


@pytest.mark.parametrize("remove", ["module", "core", "stage"])
def test_a_lost_output_is_made_again(project: Throwaway, remove: str) -> None:
    before = project.module(NAME).read_bytes(), project.core.read_bytes()
    if remove == "module":
        project.module(NAME).unlink()
    elif remove == "core":
        project.core.unlink()
    else:
        shutil.rmtree(project.folder(NAME) / "04-delta")
    ran = stages(project.built("build"))
    assert ran == {"module": [MODULE], "core": [CORE], "stage": [CONTRACT, DIFF]}[remove]
    assert (project.module(NAME).read_bytes(), project.core.read_bytes()) == before


@pytest.mark.parametrize("content", [b"", b'{"_core:x": {'])
def test_a_damaged_record_of_doit(project: Throwaway, content: bytes) -> None:
    before = project.module(NAME).read_bytes()
    (project.root / "build" / ".doit.json").write_bytes(content)
    project.built("build")
    assert project.module(NAME).read_bytes() == before


def test_a_lock_for_other_packages(project: Throwaway) -> None:
    lock = project.root / "manifests" / "kernels" / f"{KERNEL}.lock.json"
    replace(lock, '"sha256": "d67a185023b6', '"sha256": "000000000000')
    answer = project.doit("build")
    assert answer.status != 0 and "Traceback" not in answer.stdout + answer.stderr
    assert [title for title in answer.ran if not title.startswith("kernel ")] == []
    assert "linux-config-6.1" in answer.stdout


def test_the_bare_tools_that_the_benchmark_runs_make_the_same_module(project: Throwaway) -> None:
    stages = bench.bare_commands(project.folder(NAME), MEMINFO)
    made = project.folder(NAME) / "05-module" / project.module(NAME).name
    made.unlink()
    bench.run_stages(stages, "x86_64")
    assert made.read_bytes() == project.module(NAME).read_bytes()
    assert [bench.program(stage[0]).split()[0] for stage in stages[:2]] == ["gcc-12", "objtool"]
    assert [len(stage) for stage in stages[:2]] == [2, 2]


# --- what users call ------------------------------------------------------------------------------------


def test_list_has_a_line_of_help_for_each_public_task(project: Throwaway) -> None:
    lines = project.built("list").stdout.splitlines()
    listed = {line.split()[0]: line.split(maxsplit=1)[1:] for line in lines}
    tasks = {"bench", "build", "check", "core", "kernel", "matrix", "package", "test", "verify"}
    assert set(listed) == tasks
    assert all(listed.values()), lines


def test_build_of_one_manifest(project: Throwaway, debian12: TargetKernel) -> None:
    project.add("probe-one", edited(debian12.tree, MEMINFO, '"Committed_AS:   "', '"COMMITTED_AS:   "'))
    answer = project.built("check:probe-one")
    # Nothing is compiled.
    assert answer.ran == [f"probe-one for {KERNEL}: {SOURCES}"]
    answer = project.built("build:probe-one")
    assert all(title.startswith("probe-one ") for title in answer.ran) and len(answer.ran) == 6
    assert project.module("probe-one").exists()
    replace(project.manifest(NAME), "/proc/meminfo prints", "It prints")
    assert project.built("build:probe-one").ran == []
    assert stages(project.built(f"build:{NAME}")) == [MODULE, RECORD]


@pytest.mark.parametrize(
    "arguments", [["build:no-such"], ["verify:no-such"], ["frobnicate"], ["build", "-x"]]
)
def test_unknown_names(project: Throwaway, arguments: list[str]) -> None:
    answer = project.doit(*arguments)
    assert answer.status != 0
    assert "Traceback" not in answer.stdout + answer.stderr
    assert arguments[-1].strip("-") in answer.stderr


def test_clean_removes_what_builds_made_and_nothing_else(project: Throwaway) -> None:
    def present() -> set[Path]:
        paths = (path.relative_to(project.root) for path in project.root.rglob("*"))
        return {path for path in paths if "__pycache__" not in path.parts}

    sources = {path for path in present() if path.parts[0] != "build"}
    stranger = project.root / "build" / "notes.txt"
    stranger.write_text("mine\n")
    project.built("clean")
    left = present()
    assert {path for path in left if path.parts[0] != "build"} == sources
    assert stranger.exists()
    files = {path for path in left - sources if (project.root / path).is_file()}
    assert {path.name for path in files} <= {"notes.txt", ".doit.json", ".lock", KERNEL}
    stranger.unlink()


def test_clean_of_one_manifest(project: Throwaway, debian12: TargetKernel) -> None:
    project.add("probe-two", edited(debian12.tree, MEMINFO, '"Committed_AS:   "', '"COMMITTED_AS:   "'))
    project.built("build")
    project.built("clean", "build:probe-two")
    assert not project.folder("probe-two").parent.exists()
    assert project.module(NAME).exists() and project.core.exists()


# --- what goes wrong ------------------------------------------------------------------------------------


def test_a_refused_manifest_does_not_stop_others(project: Throwaway, debian12: TargetKernel) -> None:
    source = "fs/proc/version.c"
    good = edited(debian12.tree, source, "static int version_proc_show", "static int  version_proc_show")
    project.add("a-bad", good.replace("static int version_proc_show", "static int something_else"))
    project.add("b-bad", edited(debian12.tree, MEMINFO, "si_meminfo(&i);", "si_meminfo(i);"))
    project.add("c-good", edited(debian12.tree, MEMINFO, '"Committed_AS:   "', '"COMMITTED_AS:   "'))
    answer = project.doit("build")
    assert answer.status != 0
    assert "Traceback" not in answer.stdout + answer.stderr
    assert project.module("c-good").exists()
    assert not project.module("a-bad").exists() and not project.module("b-bad").exists()
    assert "a-bad.patch:" in answer.stdout and "b-bad.patch:" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "2 failed"
    # Once more: what failed is tried again, what succeeded is not.
    again = project.doit("build")
    assert again.status != 0
    assert not any(title.startswith("c-good") for title in again.ran)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("schema: 1", "schema: 1\nbogus: 2", "manifest.yaml:3:1"),
        ("consistency: per-task", "consistency: [", "manifest.yaml:"),
        (f"patch: {NAME}.patch", "patch: missing.patch", "manifest.yaml:5:8"),
        (f"kernels: [{KERNEL}]", "kernels: [debian-13]", "manifest.yaml:6:11"),
        ("- meminfo_proc_show", "- 9lives", "manifest.yaml:12:9"),
        ("consistency: per-task", "backend: livepatch", "manifest.yaml:8:10"),  # needs consistency: per-task
    ],
)
def test_a_broken_manifest(project: Throwaway, old: str, new: str, place: str) -> None:
    replace(project.manifest(NAME), old, new)
    for task in ("build", "check", "list"):
        answer = project.doit(task)
        assert answer.status != 0
        assert "Traceback" not in answer.stdout + answer.stderr
        assert answer.stderr.startswith(f"manifests/{NAME}/{place}"), answer.stderr
    assert project.module(NAME).exists()  # what was built before stays


@pytest.mark.parametrize(
    "text", ["", "no patch at all\n", "--- a/../x.c\n+++ b/../x.c\n@@ -1 +1 @@\n-a\n+b\n"]
)
def test_a_patch_that_is_none(project: Throwaway, text: str) -> None:
    (project.root / "manifests" / NAME / f"{NAME}.patch").write_text(text)
    answer = project.doit("build")
    assert answer.status != 0
    assert "Traceback" not in answer.stdout + answer.stderr
    assert f"{NAME}.patch" in answer.stderr


def test_a_record_that_cannot_be_opened_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a disk without room for one more file; doit's clean-up then fails in its own way."""
    record = JsonDB(str(tmp_path / "missing" / ".doit.json"), JSONCodec())
    forgiving(record.dump)()
    assert capsys.readouterr().err == "build/.doit.json: cannot write: No such file or directory\n"

    def broken() -> None:
        raise UnboundLocalError("a bug")

    with pytest.raises(UnboundLocalError):
        forgiving(broken)()


@pytest.mark.parametrize("damage", ["missing", "not JSON", "other release"])
def test_a_bad_lock(project: Throwaway, damage: str) -> None:
    lock = project.root / "manifests" / "kernels" / f"{KERNEL}.lock.json"
    if damage == "missing":
        lock.unlink()
    elif damage == "not JSON":
        lock.write_text("{")
    else:
        replace(lock, '"release": "6.1.0-50-amd64"', '"release": "6.1.0-49-amd64"')
    answer = project.doit("build")
    assert answer.status != 0
    assert "Traceback" not in answer.stdout + answer.stderr
    assert f"{KERNEL}.lock.json" in answer.stderr


@pytest.mark.boot
def test_verify_runs_again_for_new_checks_and_modules_only(project: Throwaway) -> None:
    boot = f"{HEAD}boot the kernel, load, check, unload"
    assert boot in project.built("verify").ran
    assert project.built("verify").ran == []
    replace(project.manifest(NAME), "grep -c VMALLOCTOTAL", "grep -q VMALLOCTOTAL")
    answer = project.doit("verify")
    # grep -q prints nothing, and "1" was expected.
    assert answer.status != 0 and answer.ran == [boot]
    assert f"manifests/{NAME}/manifest.yaml:" in answer.stdout
