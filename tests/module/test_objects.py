# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches with several objects: vmlinux and modules, which come after the patch, go and come back.

The modules are those of a VFAT file system.  `fat` has two static functions init_once(); the second one
changes, so a wrong position would be the wrong function.  `vfat` calls what `fat` exports.  `loop` and
`nls_cp437` are there to mount with; they have hooks and no function.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from kbuild_py.elf.read import read_object
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.run import run
from tests.projects import KERNEL, MEMINFO, Throwaway, edited, throw_away

pytestmark = pytest.mark.kernel

INODE, NAMEI = "fs/fat/inode.c", "fs/fat/namei_vfat.c"

# Each object has hooks of its own.
HOOKS = """\
#include <linux/printk.h>
int image_comes(void);
int image_comes(void) { pr_info("hook: vmlinux comes\\n"); return 0; }
int fat_comes(void);
int fat_comes(void) { pr_info("hook: fat comes\\n"); return 0; }
void fat_goes(void);
void fat_goes(void) { pr_info("hook: fat goes\\n"); }
void loop_came(void);
void loop_came(void) { pr_info("hook: loop came\\n"); }
"""
MANIFEST = """\
schema: 1
name: {name}
description: A patch that exists for the tests
patch: {name}.patch
{sources}kernels: [{kernel}]
backend: {backend}
consistency: per-task
objects:
{objects}checks:
{checks}"""
MANY = """\
  vmlinux:
    functions: [meminfo_proc_show]
    hooks: {pre_patch: image_comes}
  fat:
    # The compiler makes parse_options() otherwise, too.
    functions: [fat_fill_super, fat_show_options, init_once, parse_options]
    hooks: {pre_patch: fat_comes, post_unpatch: fat_goes}
  vfat:
    functions: [vfat_fill_super]
  loop:
    functions: []
    hooks: {post_patch: loop_came}
  nls_cp437:
    functions: []
    hooks: {post_patch: loop_came}
"""
LOG = "dmesg | grep -v kbuild-py"  # which has these commands, too
SAID = "(hook: fat|v?fat_fill_super:|init_once:).*"
MOUNT = "mount -t vfat -o iocharset=default /dev/loop0 /mnt"
COMES = f"""\
  before_load:
    - run: mkdir -p /mnt && truncate -s 4M /tmp/disk && mkdosfs /tmp/disk && ! grep -q fat /proc/modules
  after_load:
    - run: cat /proc/meminfo
      contains: VMALLOCTOTAL
    - run: {LOG} | grep -o 'hook.*'
      stdout: "hook: vmlinux comes"
    - run: |
        modprobe loop max_loop=1 && modprobe nls_cp437 && modprobe vfat && losetup /dev/loop0 /tmp/disk &&
            {MOUNT} && grep /mnt /proc/mounts
      contains: patched=1
    - run: >-
        {LOG} | grep -E -o '{SAID}' | sort -u
      stdout: |
        fat_fill_super: 1
        hook: fat comes
        init_once: fat inode
        vfat_fill_super: 0
    - run: echo text >/mnt/file && umount /mnt
"""
GOES = f"""\
    - run: rmmod vfat fat && {LOG} | grep -o 'hook.*' | tail -n 1
      stdout: "hook: fat goes"
"""
COMES_BACK = f"""\
    - run: modprobe vfat && {MOUNT} && cat /mnt/file && grep /mnt /proc/mounts
      contains: patched=1
  after_unload:
    - run: cat /mnt/file; grep /mnt /proc/mounts
      absent: patched
    # Once more, while the modules are there.
    - run: insmod /modules/kpatch-many.ko && grep /mnt /proc/mounts && rmmod kpatch_many
      contains: patched=1
    - run: grep /mnt /proc/mounts
      absent: patched
    - run: umount /mnt && rmmod vfat fat && modprobe vfat && rmmod vfat fat
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, debian12: TargetKernel) -> Throwaway:
    return throw_away(tmp_path_factory.mktemp("objects") / "project", ["loop-partscan"], both=True)


def add(
    project: Throwaway,
    name: str,
    patch: str,
    objects: str,
    checks: str = "  {}\n",
    sources: str = "",
    backend: str = "kpatch",
) -> None:
    folder = project.root / "manifests" / name
    folder.mkdir()
    (folder / f"{name}.patch").write_text(patch)
    named = "sources: [hooks.c]\n" if sources else ""
    if sources:
        (folder / "hooks.c").write_text(sources)
    text = MANIFEST.format(
        name=name, kernel=KERNEL, objects=objects, checks=checks, sources=named, backend=backend
    )
    (folder / "manifest.yaml").write_text(text)


def vfat_patch(tree: Path) -> str:
    """A call of another module, and the address of a static function that does not change."""
    call = "\treturn fat_fill_super(sb, data, silent, 1, setup);\n"
    new = call.replace("return", "int err =") + '\n\tpr_info("%s: %d\\n", __func__, err);\n\treturn err;\n'
    return edited(tree, NAMEI, call, new)


def fat_patch(tree: Path) -> str:
    """A static variable, a name that the module has twice, and a function that the other module calls."""
    before = after = (tree / INODE).read_text()
    for line, added in (
        (
            '\tseq_printf(m, ",dmask=%04o", opts->fs_dmask);\n',
            'seq_printf(m, ",patched=%d", !!fat_inode_cachep)',
        ),
        ("\tei->nr_caches = 0;\n", 'pr_info("init_once: fat inode\\n")'),
        ("\tsb->s_magic = MSDOS_SUPER_MAGIC;\n", 'pr_info("fat_fill_super: %d\\n", isvfat)'),
    ):
        assert after.count(line) == 1
        after = after.replace(line, f"{line}\t{added};\n")
    lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
    return "".join(difflib.unified_diff(*lines, f"a/{INODE}", f"b/{INODE}"))


@pytest.fixture(scope="module")
def many(project: Throwaway, debian12: TargetKernel) -> Path:
    """The patch of all of them, for the core; and as `late` for the kernel's livepatch."""
    tree = debian12.tree
    patch = edited(tree, MEMINFO, '"VmallocTotal:', '"VMALLOCTOTAL:') + fat_patch(tree) + vfat_patch(tree)
    add(project, "many", patch, MANY, COMES + GOES + COMES_BACK, HOOKS)
    add(project, "late", patch, MANY, COMES + GOES, HOOKS, backend="livepatch")
    said = project.built("build:many", "build:late").stderr
    # Both boots show it: with livepatch, this kernel could not load the modules again.
    assert "fat: this kernel's livepatch can patch it once only" in said
    return project.folder("many")


