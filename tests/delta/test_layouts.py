# SPDX-License-Identifier: GPL-2.0-or-later
"""What kernels other than the one at hand have in their objects, written in assembler (x86-64).

Each text stands in two functions, `f` and `g`; then one word of `f` changes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Verdicts
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.elf.write import write_object
from kbuild_py.run import run
from tests.delta.compiling import needs_gcc

pytestmark = needs_gcc

FUNCTION = """
.section .text.{0},"ax",@progbits
.globl {0}
.type {0},@function
{0}: call __fentry__
mov ${1},%edi
{2}
call other
ret
.size {0},.-{0}
"""


def assembled(text: str, output: Path) -> ObjectFile:
    output.parent.mkdir(parents=True, exist_ok=True)
    source = output.with_suffix(".s")
    source.write_text(text)
    run(["as", "-o", output, source])
    return read_object(output)


def pair(
    body: str, folder: Path, old: str = "$1,%edi", new: str = "$9,%edi", tail: str = ""
) -> Delta | Verdicts:
    text = (
        "".join(FUNCTION.format(name, i + 1, body.replace("@F", name)) for i, name in enumerate("fg")) + tail
    )
    assert old in text
    before = assembled(text, folder / "before" / "unit.o")
    result = diff(before, assembled(text.replace(old, new, 1), folder / "after" / "unit.o"))
    assert isinstance(same := diff(before, before), Delta) and not same.changed
    return result


def sizes(result: Delta | Verdicts, folder: Path) -> dict[str, int]:
    """What is shipped: section -> bytes; `f` alone changed, and the tools accept the object."""
    assert isinstance(result, Delta) and result.object is not None, result
    assert [function.name for function in result.functions] == ["f"]
    output = folder / "output.o"
    output.write_bytes(write_object(result.object))
    assert run(["readelf", "-aW", output]).stderr == ""
    assert run(["ld", "-r", "-o", folder / "linked.o", output]).stderr == ""
    return {section.name: section.size for section in result.object.sections}


# 4.13 to 5.4: what overflows goes to code elsewhere, whose second instruction is in the exception table.
REFCOUNT = """
772: nop
.pushsection .text..refcount
111: lea 4(%rdi),%rcx
112: ud2
.popsection
.pushsection __ex_table,"a"
.balign 4
.long 112b-., 772b-., handler-.
.popsection
js 111b
"""


def test_an_entry_about_the_middle_of_code_elsewhere(tmp_path: Path) -> None:
    found = sizes(pair(REFCOUNT, tmp_path), tmp_path)
    assert found[".text..refcount"] == 6 and found["__ex_table"] == 12


# 6.19: the instruction that warns gets the address of its own entry in the table.
WARN = """
.pushsection .rodata.str1.1,"aMS",@progbits,1
881: .string "file.c"
882: .string "fmt %d"
.popsection
.pushsection __bug_table,"aw"
2: .long 772f - 2b, 882b - 2b, 881b - 2b
.word 77
.word 3
.org 2b+16
.popsection
lea 2b(%rip),%rdi
772: ud1 (%edx),%rdi
"""


def test_code_with_the_address_of_an_entry(tmp_path: Path) -> None:
    result = pair(WARN, tmp_path)
    found = sizes(result, tmp_path)
    assert found["__bug_table"] == 16 and found[".rodata.str1.1"] == 14
    assert isinstance(result, Delta) and result.object is not None
    table = next(section.index for section in result.object.sections if section.name == "__bug_table")
    code = next(section for section in result.object.sections if section.name == ".text.f")
    symbols = result.object.symbols
    assert [symbols[r.symbol].section for r in code.relocations if r.addend == -4].count(table) == 1


def test_lines_and_formats_of_such_entries(tmp_path: Path) -> None:
    line = pair(WARN, tmp_path, ".word 77", ".word 78")
    assert isinstance(line, Delta) and not line.changed
    assert sizes(pair(WARN, tmp_path, "fmt %d", "fmt %x"), tmp_path)["__bug_table"] == 16


@pytest.mark.parametrize(
    "name", ["runtime_ptr_dentry_hashtable", ".runtime_shift_d_hash_shift", "runtime_mask_x"]
)
def test_a_constant_of_boot_time(name: str, tmp_path: Path) -> None:
    body = f'movabs $0x0123456789abcdef,%rax\n773:\n.pushsection {name},"a"\n.long 773b-8-.\n.popsection'
    result = pair(body, tmp_path)
    assert isinstance(result, Verdicts)
    assert [verdict.rule.name for verdict in result.verdicts] == ["boot-constant"]
    assert (
        isinstance(other := pair("nop", tmp_path, tail=FUNCTION.format("h", 1, body)), Delta)
        and other.changed
    )


def test_what_objtool_left_for_its_own_comparison(tmp_path: Path) -> None:
    tail = '.section .discard.sym_checksum,""\n.quad f, 123\n.section .init.klp_funcs,"aw"\n.quad 0, f, 0\n'
    found = sizes(pair("nop", tmp_path, tail=tail), tmp_path)
    assert not {".discard.sym_checksum", ".init.klp_funcs"} & found.keys()


def test_a_list_of_stack_frames_is_no_registry(tmp_path: Path) -> None:
    found = sizes(pair("nop", tmp_path, tail='.section .sframe,"a"\n.long f+1-., g-.\n'), tmp_path)
    assert ".sframe" not in found
