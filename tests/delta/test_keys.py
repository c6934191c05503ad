# SPDX-License-Identifier: GPL-2.0-or-later
"""Static keys and static calls of vmlinux, of modules, and of who knows where."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Options, Verdicts
from kbuild_py.elf.object import ObjectFile
from kbuild_py.symbols import Export
from tests.delta.compiling import CASES, compile_c, needs_gcc

pytestmark = needs_gcc

HEAD = f'#include "{CASES / "kernel.h"}"\n'
MODULE_INFO = 'static const char __attribute__((used, __section__(".modinfo"))) info1[] = "license=GPL";\n'
BUILT_IN = MODULE_INFO.replace("license", "unit.license")
OWN = "struct static_key key; int f(int x) { if (static_branch(&key)) return other(x); return x + 1; }\n"
FOREIGN = "extern " + OWN
TRACE = OWN.replace("key;", "__tracepoint_x;").replace("&key", "&__tracepoint_x")
# As the kernel writes it on x86-64 since 5.14: a jump, of which objtool makes the initial no-op.
HACK = TRACE.replace("static_branch(&__tracepoint_x)", "hacked(&__tracepoint_x)")
HACKED = """
#define hacked(key) ({ __label__ yes, end; int _r = 0; \\
  asm goto("1: jmp %l[yes]\\n" \\
  ".pushsection __jump_table, \\"aw\\"\\n" \\
  ".balign 8\\n" \\
  ".long 1b - ., %l[yes] - .\\n" \\
  ".quad %c0 + 2 - .\\n" \\
  ".popsection" : : "i" (key) : : yes); \\
 goto end; \\
