# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects of unusual shape: groups, linked and unnamed sections, symbols at ends, very many sections."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Verdicts
from kbuild_py.elf.object import ObjectFile, Section
from kbuild_py.elf.read import parse_object, read_object
from kbuild_py.elf.write import write_object
from kbuild_py.run import run
from tests.delta.checker import check
from tests.delta.compiling import needs_gcc
from tests.delta.snippets import COMPILERS, compile_text
from tests.delta.transform import renumbered, shuffled

FUNCTION = """
 .section .text.{0},"ax{1}
 .globl {0}
 .type {0},@function
{0}: call __fentry__
 {2}
 ret
 .size {0},.-{0}
"""


def assemble(text: str, output: Path) -> ObjectFile:
    """The object of x86-64 assembly."""
    output.parent.mkdir(parents=True, exist_ok=True)
    source = output.with_suffix(".s")
    source.write_text(text)
    run(["as", "-o", output, source])
    return read_object(output)


def function(name: str, code: str, more: str = '",@progbits') -> str:
    return FUNCTION.format(name, more, code)


def changed(folder: Path, before: str, after: str, *, checked: bool = True) -> Delta:
    """The diff of two texts; checked where the checker knows what is referred to (sized things)."""
    old = assemble(before, folder / "before.o")
    new = assemble(after, folder / "after.o")
    for obj in (old, new):
        same = diff(obj, obj)
        assert isinstance(same, Delta) and not same.changed
    result = diff(old, new)
    assert isinstance(result, Delta), result
    if checked and result.object is not None:
        (folder / "output.o").write_bytes(write_object(result.object))
        check(folder / "after.o", folder / "output.o", result.to_json())
    return result


def named(result: Delta) -> set[str]:
    return {function.name for function in result.functions}


def test_section_groups(tmp_path: Path) -> None:
    """Functions that several objects may bring, each in a group that is thrown away as a whole."""
    text = function("f", "mov $1,%eax", 'G",@progbits,f,comdat').replace(".globl", ".weak")
    text += function("g", "call f")
    result = changed(tmp_path, text, text.replace("$1", "$2"))
    assert named(result) == {"f"}
    assert result.object is not None
    assert not any(section.type == 17 for section in result.object.sections)
    assert any("weak" in note for note in result.notes)


def test_linked_sections(tmp_path: Path) -> None:
    """Each function has its own section of ftrace's table, which is ordered as the functions are."""

    def text(name: str, value: int) -> str:
        return (
            f'\n .section .text.{name},"ax",@progbits\n .globl {name}\n .type {name},@function\n'
            f"{name}:\n.L{name}: nop\n mov ${value},%eax\n ret\n .size {name},.-{name}\n"
            f' .section __patchable_function_entries,"awo",@progbits,.text.{name}\n .quad .L{name}\n'
        )

    result = changed(tmp_path, text("f", 1) + text("g", 2), text("f", 1) + text("g", 3))
    assert named(result) == {"g"}
    assert result.object is not None
    table = next(s for s in result.object.sections if s.name == "__patchable_function_entries")
    assert table.size == 8 and result.object.sections[table.link].name == ".text.g"


def test_symbols_without_size_and_at_the_end(tmp_path: Path) -> None:
    text = function("f", "mov $table,%eax\n mov $end,%ecx\n mov $0,%edx") + function("g", "mov $end,%ecx")
    text += (
        ' .section .data.table,"aw",@progbits\ntable: .long 1,2,3\nend:\n .section .bss.key,"aw",@nobits\n'
    )
    text += " .type key,@object\n .size key,0\nkey:\n" + function("h", "mov $key,%edi")
    result = changed(tmp_path, text, text.replace("$0,%edx", "$4,%edx"), checked=False)
    assert named(result) == {"f"}
    assert {"table", "end"} <= result.locals
    result = changed(tmp_path, text, text.replace("mov $key,%edi", "mov $key,%esi"))
    assert named(result) == {"h"} and "key" in result.locals


