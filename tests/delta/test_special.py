# SPDX-License-Identifier: GPL-2.0-or-later
"""What single processors do in their own way: feature fixups, code in subsections, sums of labels, thunks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Verdicts
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile, Relocation, Section, Symbol
from kbuild_py.elf.read import parse_object
from kbuild_py.elf.write import write_object
from kbuild_py.errors import UserError
from kbuild_py.run import run
from tests.delta.checker import check
from tests.delta.compiling import compile_c, needs_gcc
from tests.delta.processors import BY_NAME, CASES

HEAD = '#include "kernel.h"\n'


def pair(toolchain: str, folder: Path, text: str, old: str, new: str) -> tuple[ObjectFile, ObjectFile]:
    """The objects of `text` before and after one replacement."""
    tools = BY_NAME[toolchain]
    assert old in text
    before = tools.compile_text(HEAD + text, CASES, folder / "before" / "unit.o")
    return before, tools.compile_text(HEAD + text.replace(old, new), CASES, folder / "after" / "unit.o")


def shipped(
    before: ObjectFile, after: ObjectFile, folder: Path, *, branches: bool = False, checked: bool = True
) -> ObjectFile:
    """The patch object, checked."""
    assert isinstance(same := diff(before, before), Delta) and not same.changed
    result = diff(before, after)
    assert isinstance(result, Delta) and result.object is not None, result
    (folder / "after" / "unit.o").write_bytes(write_object(after))
    (folder / "output.o").write_bytes(write_object(result.object))
    if checked:
        check(folder / "after" / "unit.o", folder / "output.o", result.to_json(), branches=branches)
    assert {f.name for f in result.functions} == {"f"}
    return result.object


def section(obj: ObjectFile, name: str) -> Section:
    found = [one for one in obj.sections if one.name == name]
    assert len(found) == 1, name
    return found[0]


def size(obj: ObjectFile, name: str) -> int:
    return sum(one.size for one in obj.sections if one.name == name)


FIXUPS = """
void f(int x) { alternative("nop; nop", "bl other; nop", 1); alternative("nop", "", 2); other(x); other(1); }
void g(int x) { alternative("nop", "", 3); alternative("nop", "li 3, 5", 4); other(x); other(2); }
void h(int x)
{
	asm volatile("1: lwsync\\n.pushsection __lwsync_fixup,\\"a\\"\\n3: .quad 1b - 3b\\n.popsection");
	other(x); other(3);
}
"""


def test_feature_fixups(tmp_path: Path) -> None:
    before, after = pair("ppc64le", tmp_path, FIXUPS, "other(1)", "other(7)")
    output = shipped(before, after, tmp_path)
    table, code = section(output, "__ftr_fixup"), section(output, "__ftr_alt_97")
    assert (table.size, code.size, size(output, "__lwsync_fixup")) == (96, 8, 0)
    symbols = output.symbols
    ends = [
        (symbols[r.symbol].section, symbols[r.symbol].value + r.addend - r.offset % 48)
        for r in table.relocations
    ]
    # Beginning and end of the code that is replaced, then of what replaces it; the second has nothing.
    assert [place for where, place in ends if where == code.index] == [0, 8, 0, 0]
    assert len(ends) == 8 and ends[1][1] - ends[0][1] == 8 and ends[5][1] - ends[4][1] == 4


def test_a_changed_replacement_is_a_change(tmp_path: Path) -> None:
    before, after = pair("ppc64le", tmp_path, FIXUPS, "bl other; nop", "bl use; nop")
    output = shipped(before, after, tmp_path)
    assert size(output, "__ftr_alt_97") == 8


@pytest.mark.parametrize("old", ["1: lwsync", "1b - 3b"])
def test_a_changed_fixup_is_a_change(old: str, tmp_path: Path) -> None:
    text = FIXUPS.replace("void h", "void x").replace("void f", "void h").replace("void x", "void f")
    new = {"1: lwsync": "1: sync", "1b - 3b": "1b - 3b + 4"}[old]
    before, after = pair("ppc64le", tmp_path, text, old, new)
    assert size(shipped(before, after, tmp_path), "__lwsync_fixup") == 8


SLOW_PATH = """
static __sched noinline int a(int x) { use(&a); return other(x); }
__sched int f(int x)
{
	asm volatile("b 3f\\n4:\\n.subsection 1\\n3: cbnz %w0, 3b\\n b 4b\\n.previous" : : "r" (x));
	return a(x) + 1;
}
__sched int g(int x)
{
	asm volatile("b 3f\\n4:\\n.subsection 1\\n3: nop\\n b 4b\\n.previous");
	return a(x) + 5;
}
"""


@pytest.mark.parametrize("shared", [True, False])
def test_code_behind_a_function_belongs_to_it(shared: bool, tmp_path: Path) -> None:
    text = SLOW_PATH if shared else SLOW_PATH.replace("__sched", "")
    before, after = pair("aarch64", tmp_path, text, "+ 1", "+ 2")
    output = shipped(before, after, tmp_path, branches=True)
    code = section(output, ".sched.text" if shared else ".text.f")
    function = next(symbol for symbol in output.symbols if symbol.name == "f")
    slow = code.size - 8
    assert slow >= function.value + function.size
    # To the slow path and back; its own loop needs no relocation.
    jumps = {r.offset: output.symbols[r.symbol].value + r.addend for r in code.relocations if r.type == 282}
    assert slow in jumps.values()
    assert function.value < jumps[slow + 4] < function.value + function.size
    assert not any(r.offset == slow for r in code.relocations)


def test_a_changed_slow_path_is_a_change(tmp_path: Path) -> None:
    before, after = pair("aarch64", tmp_path, SLOW_PATH, "cbnz %w0, 3b", "cbz %w0, 3b")
    shipped(before, after, tmp_path, branches=True)


def test_a_callback_is_no_empty_replacement(tmp_path: Path) -> None:
    text = """