@pytest.fixture
def late(many: Path, project: Throwaway) -> Path:
    """The livepatch module."""
    return project.folder("late") / "livepatch-late.ko"


def test_each_object_has_what_is_its_own(many: Path) -> None:
    text = (many / "05-module" / "patch.c").read_text()
    objects = text.split("static const struct kpatch_object objects[]")[1]
    assert re.findall(r'\.name = "(\w+)"', objects)[:4] == ["fat", "vfat", "loop", "nls_cp437"]
    # The second of two.
    once = text.split('.old_name = "init_once"')[1].split("}")[0]
    assert ".old_sympos = 2," in once and ".old_addr" not in once
    assert '"fat_inode_cachep", 1, "fat"' in text and '"fat_fill_super", 0, "fat"' in text
    assert '"setup", 1, "vfat"' in text


def test_the_patch_does_not_depend_on_its_modules(many: Path, late: Path) -> None:
    for path, needs in ((many / "kpatch-many.ko", "kpatch"), (late, "")):
        assert run(["modinfo", "-F", "depends", path]).stdout.strip() == needs


def test_livepatch_writes_what_belongs_to_a_module_when_that_module_comes(late: Path) -> None:
    """Also what it reaches in another module: the kernel goes by the section's name (kernel/livepatch)."""
    shown = run(["readelf", "-rW", late]).stdout
    tables = {part.split("'")[1]: part for part in shown.split("Relocation section ")[1:]}
    written = {name: part for name, part in tables.items() if name.startswith(".klp.rela.")}
    found = {name for name, part in written.items() if ".klp.sym.fat.fat_fill_super,0 " in part}
    assert found == {".klp.rela.vfat.text.vfat_fill_super"}
    assert ".klp.sym.fat.fat_inode_cachep,1 " in written[".klp.rela.fat.text.fat_show_options"]


def test_a_file_of_an_object_that_is_not_declared(project: Throwaway, debian12: TargetKernel) -> None:
    objects = "  vmlinux:\n    functions: auto\n  loop:\n    functions: auto\n"
    add(project, "wrong", vfat_patch(debian12.tree), objects)
    answer = project.doit("build:wrong")
    said = answer.stdout + answer.stderr
    assert answer.status == 1
    assert f"{NAMEI} is part of the module vfat, which the manifest does not declare" in said
    assert "no file that the patch changes is part of vmlinux" in said
    assert "no file that the patch changes is part of loop" in said


@pytest.mark.boot
def test_modules_come_after_the_patch_go_and_come_back(many: Path, project: Throwaway) -> None:
    project.built("verify:many", "verify:late")


def test_the_example(project: Throwaway) -> None:
    project.built("build:loop-partscan")
    obj = read_object(project.module("loop-partscan"))
    assert "max_part" not in {symbol.name for symbol in obj.symbols}