def test_text_is_compared_by_what_it_says(tmp_path: Path) -> None:
    """The assembler or a linker may keep a text as the end of another."""
    text = function("f", "mov $.L{0},%edi\n mov $0,%eax")
    alone = ' .section .rodata.str1.1,"aMS",@progbits,1\n.Lone: .asciz "bar"\n.Ltwo: .asciz "foo"\n'
    merged = ' .section .rodata.f.str1.8,"aMS",@progbits,1\n.Ltwo: .asciz "foo"\n'
    merged += ' .ascii "foo"\n.Lone: .asciz "bar"\n'
    before = text.replace("{0}", "one") + alone
    assert not changed(tmp_path, before, text.replace("{0}", "one") + merged).changed
    assert named(changed(tmp_path, before, text.replace("{0}", "two") + merged)) == {"f"}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_physical_addresses_are_those_of_what_they_name(compiler: str, tmp_path: Path) -> None:
    """A compiler writes section + offset + 2^31, which by itself points to no variable of the section."""
    text = """static int one section(".data..read_mostly") = 1, two section(".data..read_mostly") = 2;
    unsigned long f(int x) { return (unsigned long)&one - 0xffffffff80000000UL; }
    void g(void) { use(&one); use(&two); }"""
    added = 'static int three section(".data..read_mostly") = 3;' + text
    before = compile_text(compiler, text, tmp_path / "before" / "unit.o")
    for after, name, where in ((text, "two", "references"), (added, "three", "data")):
        changed_text = after.replace("&one -", f"&{name} -")
        result = diff(before, compile_text(compiler, changed_text, tmp_path / "after" / "unit.o"))
        assert isinstance(result, Delta) and named(result) == {"f"}
        found = {item.name for item in getattr(result, where) if item.name != "__fentry__"}
        assert found == {name}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_sections_without_a_name(compiler: str, tmp_path: Path) -> None:
    """Unnamed sections are loaded or not, and are taken as they are: what changes in them is refused."""
    text = "static int v = 5; static int w; int f(int x) { w += x; return v + x + other(w); }"
    before = compile_text(compiler, text, tmp_path / "before" / "unit.o")
    after = compile_text(compiler, text.replace("= 5", "= 6"), tmp_path / "after" / "unit.o")
    more = compile_text(compiler, text.replace("+ x +", "+ 7 * x +"), tmp_path / "more" / "unit.o")

    def unnamed(obj: ObjectFile) -> ObjectFile:
        sections = tuple(_without_name(section) for section in obj.sections)
        return parse_object(write_object(replace(obj, sections=sections)), obj.path)

    same = diff(unnamed(before), unnamed(before))
    assert isinstance(same, Delta) and not same.changed
    result = diff(unnamed(before), unnamed(more))
    assert isinstance(result, Delta) and named(result) == {"f"}
    if before != after:
        assert isinstance(diff(unnamed(before), unnamed(after)), Verdicts | Delta)


def _without_name(section: Section) -> Section:
    return (
        replace(section, name="") if section.name in (".comment", ".data.v", ".bss.w", ".text") else section
    )


def test_more_sections_than_an_index_has_bits_for(tmp_path: Path) -> None:
    """Both objects and the output have more than 65,280 sections."""
    count = 33_000
    before, after = (
        assemble(
            "".join(function(f"f{i}", f"mov ${value},%eax") for i in range(count)), tmp_path / f"{value}.o"
        )
        for value in (1, 2)
    )
    assert len(before.sections) > 0xFF00
    started = time.process_time()
    result = diff(before, after)
    assert time.process_time() - started < 30
    assert isinstance(result, Delta) and len(result.functions) == count and result.object is not None
    content = write_object(result.object)
    assert len(parse_object(content, "output.o").sections) > 0xFF00
    (tmp_path / "output.o").write_bytes(content)
    assert not run(["readelf", "-hSW", tmp_path / "output.o"]).stderr