void callback(void) { other(3); }
void f(int x)
{
	asm volatile("661: nop\\n662: .pushsection .altinstructions, \\"a\\"\\n.long 661b - ., callback - .\\n"
	".short 3\\n.byte 662b - 661b, 0\\n.popsection");
	other(x); other(1);
}
"""
    before, after = pair("aarch64", tmp_path, text, "other(1)", "other(2)")
    output = shipped(before, after, tmp_path)
    names = {output.symbols[r.symbol].name for r in section(output, ".altinstructions").relocations}
    assert "callback" in names


THUNKS = "int f(int (*p)(int)) { return p(3) + 1; }\nint g(int (*p)(int)) { return p(4) + 5; }\n"


def test_sites_of_thunks(tmp_path: Path) -> None:
    before, after = pair("s390x-hotpatch", tmp_path, THUNKS, "+ 1", "+ 2")
    output = shipped(before, after, tmp_path)
    assert any("s390_indirect" in one.name or "s390_return" in one.name for one in output.sections)
    for one in output.sections:
        if one.name.startswith(".s390_"):
            assert one.size == size(after, one.name) // 2


def summed(obj: ObjectFile) -> ObjectFile:
    """Distances in tables as the first assemblers for LoongArch wrote them: two relocations at a place."""
    symbols = list(obj.symbols)
    sections = []
    for one in obj.sections:
        relocations: list[Relocation] = []
        for r in one.relocations:
            if r.type not in (99, 109):
                relocations.append(r)
                continue
            here = Symbol(len(symbols), f".L{len(symbols)}", r.offset, 0, 0, 0, 0, one.index)
            symbols.append(here)
            add, subtract = (50, 55) if r.type == 99 else (51, 56)
            relocations += (replace(r, type=add), Relocation(r.offset, subtract, here.index, 0))
        sections.append(replace(one, relocations=tuple(relocations)))
    result = replace(obj, sections=tuple(sections), symbols=tuple(symbols))
    return parse_object(write_object(result), obj.path)


TABLES = """
struct static_key key;
int f(int x)
{
	alternative("nop; nop", "nop", 2);
	WARN_ON(x == 1);
	return static_branch(&key) ? other(1) : x;
}
int g(int x)
{
	alternative("nop", "", 3);
	WARN_ON(x == 2);
	return static_branch(&key) ? other(4) : x;
}
"""


@pytest.mark.parametrize("toolchain", ["loongarch64-clang", "loongarch64-relax"])
def test_sums_of_labels(toolchain: str, tmp_path: Path) -> None:
    objects = [summed(obj) for obj in pair(toolchain, tmp_path, TABLES, "other(1)", "other(7)")]
    output = shipped(objects[0], objects[1], tmp_path)
    sizes = [size(output, name) for name in ("__bug_table", "__jump_table", ".altinstructions")]
    assert sizes == [12, 16, 12]
    for name, fields in (("__bug_table", 2), ("__jump_table", 3), (".altinstructions", 2)):
        types = [r.type for r in section(output, name).relocations]
        assert len(types) == 2 * fields and types[0::2] + types[1::2] == sorted(types)


OLD_BUG = """
#define OLD_WARN(name) asm volatile("1: " TRAP_INSTRUCTION "\\n.pushsection __bug_table, \\"aw\\"\\n" \\
	"2: .long 1b - 2b\\n .long %c0 - 2b\\n .short %c1, 1\\n .org 2b + 12\\n.popsection" \\
	: : "i" (name), "i" (__LINE__))
