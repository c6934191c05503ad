# SPDX-License-Identifier: GPL-2.0-or-later
"""Object pairs, on real files of the kernel, with kbuild itself as the oracle."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel.kbuild import arguments
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import PatchedObject
from kbuild_py.unit.check import TranslationUnit, check_patches
from kbuild_py.unit.command import CompileCommand, record
from kbuild_py.unit.compile import (
    PAIR_FLAGS,
    compile_pair,
    compile_unit,
    lay_out,
    plain_object,
    proof_object,
)
from kbuild_py.unit.overlay import make_overlay
from kbuild_py.unit.patchfile import encode
from kbuild_py.unit.source import SourceLine, split, with_directives
from tests.unit.conftest import snapshot

pytestmark = pytest.mark.kernel

# One for each kind of command there is: folders and files with flags of their own, composite objects, lib.a,
# generated headers, all of a folder in one file.  (That the objects are the shipped ones, baseline/ tests.)
FILES = (
    "arch/x86/kernel/traps.c",
    "arch/x86/mm/fault.c",
    "block/bio.c",
    "crypto/sha256_generic.c",
    "drivers/base/core.c",
    "drivers/char/random.c",
    "drivers/net/loopback.c",
    "fs/exec.c",
    "fs/proc/meminfo.c",
    "ipc/shm.c",
    "kernel/futex/core.c",
    "kernel/sched/build_utility.c",
    "kernel/workqueue.c",
    "lib/crc32.c",
    "lib/vsprintf.c",
    "mm/mmap.c",
    "net/core/dev.c",
    "net/ipv4/ip_output.c",
    "security/selinux/hooks.c",
)


@pytest.fixture(scope="session")
def kbuilt(debian12: TargetKernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the tree in which kbuild itself has compiled FILES with PAIR_FLAGS."""
    copy = tmp_path_factory.mktemp("kbuild") / "tree"
    # Links for sources; real copies of all that make might write to.
    subprocess.run(["cp", "-as", debian12.tree, copy], check=True)
    for name in ("include", "scripts", "tools", "arch/x86/include", ".config"):
        subprocess.run(["rm", "-r", copy / name], check=True)
        subprocess.run(["cp", "-a", debian12.tree / name, copy / name], check=True)
    subprocess.run(
        ["make", "-j2", f"KCFLAGS={' '.join(PAIR_FLAGS)}"]
        + [*arguments(debian12.tree / "include/generated", debian12.arch, debian12.compiler)]
        + [name.removesuffix(".c") + ".o" for name in FILES],
        cwd=copy,
        check=True,
        capture_output=True,
        env={name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
    )
    yield copy
    shutil.rmtree(copy)


@pytest.fixture(scope="session")
def commands(debian12: TargetKernel) -> dict[str, CompileCommand]:
    """The recorded commands of FILES."""
    found = record(debian12, FILES)
    assert all(isinstance(command, CompileCommand) for command in found.values())
    return {source: command for source, command in found.items() if isinstance(command, CompileCommand)}


@pytest.mark.parametrize("source", FILES)
def test_the_object_is_the_one_that_kbuild_makes(
    source: str, kbuilt: Path, commands: dict[str, CompileCommand], debian12: TargetKernel, tmp_path: Path
) -> None:
    command = commands[source]
    target = kbuilt / (source.removesuffix(".c") + ".o")

    saved = target.with_name(f".{target.name}.cmd").read_text().splitlines()[0].partition(" := ")[2]
    words = [word for word in shlex.split(saved.replace("$(pound)", "#")) if word not in PAIR_FLAGS]
    ours = shlex.split(command.recorded)
    assert words == ours

    files = {name: Path(file) for name, file in command.generated}
    overlay = make_overlay(tmp_path / "tree", debian12.tree, {**files, source: debian12.tree / source})
    compiled = compile_unit(command, overlay, tmp_path / "original.o")
    proof = proof_object(debian12, command, compiled, tmp_path / "proof.o")
    assert proof.read_bytes() == target.read_bytes()


@pytest.fixture
def unit_of(
    debian12: TargetKernel, patch_file: Callable[..., Path]
) -> Callable[[str, Callable[[str], str]], TranslationUnit]:
    """The translation unit of one changed file."""

    def make(path: str, change: Callable[[str], str]) -> TranslationUnit:
        (unit,) = check_patches(debian12, [patch_file({path: change})], [PatchedObject("vmlinux", None, "")])
        return unit

    return make


def test_pair(debian12: TargetKernel, unit_of: Callable[..., TranslationUnit], tmp_path: Path) -> None:
    before = snapshot(debian12.tree)
    unit = unit_of("fs/proc/meminfo.c", lambda text: text.replace("VmallocTotal:", "VMALLOCTOTAL:"))
    layout = lay_out(debian12, [unit], tmp_path / "sources")
    pair = compile_pair(debian12, unit, layout, tmp_path / "objects")
    assert b"VmallocTotal" in pair.original.read_bytes()
    assert b"VMALLOCTOTAL" in pair.patched.read_bytes()
    assert b"VmallocTotal" not in pair.patched.read_bytes()
    assert {path.name for path in (tmp_path / "objects").iterdir()} == {
        "original.o",
        "patched.o",
        "original.compile.log",
        "patched.compile.log",
    }
    assert snapshot(debian12.tree) == before


def test_the_same_bytes_wherever_it_is_built(
    cold: TargetKernel,
    unit_of: Callable[..., TranslationUnit],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = []
    for place in ("one", "another/and a deeper one"):
        monkeypatch.setenv("KBUILD_PY_CACHE", str(tmp_path / place.replace(" ", "-") / "cache"))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setenv("CPATH", str(tmp_path))
        # WARN puts __FILE__ into the object; crc32.c includes a generated header.
        for path in ("kernel/workqueue.c", "lib/crc32.c"):
            unit = unit_of(path, lambda text: text + "int added;\n")
            layout = lay_out(cold, [unit], tmp_path / place / "sources")
            pair = compile_pair(cold, unit, layout, tmp_path / place / path)
            plain = plain_object(cold, unit.command, layout.original, tmp_path / place / path / "plain.o")
            results.append([file.read_bytes() for file in (pair.original, pair.patched, plain)])
    assert results[:2] == results[2:]
    for data in results[0] + results[1]:
        assert str(tmp_path).encode() not in data
    assert b"kernel/workqueue.c" in results[0][0]


def test_errors_are_reported_where_the_user_made_them(
    debian12: TargetKernel, unit_of: Callable[..., TranslationUnit], tmp_path: Path
) -> None:
    def change(text: str) -> str:
        text = text.replace("\tsi_swapinfo(&i);\n", "\tsi_swapinfo(&i);\n\n\n\n\tno_such_function();\n")
        return text.replace("\tunsigned long sreclaimable, sunreclaim;\n", "\tunsigned long sunreclaim;\n")

    unit = unit_of("fs/proc/meminfo.c", change)
    layout = lay_out(debian12, [unit], tmp_path / "sources")
    with pytest.raises(UserError) as caught:
        compile_pair(debian12, unit, layout, tmp_path / "objects")
    added, removed = caught.value.problems
    patch = (tmp_path / "test.patch").read_text().splitlines()
    source = (debian12.tree / "fs/proc/meminfo.c").read_text().splitlines()
    assert "no_such_function" in added.cause or "no_such_function" in removed.cause
    first, second = sorted((added, removed), key=lambda problem: "sreclaimable" in problem.cause)
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/test.patch:\d+", first.place)
    assert "no_such_function" in patch[int(first.place.rpartition(":")[2]) - 1]
    assert second.place.startswith("fs/proc/meminfo.c:")
    assert "sreclaimable" in source[int(second.place.rpartition(":")[2]) - 1]
    assert not (tmp_path / "objects/patched.o").exists()


def test_an_error_of_code_generation_is_reported_too(
    debian12: TargetKernel, unit_of: Callable[..., TranslationUnit], tmp_path: Path
) -> None:
    unit = unit_of(
        "fs/proc/meminfo.c",
        lambda text: text.replace("si_swapinfo(&i);", "si_swapinfo(&i); BUILD_BUG_ON(1);"),
    )
    with pytest.raises(UserError) as caught:
        compile_pair(debian12, unit, lay_out(debian12, [unit], tmp_path / "s"), tmp_path / "o")
    (problem,) = caught.value.problems
    assert "BUILD_BUG_ON failed: 1" in problem.cause
    assert "include/linux/compiler_types.h" in problem.cause
    number = int(problem.place.removeprefix(f"{tmp_path}/test.patch:"))
    assert "BUILD_BUG_ON" in (tmp_path / "test.patch").read_text().splitlines()[number - 1]


# Lines that may be put anywhere between two lines outside of comments and of lines that go on.
HARMLESS = ("", "/* a comment", "#define KBUILD_PY_ADDED (", "#if 0\nDon't (\n#endif")


def harmless_places(text: str) -> list[int]:
    """Before which lines (indices) of a source something may be put that does not change what it says."""
    places = []
    comment = continued = False
    for index, line in enumerate(text.split("\n")):
        if not comment and not continued and not line.lstrip().startswith(("#", "}")):
            places.append(index)
        bare = re.sub(r"/\*.*?\*/", "", line if not comment else f"/*{line}")
        comment = "/*" in bare
        continued = line.endswith("\\")
    return places


@pytest.mark.parametrize(
    "source", ["fs/exec.c", "kernel/workqueue.c", "mm/mmap.c", "net/core/dev.c", "lib/crc32.c"]
)
def test_added_lines_that_say_nothing_change_no_byte(
    source: str, commands: dict[str, CompileCommand], debian12: TargetKernel, tmp_path: Path
) -> None:
    """__LINE__ is in these objects many times (WARN, lockdep, initcalls); every number must stay."""
    command = commands[source]
    text = (debian12.tree / source).read_text()
    chance = random.Random(source)
    lines: list[SourceLine] = split(text)
    chosen = sorted(chance.sample(harmless_places(text)[:-1], 60), reverse=True)
    depth = open_parentheses(text)
    for index in chosen:
        added = chance.choice(HARMLESS if not depth[index] else HARMLESS[:1]).split("\n")
        if added[0].startswith("/*"):
            added += [" * of (", " */"]
        lines[index:index] = [SourceLine(line, True, 0) for line in added]
    generated = {name: Path(file) for name, file in command.generated}

    def compiled(name: str, content: bytes) -> bytes:
        overlay = make_overlay(tmp_path / name, debian12.tree, {**generated, source: content})
        return compile_unit(command, overlay, tmp_path / f"{name}.o").read_bytes()

    plain = "".join(f"{line.text}\n" for line in lines)
    original = compiled("original", encode(text))
    assert compiled("directives", encode(with_directives(lines))) == original
    if "__LINE__" in text or "WARN" in text:
        assert compiled("plain", encode(plain)) != original


def open_parentheses(text: str) -> list[int]:
    """How many parentheses are open before each line, roughly: literals and comments taken out."""
    bare = re.sub(
        r"/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'",
        lambda m: "\n" * m[0].count("\n"),
        text,
        flags=re.S,
    )
    depths, depth = [], 0
    for line in bare.split("\n"):
        depths.append(depth)
        if not line.startswith("#"):
            depth += line.count("(") - line.count(")")
    return depths