def test_a_constant_is_the_same_under_another_name_or_none(tmp_path: Path) -> None:
    """clang merges a static array with a literal of the same content, and names the result after either."""
    text = function("f", "mov $name,%edi\n mov $0,%eax")
    text += ' .section .data.table,"aw",@progbits\n .type table,@object\n .size table,8\ntable: .quad name\n'
    array = (
        ' .section .rodata.name,"a",@progbits\n .type name,@object\n .size name,7\nname: .asciz "signal"\n'
    )
    literal = ' .section .rodata..L.str.1,"a",@progbits\n.L.str.1: .asciz "signal"\n'
    merged = ' .section .rodata.str1.1,"aMS",@progbits,1\n.L.str.1: .asciz "signal"\n'
    before = text + array
    for other in (literal, merged):
        after = text.replace("name", ".L.str.1") + other
        assert not changed(tmp_path, before, after).changed and not changed(tmp_path, after, before).changed
        assert named(changed(tmp_path, before, after.replace("$0", "$1"))) == {"f"}
        differs = assemble(after.replace("signal", "single"), tmp_path / "after.o")
        result = diff(assemble(before, tmp_path / "before.o"), differs)
        assert isinstance(result, Verdicts)
        assert {verdict.rule.name for verdict in result.verdicts} == {"changed-data"}


def chain_of_helpers(count: int, new: bool) -> str:
    """Helpers that the other object has under other names, each with a static local of the same name."""
    prefix = "h" if new else "g"
    parts = [function("f", f"call {prefix}0")]
    for i in range(count):
        following = f"call {prefix}{i + 1}" if i + 1 < count else "nop"
        parts.append(function(f"{prefix}{i}", f"incl n.{i}(%rip)\n {following}"))
        parts.append(
            f' .section .bss.n.{i},"aw",@nobits\n .type n.{i},@object\n .size n.{i},4\nn.{i}: .zero 4\n'
        )
    return "".join(parts)


def chain_to_carry(count: int, new: bool) -> str:
    """Functions without a place for ftrace, each called by the one before; the last one changes."""
    parts = [function("f", "call g0")]
    for i in range(count):
        following = f"call g{i + 1}" if i + 1 < count else f"mov ${1 + new},%eax"
        text = function(f"g{i}", following).replace("call __fentry__", "nop")
        parts.append(text.replace(f" .globl g{i}\n", ""))
    return "".join(parts)


def functions_of_one_name(count: int, new: bool) -> str:
    """Clones, of which every tenth changes."""
    return "".join(
        function(f"f.constprop.{i}", f"mov ${i + (new and not i % 10)},%eax").replace(".globl", ".local")
        for i in range(count)
    )


@pytest.mark.parametrize("text", [chain_of_helpers, chain_to_carry, functions_of_one_name])
def test_time_grows_with_the_size_and_not_faster(text: Callable[[int, bool], str], tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        before = assemble(text(count, False), tmp_path / "before.o")
        after = assemble(text(count, True), tmp_path / "after.o")
        best = 1e9
        for _ in range(2):
            started = time.process_time()
            diff(before, after)
            best = min(best, time.process_time() - started)
        return best

    small, large = seconds(300), seconds(2400)
    assert large / small < 20, (small, large)


@needs_gcc
def test_clones_that_share_their_code_are_found_by_any_name(tmp_path: Path) -> None:
    text = r"""
    asm(".pushsection .text.x,\"ax\",@progbits\n.type one.part.0,@function\n.type two.part.0,@function\n"
        "one.part.0:\ntwo.part.0:\ncall __fentry__\nret\n"
        ".size one.part.0,.-one.part.0\n.size two.part.0,.-two.part.0\n.popsection");
    void f(void) { asm volatile("call one.part.0"); }
    """
    obj = compile_text(COMPILERS[0], text, tmp_path / "unit.o")
    for seed in range(6):
        result = diff(obj, shuffled(renumbered(obj, seed), seed))
        assert isinstance(result, Delta) and not result.changed, seed