int f(int x) { if (x) OLD_WARN("a"); OLD_WARN("b"); return other(x) + 1; }
int g(int x) { if (x) OLD_WARN("c"); OLD_WARN("d"); return other(x) + 5; }
"""


@pytest.mark.parametrize("toolchain", ["x86_64-clang", "aarch64", "ppc64le", "s390x", "loongarch64-clang"])
def test_distances_from_an_entry(toolchain: str, tmp_path: Path) -> None:
    """Kernels before 5.19: of a short file name, the addend alone would name the text behind it."""
    before, after = pair(toolchain, tmp_path, OLD_BUG, "other(x) + 1", "other(x) + 2")
    output = shipped(before, after, tmp_path, checked=False)
    strings = b"".join(one.data for one in output.sections if one.flags & elf.SHF_STRINGS)
    assert set(strings.split(b"\0")) == {b"a", b"b", b""}
    assert size(output, "__bug_table") == 24


@pytest.mark.parametrize("toolchain", sorted(BY_NAME))
def test_the_wrong_byte_order_is_refused(toolchain: str, tmp_path: Path) -> None:
    obj = BY_NAME[toolchain].compile_text("int f(void) { return 1; }\n", CASES, tmp_path / "unit.o")
    wrong = replace(obj, big_endian=not obj.big_endian)
    with pytest.raises(UserError, match=r"-endian objects for \w+ are not supported"):
        diff(wrong, wrong)


def test_objects_of_two_processors(tmp_path: Path) -> None:
    one, other = (
        BY_NAME[name].compile_text("int f(void) { return 1; }\n", CASES, tmp_path / name / "unit.o")
        for name in ("aarch64", "s390x")
    )
    result = diff(one, other)
    assert isinstance(result, Verdicts) and result.verdicts[0].rule.name == "different-units"


@needs_gcc
def test_flags_where_another_kernel_has_the_line_are_compared(tmp_path: Path) -> None:
    """An entry with a format and no file name (7.x without CONFIG_DEBUG_BUGVERBOSE) has its flags there."""
    text = """
#define WARN(flags) asm volatile("1: ud2\\n.pushsection __bug_table, \\"aw\\"\\n2: .long 1b - .\\n" \
    ".long %c0 - .\\n.short %c1, 0\\n.org 2b + 12\\n.popsection" : : "i" (NAME), "i" (flags))