yes: _r = 1; \\
end: _r; })
"""
# A pr_debug() with CONFIG_JUMP_LABEL: the key is in the descriptor.
MESSAGE = """
struct message { const char *module, *function, *file, *format; unsigned int line; struct static_key key; };
void __dynamic_pr_debug(struct message *, const char *, ...);
int f(int x) {
	static struct message __attribute__((__section__("__dyndbg"), aligned(8))) descriptor = {
		"unit", "f", __FILE__, "text %d", 7 };
	if (static_branch(&descriptor.key)) __dynamic_pr_debug(&descriptor, "text %d", x);
	return other(x) + 1;
}
"""
CALL = "int __SCT__x(int); int f(int x) { other(x); return __SCT__x(x) + 1; }\n"


def pair(folder: Path, text: str) -> tuple[ObjectFile, ObjectFile]:
    """The text, and the same with another number."""
    objects = []
    for name, content in (("before", text), ("after", text.replace("+ 1", "+ 2"))):
        source = folder / f"{name}.c"
        source.write_text(HEAD + content)
        objects.append(compile_c(source, folder / name / "unit.o"))
    return objects[0], objects[1]


def jump_table(delta: Delta) -> int:
    assert delta.object is not None
    return sum(section.size for section in delta.object.sections if section.name == "__jump_table")


def exported(module: str) -> dict[str, Export]:
    return {"key": Export("key", 0, module, ""), "__SCT__x": Export("__SCT__x", 0, module, "")}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (MODULE_INFO + OWN, Options()),
        (OWN, Options(object="nf_tables")),
        (FOREIGN, Options(object="nf_tables", exports={})),
        (FOREIGN, Options(object="nf_tables", exports=exported("net/x/other"))),
        (CALL, Options(object="nf_tables", exports=exported("net/x/other"))),
        (CALL, Options(object="nf_tables", exports={})),
    ],
)
def test_a_key_in_a_module_is_refused(text: str, options: Options, tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, text), options)
    assert isinstance(result, Verdicts), result
    assert [verdict.rule.name for verdict in result.verdicts] == ["module-key"]
    assert ".text.f+0x" in str(result.verdicts[0].place)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (BUILT_IN + OWN, Options()),
        (OWN, Options(object="vmlinux")),
        (FOREIGN, Options(object="vmlinux")),
        (FOREIGN, Options(object="nf_tables", exports=exported("vmlinux"))),
        (CALL, Options(object="nf_tables", exports=exported("vmlinux"))),
    ],
)
def test_a_key_in_vmlinux_is_kept(text: str, options: Options, tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, text), options)
    assert isinstance(result, Delta), result
    assert jump_table(result) == (0 if "__SCT__" in text else 16)
    assert not any("key" in note for note in result.notes)


@pytest.mark.parametrize("text", [OWN, FOREIGN, CALL])
def test_what_is_not_known_is_said(text: str, tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, text))
    assert isinstance(result, Delta), result
    assert any("not known whether vmlinux or a module" in note for note in result.notes)


def test_a_key_that_the_patch_brings_is_kept(tmp_path: Path) -> None:
    before, _ = pair(tmp_path, MODULE_INFO + "int f(int x) { return x; }\n")
    source = tmp_path / "new.c"
    source.write_text(HEAD + MODULE_INFO + "static " + OWN.replace("; int f", "; int f", 1))
    result = diff(before, compile_c(source, tmp_path / "new" / "unit.o"))
    assert isinstance(result, Delta), result
    assert jump_table(result) == 16


def test_a_trace_point_of_a_module_stays_off(tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, MODULE_INFO + TRACE))
    assert isinstance(result, Delta), result
    assert jump_table(result) == 0
    assert any(note.startswith("__tracepoint_x: its branches are left out") for note in result.notes)


def test_a_branch_that_objtool_would_turn_off_is_turned_off(tmp_path: Path) -> None:
    before, after = pair(tmp_path, HACKED + MODULE_INFO + HACK)
    code = next(section.data for section in after.sections if section.name == ".text.f")
    assert b"\xeb" in code or b"\xe9" in code
    result = diff(before, after)
    assert isinstance(result, Delta) and result.object is not None, result
    shipped = next(section.data for section in result.object.sections if section.name == ".text.f")
    different = {i for i, (one, other) in enumerate(zip(code, shipped, strict=False)) if one != other}
    jump = min(different)
    assert code[jump] in (0xEB, 0xE9) and shipped[jump : jump + 2] in (b"\x66\x90", b"\x0f\x1f")
    assert len(different) <= 5
    # In vmlinux the entry is there, and objtool does it.
    kept = diff(before, after, Options(object="vmlinux"))
    assert isinstance(kept, Delta) and jump_table(kept) == 16


def sections(delta: Delta) -> set[str]:
    assert delta.object is not None
    return {section.name for section in delta.object.sections if section.size}


@pytest.mark.parametrize("name", ["__dyndbg", "__verbose"])
def test_debug_messages_of_a_module_stay_off_and_are_not_listed(name: str, tmp_path: Path) -> None:
    """Without the branch's entry nobody can turn the message on, so that it must not be offered."""
    result = diff(*pair(tmp_path, MODULE_INFO + MESSAGE.replace("__dyndbg", name)))
    assert isinstance(result, Delta) and result.object is not None, result
    assert jump_table(result) == 0
    assert name not in sections(result) and ".data.dyndbg_off" in sections(result)
    assert any(note.startswith("f: its pr_debug() messages stay off") for note in result.notes)
    code = next(s for s in result.object.sections if s.name == ".text.f")
    reached = {result.object.symbols[r.symbol].section for r in code.relocations}
    assert any(result.object.sections[index].name == ".data.dyndbg_off" for index in reached if index > 0)


@pytest.mark.parametrize(("text", "options"), [(BUILT_IN, Options()), ("", Options(object="vmlinux"))])
def test_debug_messages_of_vmlinux_are_kept(text: str, options: Options, tmp_path: Path) -> None:
    result = diff(*pair(tmp_path, text + MESSAGE), options)
    assert isinstance(result, Delta), result
    assert jump_table(result) == 16 and "__dyndbg" in sections(result)
    assert not any("pr_debug" in note for note in result.notes)
