# SPDX-License-Identifier: GPL-2.0-or-later
"""Recorded commands.  That they are kbuild's own is tested in test_compile.py, against a real make."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from kbuild_py.unit.command import (
    CompileCommand,
    NotPatchable,
    _split_command,
    module_objtool,
    nearest_source,
    record,
)
from tests.unit.conftest import snapshot

# Source -> the object it is part of; None is refused, with a part of the reason.
OBJECTS: dict[str, str | None] = {
    "fs/proc/meminfo.c": "vmlinux",
    "kernel/sched/core.c": "vmlinux",
    "kernel/sched/build_utility.c": "vmlinux",
    "lib/crc32.c": "vmlinux",
    "lib/vsprintf.c": "vmlinux",  # in lib/lib.a, all of which goes into vmlinux
    "drivers/net/loopback.c": "vmlinux",
    "security/selinux/hooks.c": "vmlinux",  # part of a composite object
    "arch/x86/entry/vdso/vma.c": "vmlinux",
    "arch/x86/realmode/init.c": "vmlinux",
    "fs/xfs/xfs_super.c": "xfs",
    "fs/xfs/libxfs/xfs_ag.c": "xfs",  # listed by the folder above
    "fs/ext4/super.c": "ext4",
    "net/ipv4/tcp_bbr.c": "tcp_bbr",
    "kernel/sched/clock.c": None,
    "arch/x86/entry/vdso/vclock_gettime.c": None,
    "arch/x86/realmode/rm/video-vga.c": None,
    "arch/x86/boot/cmdline.c": None,
    "arch/x86/boot/compressed/misc.c": None,
    "arch/x86/purgatory/purgatory.c": None,
    "drivers/firmware/efi/libstub/gop.c": None,
    "arch/x86/math-emu/errors.c": None,
    "mm/kasan/common.c": None,
    "arch/arm64/kernel/process.c": None,
    "scripts/kallsyms.c": None,
    "tools/objtool/check.c": None,
    "samples/livepatch/livepatch-sample.c": None,
}


@pytest.mark.kernel
def test_which_object_a_file_is_part_of(cold: TargetKernel) -> None:
    found = record(cold, tuple(OBJECTS))
    assert {
        source: answer.object if isinstance(answer, CompileCommand) else None
        for source, answer in found.items()
    } == OBJECTS


@pytest.mark.kernel
def test_why_a_file_is_refused(cold: TargetKernel) -> None:
    found = record(cold, ("kernel/sched/clock.c", "mm/kasan/common.c", "net/core/drop_monitor.c"))
    included = found["kernel/sched/clock.c"]
    assert isinstance(included, NotPatchable)
    assert included.cause == "is no translation unit of its own: kernel/sched/build_utility.c includes it"
    unset = found["mm/kasan/common.c"]
    assert isinstance(unset, NotPatchable)
    assert "neither into vmlinux nor into a module" in unset.cause


@pytest.mark.kernel
def test_generated_headers_are_kept(cold: TargetKernel) -> None:
    found = record(cold, ("lib/crc32.c", "security/selinux/avc.c", "fs/exec.c"))
    crc, avc, plain = found.values()
    assert isinstance(crc, CompileCommand) and isinstance(avc, CompileCommand)
    assert isinstance(plain, CompileCommand)
    assert [name for name, _ in crc.generated] == ["lib/crc32table.h"]
    assert {name for name, _ in avc.generated} == {
        "security/selinux/av_permissions.h",
        "security/selinux/flask.h",
    }
    assert plain.generated == ()
    for _, file in (*crc.generated, *avc.generated):
        assert Path(file).is_relative_to(os.environ["KBUILD_PY_CACHE"])
        assert Path(file).stat().st_size > 1000


@pytest.mark.kernel
def test_the_tree_is_not_written_to(cold: TargetKernel) -> None:
    before = snapshot(cold.tree)
    record(cold, tuple(OBJECTS))
    module_objtool(cold)
    assert snapshot(cold.tree) == before


@pytest.mark.kernel
def test_recorded_once(cold: TargetKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = ("fs/exec.c", "mm/kasan/common.c", "lib/crc32.c")
    first = record(cold, sources)
    monkeypatch.setenv("PATH", "/nonexistent")  # no make to be found
    start = time.monotonic()
    assert record(cold, sources) == first
    assert time.monotonic() - start < 0.2


@pytest.mark.kernel
def test_another_compiler_is_another_record(cold: TargetKernel) -> None:
    record(cold, ("fs/exec.c",))
    other = record(replace(cold, compiler="x86_64-linux-gnu-gcc-12"), ("fs/exec.c",))["fs/exec.c"]
    assert isinstance(other, CompileCommand)
    assert other.compiler[0] == "x86_64-linux-gnu-gcc-12"


@pytest.mark.kernel
def test_the_environment_does_not_matter(
    cold: TargetKernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = record(cold, ("fs/exec.c",))
    for name, value in {"KCFLAGS": "-O1", "LLVM": "1", "ARCH": "arm64", "MAKEFLAGS": "-k", "V": "1"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a b"))  # kbuild cannot work in such a folder
    monkeypatch.setenv("KBUILD_PY_CACHE", os.environ["KBUILD_PY_CACHE"] + "2")
    assert record(cold, ("fs/exec.c",)) == first


@pytest.mark.kernel
def test_objtool_for_a_module(cold: TargetKernel) -> None:
    built_in, module = record(cold, ("fs/exec.c", "fs/ext4/super.c")).values()
    assert isinstance(built_in, CompileCommand) and isinstance(module, CompileCommand)
    assert module_objtool(cold) == module.objtool
    assert set(module.objtool) - set(built_in.objtool) == {"--module"}


@pytest.mark.kernel
def test_nearest_source(debian12: TargetKernel) -> None:
    assert nearest_source(debian12.tree, "fs/procc/meminfo.c") == "fs/proc/meminfo.c"
    assert nearest_source(debian12.tree, "proc/meminfo.c") == "fs/proc/meminfo.c"
    assert nearest_source(debian12.tree, "fs/proc/meminfos.c") == "fs/proc/meminfo.c"
    assert nearest_source(debian12.tree, "no/such/folder/and_no_such_file.c") is None


def test_splitting() -> None:
    line = (
        """gcc-12 -Wp,-MMD,fs/.a.o.d -DKBUILD_MODNAME='"a b"' -DX=\\"y\\" """
        "-c -o fs/a.o fs/a.c   ; ./t/objtool --orc  fs/a.o"
    )
    assert _split_command(line, "fs/a.o") == (
        ("gcc-12", "-Wp,-MMD,fs/.a.o.d", '-DKBUILD_MODNAME="a b"', '-DX="y"', "-c", "-o", "fs/a.o", "fs/a.c"),
        ("./t/objtool", "--orc"),
    )


@pytest.mark.parametrize("rest", ["; ld -r -o fs/.tmp fs/a.o; mv fs/.tmp fs/a.o", "&& true", "| cat", "> x"])
def test_a_command_that_is_not_understood_is_no_command(rest: str) -> None:
    with pytest.raises(AssertionError):
        compiler, _ = _split_command(f"gcc -c -o fs/a.o fs/a.c {rest}", "fs/a.o")
        assert compiler[-1] == "fs/a.c"