int f(int x) { if (x) WARN(LINE); return x; }
"""

    def objects(name: str) -> list[ObjectFile]:
        found = []
        for line in ("5", "9"):
            source = tmp_path / f"{line}.c"
            source.write_text(f"#define NAME {name}\n#define LINE {line}\n{text}")
            found.append(compile_c(source, tmp_path / line / "unit.o"))
        return found

    line, flags = diff(*objects('"kernel/fork.c"')), diff(*objects('"it is %d"'))
    assert isinstance(line, Delta) and not line.changed
    assert isinstance(flags, Delta) and [function.name for function in flags.functions] == ["f"]


@pytest.mark.parametrize("toolchain", ["s390x", "aarch64"])
def test_constants_of_a_position_independent_kernel(toolchain: str, tmp_path: Path) -> None:
    """A constant with addresses lies in .data.rel.ro, which is writable, and is no state."""
    text = """
    void f(unsigned int x) { static const char *const names[] = { "a", "bc", "def" }; use((void *)names[x]); }
    """
    tools = BY_NAME[toolchain]
    before, after = (
        tools.compile_text(HEAD + one, CASES, tmp_path / side / "unit.o", "-fPIE")
        for side, one in (("before", text), ("after", text.replace("bc", "xyz")))
    )
    assert any(section.name.startswith(".data.rel.ro") for section in after.sections)
    output = shipped(before, after, tmp_path, checked=False)
    assert any(section.name.startswith(".data.rel.ro") for section in output.sections)
    removed = tools.compile_text(HEAD + "void f(unsigned int x) { }", CASES, tmp_path / "removed" / "unit.o")
    assert isinstance(result := diff(before, removed), Delta), result


REPLACED = {
    "int one; int f(int x) { return other(x + one); }\n": {"f", "two"},
    "static int one; int f(int x) { one += x; return other(x) + one; }\n": {"f", "two"},
    "int one(int x) { return other(x); }\n": {"two"},
}


@pytest.mark.parametrize("toolchain", sorted(BY_NAME))
@pytest.mark.parametrize("text", REPLACED)
def test_a_mark_of_the_assembler_is_no_name(text: str, toolchain: str, tmp_path: Path) -> None:
    """`$d`, `$x` or `.LANCHOR0`: the only ones of their kind in both objects, before different things."""
    before, after = pair(toolchain, tmp_path, text, "one", "two")
    result = diff(before, after)
    assert isinstance(result, Delta), result
    assert {item.name for item in (*result.functions, *result.data)} == REPLACED[text]
    assert result.removed == ("one",)


@pytest.mark.parametrize("toolchain", ["aarch64", "ppc64le", "s390x"])
def test_text_of_a_function_name_is_never_the_kernels(toolchain: str, tmp_path: Path) -> None:
    text = "int f(int x) { use((void *)__func__); return other(x) + 1; }\n"
    before, after = pair(toolchain, tmp_path, text, "+ 1", "+ 2")
    result = diff(before, after)
    assert isinstance(result, Delta) and [item.name for item in result.data] == ["__func__.0"]


PADDED = """
#include "kernel.h"
int first(int x) { other(x); return x + 1; }
int second(int x) { other(x); return x + 2; }
"""


@needs_gcc
def test_a_table_that_follows_its_functions_keeps_to_one_that_is_shipped(tmp_path: Path) -> None:
    """The assembler ties the whole table to `first`; the linker then joins it with another object's."""
    flags = ("-fpatchable-function-entry=16,16", f"-I{CASES}")
    objects = []
    for name, text in (("before", PADDED), ("after", PADDED.replace("x + 2", "x + 3"))):
        (tmp_path / f"{name}.c").write_text(text)
        objects.append(compile_c(tmp_path / f"{name}.c", tmp_path / name / "unit.o", *flags))
    result = diff(*objects)
    assert isinstance(result, Delta) and result.object is not None, result
    table = section(result.object, "__patchable_function_entries")
    assert table.flags & elf.SHF_LINK_ORDER
    assert result.object.sections[table.link].name == ".text.second"
    (tmp_path / "output.o").write_bytes(write_object(result.object))
    linked = [tmp_path / "joined.o", tmp_path / "output.o", tmp_path / "before" / "unit.o"]
    run(["ld", "-r", "--allow-multiple-definition", "-o", *linked])
