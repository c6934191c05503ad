# SPDX-License-Identifier: GPL-2.0-or-later
"""Which function is which hook: the three places that may name one, and every way to be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta
from kbuild_py.elf.object import ObjectFile
from kbuild_py.errors import UserError
from kbuild_py.kernel.symbols import KernelSymbols
from kbuild_py.manifest.model import Backend, Consistency, Hook, HookKind, Manifest, PatchedObject
from kbuild_py.module.hooks import BoundHook, check_names
from kbuild_py.module.hooks import bind as bind_objects
from tests.delta.snippets import COMPILERS, compile_text

OWN = "manifests/m/hooks.c"
FILE = "fs/a.c"
CODE = "int f(int x) { return other(x); } "


def manifest(*hooks: tuple[HookKind, str], consistency: Consistency = Consistency.ATOMIC) -> Manifest:
    named = tuple(Hook(kind, name, f"m.yaml:{row}:9") for row, (kind, name) in enumerate(hooks, 11))
    vmlinux = PatchedObject("vmlinux", (), "m.yaml:8:3", named)
    here = Path("/p/manifests/m")
    return Manifest("m", "d", here / "manifest.yaml", here, (), ("k",), (Backend.KPATCH,), consistency,
                    (vmlinux,), (), (here / "hooks.c",))  # fmt: skip


def own(folder: Path, text: str) -> dict[str, ObjectFile]:
    return {OWN: compile_text(COMPILERS[0], text, folder / "own" / "hooks.o")}


def account(folder: Path, added: str, after: str = CODE) -> dict[str, dict[str, Any]]:
    """What the diff says of a file to which this was added."""
    result = diff(
        compile_text(COMPILERS[0], CODE, folder / "before" / "unit.o"),
        compile_text(COMPILERS[0], after + added, folder / "after" / "unit.o"),
    )
    assert isinstance(result, Delta)
    return {FILE: result.to_json()}


def bind(
    declared: Manifest, accounts: dict[str, dict[str, Any]], objects: dict[str, ObjectFile]
) -> tuple[BoundHook, ...]:
    """The hooks of a patch whose files are all part of vmlinux."""
    return bind_objects(declared, dict.fromkeys(accounts, "vmlinux"), accounts, objects)


def refusal(*arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        bind(*arguments)
    return str(caught.value)


def marked(kind: str, name: str) -> str:
    """A callback as the kernel's macros of 6.19 register it."""
    return (
        f"static int {name}(void *object) {{ return other(1); }} "
        f'void *__klp_{kind}_callback_vmlinux section(".discard.klp_callback_ptrs") = {name};'
    )


def test_a_function_of_a_source_and_one_of_the_patch(tmp_path: Path) -> None:
    hooks = manifest((HookKind.POST_PATCH, "go"), (HookKind.PRE_PATCH, "prepare"), (HookKind.LOAD, "go"))
    accounts = account(tmp_path, "static __attribute__((used)) int prepare(void) { return other(1); }")
    assert bind(hooks, accounts, own(tmp_path, "void go(void) { other(2); }")) == (
        BoundHook("vmlinux", HookKind.PRE_PATCH, FILE, "prepare", False),
        BoundHook("vmlinux", HookKind.LOAD, OWN, "go", False),
        BoundHook("vmlinux", HookKind.POST_PATCH, OWN, "go", False),
    )


def test_callbacks_that_the_source_registers(tmp_path: Path) -> None:
    """Those of livepatch get an object, those of the time before have no parameter."""
    old = 'void at_once(void) { other(3); } void *hook section(".kpatch.hooks.load") = at_once;'
    accounts = account(tmp_path, marked("pre_patch", "prepare") + old)
    assert bind(manifest(), accounts, {}) == (
        BoundHook("vmlinux", HookKind.PRE_PATCH, FILE, "prepare", True),
        BoundHook("vmlinux", HookKind.LOAD, FILE, "at_once", False),
    )


def test_no_source_defines_it(tmp_path: Path) -> None:
    """Called is not defined; and what is static and unused the compiler drops."""
    hooks = manifest((HookKind.PRE_PATCH, "other"), (HookKind.LOAD, "dropped"))
    sources = own(tmp_path, "void go(void) { other(2); } int variable; static void dropped(void) { }")
    text = refusal(hooks, account(tmp_path, "static int other_new(void) { return 1; }"), sources)
    assert text == (
        "m.yaml:11:9: no source defines the pre_patch hook 'other'\n"
        "  hint: write 'int other(void)' in a file of sources, or add it in the patch; one that is static "
        "and that nothing calls is not compiled\n"
        "m.yaml:12:9: no source defines the load hook 'dropped'\n"
        "  hint: write 'void dropped(void)' in a file of sources, or add it in the patch; one that is static "
        "and that nothing calls is not compiled"
    )
    assert "no source defines" in refusal(manifest((HookKind.LOAD, "variable")), {}, sources)


