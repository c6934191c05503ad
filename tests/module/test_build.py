# SPDX-License-Identifier: GPL-2.0-or-later
"""Finished modules: what the kernel's loader will read in them, and what must not be in them."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

import pytest

from kbuild_py.elf.object import SHN_UNDEF, ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.errors import UserError
from kbuild_py.files import cache_folder, folder_atomic, read_json
from kbuild_py.kernel.symbols import KernelSymbols
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.module.build import build_core, core_sources, write_module
from kbuild_py.run import run
from kbuild_py.symbols import parse_symvers
from tests.module.conftest import EXAMPLE
from tests.projects import KERNEL, TOP, Throwaway

pytestmark = pytest.mark.kernel
R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_32S = 1, 2, 4, 11


def modules(project: Throwaway) -> tuple[Path, Path]:
    return project.module(EXAMPLE), project.core


def modinfo(path: Path) -> dict[str, str]:
    lines = run(["modinfo", path]).stdout.splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def undefined(obj: ObjectFile) -> set[str]:
    return {symbol.name for symbol in obj.symbols if symbol.section == SHN_UNDEF and symbol.name}


def test_modinfo(example: Throwaway, debian12: TargetKernel) -> None:
    stock = run(["modinfo", next(debian12.modules.rglob("loop.ko"))]).stdout
    vermagic = re.search(r"^vermagic: +(.*)$", stock, re.MULTILINE)
    assert vermagic
    for path, name, depends in zip(modules(example), ("kpatch_cgroup_features", "kpatch"), ("kpatch", ""),
                                   strict=True):  # fmt: skip
        info = modinfo(path)
        assert info["name"] == name
        assert info["depends"] == depends
        assert info["license"] == "GPL"
        assert info["vermagic"] == vermagic[1].strip()
        assert info["retpoline"] == "Y"
    info = modinfo(example.module(EXAMPLE))
    assert info["kpatch"] == EXAMPLE
    assert info["description"].startswith("/sys/kernel/cgroup/features gets lines")


def test_only_exports_are_undefined(example: Throwaway, debian12: TargetKernel) -> None:
    exports = set(parse_symvers((debian12.headers / "Module.symvers").read_text(), "Module.symvers"))
    core = {"kpatch_register", "kpatch_unregister"}
    assert core <= undefined(read_object(example.module(EXAMPLE))) <= exports | core
    assert undefined(read_object(example.core)) <= exports


def test_no_path_of_this_machine_is_inside(example: Throwaway, debian12: TargetKernel) -> None:
    places = {str(example.root), str(cache_folder()), str(TOP), str(Path.home()), str(debian12.tree), "/tmp/"}
    for path in modules(example):
        data = path.read_bytes()
        found = [place for place in places if len(place) > 1 and place.encode() in data]
        assert not found, path


def test_sections_are_those_of_a_module(example: Throwaway) -> None:
    for path in modules(example):
        result = run(["readelf", "-SW", "-rW", "-sW", path])
        assert result.stderr == ""
        obj = read_object(path)
        names = {section.name for section in obj.sections}
        assert {".modinfo", "__versions", ".gnu.linkonce.this_module"} <= names
        assert not [name for name in names if name.startswith(".debug")]
        # Writable code would be refused or, worse, be loaded: W and X never together.
        assert not [section.name for section in obj.sections if section.flags & 0x5 == 0x5]
    # The kernel traces a function by the entry that this section has for it.
    assert "__patchable_function_entries" in names or "__mcount_loc" in names


def test_relocations_against_anchors_give_the_addresses_of_the_image(
    example: Throwaway, debian12: TargetKernel
) -> None:
    """Add what the image says of the anchor to each addend: the address that references.json promises."""
    references = read_json(example.folder(EXAMPLE) / "05-module" / "references.json")
    names = KernelSymbols.load(debian12.symbols)
    for item in references:
        assert item["address"] in {found.address for found in names.named(item["name"])}
        anchor = names.unique(item["anchor"])
        assert anchor is not None
        assert item["distance"] == item["address"] - anchor.address
    wanted = {item["address"]: item["name"] for item in references}
    anchors = {item["anchor"] for item in references}
    obj = read_object(example.module(EXAMPLE))
    seen = set()
    for section in obj.sections:
        # patch.c's table has whole addresses, code has distances from the end of a field.
        if not section.flags & 0x2:
            continue
        for relocation in section.relocations:
            symbol = obj.symbols[relocation.symbol]
            if symbol.section != SHN_UNDEF or symbol.name not in anchors:
                continue
            anchor = names.unique(symbol.name)
            assert anchor is not None
            reached = anchor.address + relocation.addend
            inside = [name for address, name in wanted.items() if -16 <= reached - address < 4096]
            assert inside, f"{section.name}+{relocation.offset:#x} reaches {reached:#x}"
            if relocation.type == R_X86_64_64 or (
                relocation.type == R_X86_64_PLT32 and reached + 4 in wanted
            ):
                seen.add(wanted[reached if relocation.type == R_X86_64_64 else reached + 4])
    # The core's table has every one of them, at its very address.
    assert seen >= {item["name"] for item in references if item["sympos"]}


def test_the_exports_of_the_core_have_no_path(example: Throwaway) -> None:
    text = (example.core.parent / "Module.symvers").read_text()
    exports = parse_symvers(text, "Module.symvers")
    assert {export.module for export in exports.values()} == {"kpatch"}


def test_make_by_hand_gives_the_same_module(
    example: Throwaway, debian12: TargetKernel, tmp_path: Path
) -> None:
    """Whoever has the folder of the stage and the headers needs nothing of this project."""
    folder = tmp_path / "by-hand"
    folder.mkdir()
    for path in (example.folder(EXAMPLE) / "05-module").iterdir():
        if (path.suffix in (".c", ".h") and not path.name.endswith(".mod.c")) or path.name == "Kbuild":
            shutil.copy(path, folder)
        elif path.name.endswith(".o_shipped"):
            shutil.copy(path, folder)
            (folder / f".{path.name.removesuffix('_shipped')}.cmd").touch()
    symbols = example.core.parent / "Module.symvers"
    flags = [f"KCFLAGS=-g0 -ffile-prefix-map={folder}/=", f"KBUILD_EXTRA_SYMBOLS={symbols}"]
    run(["make", "-C", debian12.headers, f"M={folder}", *flags, "modules"])
    made = folder / f"kpatch-{EXAMPLE}.ko"
    assert made.read_bytes() == example.module(EXAMPLE).read_bytes()


def test_a_core_that_does_not_compile_leaves_what_was_there(debian12: TargetKernel, tmp_path: Path) -> None:
    sources = tmp_path / "core"
    shutil.copytree(TOP / "core", sources)
    (sources / "main.c").write_text("#error this is wrong\n")
    output = tmp_path / "out" / KERNEL
    output.mkdir(parents=True)
    (output / "kpatch.ko").write_text("old")
    with contextlib.suppress(RuntimeError), folder_atomic(output) as folder:
        killed = folder.rename(tmp_path / folder.name)
        raise RuntimeError
    killed.rename(output.parent / killed.name)  # as if nothing had cleaned up
    with pytest.raises(UserError, match="this is wrong"):
        build_core(debian12, sources, output)
    assert (output / "kpatch.ko").read_text() == "old"
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("gcc-12", "gcc-12: the kernel's compiler is not installed\n  hint: apt-get install gcc-12="),
        ("ld", "ld: this program is not installed\n  hint: apt-get install binutils"),
    ],
)
def test_a_core_without_its_tools_names_their_package(
    missing: str, says: str, debian12: TargetKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for path in Path("/usr/bin").iterdir():
        if path.name != missing:
            (tools / path.name).symlink_to(path)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(UserError) as caught:
        build_core(debian12, TOP / "core", tmp_path / "out" / KERNEL)
    assert str(caught.value).startswith(says)
    assert list((tmp_path / "out").iterdir()) == []


def test_sources_of_the_core(tmp_path: Path) -> None:
    for name in ("b.c", "a.c", "x.h", "Kbuild", "a.o", ".a.o.cmd", "notes.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in core_sources(tmp_path)] == ["Kbuild", "a.c", "b.c", "x.h"]


def test_the_folder_of_a_module_begins_empty(tmp_path: Path) -> None:
    folder = tmp_path / "05-module"
    write_module(folder, [("patch.c", "old")], [("1_a.o", b"old")])
    write_module(folder, [("patch.c", "new")], [("1_b.o", b"new")])
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "patch.c": "new",
        "1_b.o_shipped": "new",
    }
