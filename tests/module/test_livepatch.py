# SPDX-License-Identifier: GPL-2.0-or-later
"""What the livepatch backend makes of what the stages before it found, without a kernel."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import (
    NULL_SECTION,
    NULL_SYMBOL,
    SHN_LIVEPATCH,
    SHN_UNDEF,
    ObjectFile,
    Relocation,
    Section,
    Symbol,
)
from kbuild_py.elf.write import write_object
from kbuild_py.errors import UserError
from kbuild_py.manifest.model import HookKind
from kbuild_py.module.hooks import BoundHook
from kbuild_py.module.kpatch import Code, Part, PatchedFunction, PatchedObject
from kbuild_py.module.late import with_late_relocations
from kbuild_py.module.livepatch import SHADOW, check_kernel, module_sources, notes

PART = Part("show.cold", 1, 0xFFFFFFFF81900000, 4, Code(b"cold", ()))
SHOW = PatchedFunction("show", 2, 0xFFFFFFFF81000010, 4, Code(b"code", ()), (PART,), "show.fs_a_c", True)
LATE = ".klp.sym.vmlinux.secret,3"


def text(
    functions: tuple[PatchedFunction, ...] = (SHOW,),
    hooks: tuple[BoundHook, ...] = (),
    shadow: Sequence[str] = (),
) -> str:
    """patch.c for one function."""
    about = {
        "name": "x",
        "description": "d",
        "release": "6.1",
        "version": "6.1-1",
        "build_id": "00" * 19 + "ff",
    }
    objects = [PatchedObject("vmlinux", functions, hooks=hooks)]
    return module_sources(**about, objects=objects, shadow=shadow, files=["a.o"])["patch.c"]


def test_functions_go_by_name_and_position() -> None:
    lines = [line.strip() for line in text().splitlines()]
    assert '.old_name = "show",' in lines and ".old_sympos = 2," in lines
    assert 'extern void new_1(void) asm("show.fs_a_c");' in lines
    assert 'MODULE_INFO(livepatch, "Y");' in lines
    assert f'MODULE_INFO(kpatch_build_id, "{"00" * 19}ff");' in lines


def test_without_functions_the_list_is_there_all_the_same() -> None:
    """Livepatch refuses an object that has none."""
    assert "static struct klp_func funcs_1[] = {\n\t{ }\n};" in text(functions=())


def test_hooks_are_callbacks() -> None:
    hooks = (
        BoundHook("vmlinux", HookKind.PRE_PATCH, "fs/a.c", "prepare", True),
        BoundHook("vmlinux", HookKind.POST_UNPATCH, "hooks.c", "forget", False),
    )
    made = text(hooks=hooks)
    assert "return hook_1_pre_patch(object);" in made and "\thook_1_post_unpatch();" in made
    assert ".pre_patch = object_1_pre_patch," in made and ".post_unpatch = object_1_post_unpatch," in made


def test_shadow_variables_are_the_kernels_and_only_those_that_are_used() -> None:
    assert "klp_shadow" not in text()
    made = text(shadow=["kpatch_shadow_get"])
    assert '#include "kpatch.h"' in made and "return klp_shadow_get(obj, id);" in made
    assert "klp_shadow_free" not in made
    assert all(name.replace("kpatch", "klp") + "(" in text(shadow=SHADOW) for name in SHADOW)


def test_what_livepatch_does_otherwise_is_said() -> None:
    unsafe, outside = notes([SHOW])
    assert "force_unsafe has no counterpart" in unsafe
    assert "sleeps in show.cold" in outside


def test_a_kernel_without_livepatch_is_refused() -> None:
    check_kernel({"LIVEPATCH": "y"}, "k")
    with pytest.raises(UserError, match="k: this kernel was built without CONFIG_LIVEPATCH"):
        check_kernel({"LIVEPATCH": "n"}, "k")


def linked() -> ObjectFile:
    """A module with a late symbol, one of patch.c's own, and an export, each used once in .text."""
    uses = tuple(Relocation(8 * index, 1, index + 1, 0) for index in range(3))
    code = Section(
        1, ".text", elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_EXECINSTR, bytes(24), 24, 16, relocations=uses
    )
    names = ((LATE, elf.STB_WEAK), ("notes_begin", elf.STB_WEAK), ("printk", elf.STB_GLOBAL))
    symbols = tuple(Symbol(i, name, 0, 0, 0, bind, 0, SHN_UNDEF) for i, (name, bind) in enumerate(names, 1))
    return ObjectFile("m.ko", elf.EM_X86_64, 0, False, (NULL_SECTION, code), (NULL_SYMBOL, *symbols))


def test_late_relocations_stand_apart() -> None:
    made = with_late_relocations(linked())
    code, apart = made.sections[1:]
    assert [item.symbol for item in code.relocations] == [3]
    assert [item.symbol for item in apart.relocations] == [1, 2]
    assert (apart.name, apart.type, apart.info) == (".klp.rela.vmlinux.text", elf.SHT_RELA, 1)
    assert apart.flags == elf.SHF_ALLOC | elf.SHF_INFO_LINK | elf.SHF_RELA_LIVEPATCH
    assert [(item.name, item.section) for item in made.symbols[1:]] == [
        (LATE, SHN_LIVEPATCH),
        (".klp.sym.vmlinux.__start_notes,0", SHN_LIVEPATCH),
        ("printk", SHN_UNDEF),
    ]
    assert b".klp.rela.vmlinux.text\0" in write_object(made)