def test_a_function_of_the_kernel_is_no_hook(tmp_path: Path) -> None:
    accounts = account(tmp_path, "", after="int f(int x) { return other(x) + 1; } ")
    assert refusal(manifest((HookKind.PRE_PATCH, "f")), accounts, {}) == (
        "m.yaml:11:9: the pre_patch hook 'f' is a function of the kernel (fs/a.c)\n"
        "  hint: write a new function"
    )
    registered = 'void *__klp_pre_patch_callback_vmlinux section(".discard.klp_callback_ptrs") = f;'
    for after in (CODE, CODE.replace("other(x)", "other(x) + 1")):
        assert refusal(manifest(), account(tmp_path, registered, after), {}) == (
            "fs/a.c: the source registers 'f' as pre_patch (.discard.klp_callback_ptrs), a function of the "
            "kernel\n"
            "  hint: register a new function"
        )


def test_one_of_a_kind(tmp_path: Path) -> None:
    sources = own(tmp_path, "void go(void) { other(2); }")
    twice = refusal(
        manifest((HookKind.LOAD, "go")), account(tmp_path, "void go(void) { other(1); }"), sources
    )
    assert twice == (
        "m.yaml:11:9: the load hook 'go' is defined in manifests/m/hooks.c and in fs/a.c\n"
        "  hint: give all but one another name"
    )
    both = refusal(
        manifest((HookKind.POST_PATCH, "go")), account(tmp_path, marked("post_patch", "mine")), sources
    )
    assert both == (
        "m.yaml:8:3: mine (fs/a.c) and go (manifests/m/hooks.c) are to be the post_patch hook, and an object "
        "has one of a kind\n  hint: keep one, and call the others from it"
    )


def test_hooks_within_the_stop_need_one(tmp_path: Path) -> None:
    added = 'void at_once(void) { other(3); } void *hook section(".kpatch.hooks.unload") = at_once;'
    text = refusal(manifest(consistency=Consistency.PER_TASK), account(tmp_path, added), {})
    assert text.startswith(
        "fs/a.c: the source registers 'at_once' as unload (.kpatch.hooks.unload), which runs"
    )
    assert "consistency: atomic" in text


def test_a_hook_stays_in_memory(tmp_path: Path) -> None:
    text = 'void section(".init.text") go(void) { other(2); } void back(void) { other(3); }'
    hooks = manifest((HookKind.LOAD, "go"), (HookKind.UNLOAD, "back"))
    assert refusal(hooks, {}, own(tmp_path, text)) == (
        "m.yaml:11:9: the load hook 'go' is in .init.text, which does not stay in memory\n"
        "  hint: remove __init or __exit"
    )


def test_names_of_the_patch_module_are_taken(tmp_path: Path) -> None:
    """A hook of this name would be patch.c's wrapper, which called itself for ever."""
    sources = own(tmp_path, "void object_1_load(void) { other(2); } void patch_exit(void) { other(3); }")
    text = refusal(manifest((HookKind.LOAD, "object_1_load"), (HookKind.UNLOAD, "patch_exit")), {}, sources)
    assert text == "\n".join(
        f"m.yaml:{row}:9: {name!r}, the {kind} hook, is a name that the patch module has already\n"
        "  hint: give it another name"
        for row, kind, name in ((11, "load", "object_1_load"), (12, "unload", "patch_exit"))
    )


def test_nothing_is_exported(tmp_path: Path) -> None:
    """EXPORT_SYMBOL() makes a symbol of one of these kinds, local or global."""
    kernel = KernelSymbols("ffffffff81000000 T taken\n", "symbols")
    for name in ("__ksymtab_f", "__export_symbol_f"):
        text = f"void f(void) {{ other(1); }} static int {name} __attribute__((used)) = 1;"
        with pytest.raises(UserError, match=rf"hooks\.c: has an EXPORT_SYMBOL\(\) \({name}\)"):
            check_names(own(tmp_path, text), kernel)


def test_names_of_the_kernel_are_taken(tmp_path: Path) -> None:
    """A static symbol of the kernel is in nobody's way; a global one would be mistaken for this one."""
    kernel = KernelSymbols(
        "ffffffff81000000 T taken\nffffffff81000010 t free\nffffffff81000020 D data\n", "symbols"
    )
    text = "void free(void) { other(1); } static __attribute__((used)) void taken(void) { other(2); } "
    check_names(own(tmp_path, text), kernel)
    with pytest.raises(UserError) as caught:
        check_names(own(tmp_path, text + "int data; int init_module(void) { return taken, 0; }"), kernel)
    assert str(caught.value) == (
        "manifests/m/hooks.c: defines 'init_module', which is the patch module's own (module_init, "
        "module_exit)\n"
        "  hint: make it a hook of the manifest\n"
        "manifests/m/hooks.c: defines 'data', and the kernel has a global symbol of that name\n"
        "  hint: make it static, or give it another name"
    )
