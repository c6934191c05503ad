# SPDX-License-Identifier: GPL-2.0-or-later
"""Late references: which places are refused, and the table that the core reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.elf.object import SHN_UNDEF, ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.errors import UserError
from kbuild_py.module.dynrela import check_places, with_dynrelas
from kbuild_py.module.late import object_of, shown
from kbuild_py.run import run
from kbuild_py.symbols import Reference, late_reference

SECRET = late_reference("driver", "secret", 2)
# The compiler names nothing like this, the assembler does.
NAME = '".klp.sym.driver.secret,2"'


def assembled(folder: Path, text: str) -> ObjectFile:
    (folder / "a.s").write_text(text.replace("SECRET", NAME))
    run(["gcc", "-c", "-o", folder / "a.o", folder / "a.s"])
    return read_object(folder / "a.o")


def late() -> dict[str, Reference]:
    return {SECRET.anchor: SECRET}


CODE = """\
.section .text.f,"ax"
f: call SECRET
1: jmp 2f
2: mov SECRET(%rip), %eax
 movq $SECRET, %rbx
 ret
"""
JUMP = '.section __jump_table,"aw"\n.balign 8\n.long 1b - ., 2b - .\n.quad {key} - .\n'


def test_each_reference_becomes_a_place_and_an_entry(tmp_path: Path) -> None:
    obj = assembled(tmp_path, CODE + '.section .data.p,"aw"\n.quad SECRET + 8\n.quad other\n')
    check_places("a.c", obj, late())
    made, entries = with_dynrelas(obj, late(), "7")
    assert [(one.type, one.addend) for one in entries] == [
        ("R_X86_64_PLT32", -4),
        ("R_X86_64_PC32", -4),
        ("R_X86_64_32S", 0),
        ("R_X86_64_64", 8),
    ]
    assert all(one.reference == SECRET for one in entries)
    places = {symbol.name: symbol for symbol in made.symbols}
    sections = {made.sections[places[one.place].section].name for one in entries}
    assert sections == {".text.f", ".data.p"} and len({one.place for one in entries}) == 4
    assert places[entries[0].place].value == 1
    # What is left is bound as ever, and nothing asks the linker for the late symbol.
    left = [made.symbols[item.symbol].name for section in made.sections for item in section.relocations]
    assert left == ["other"]
    assert {one.name for one in made.symbols if one.section == SHN_UNDEF} == {"", "other"}


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            JUMP.format(key="SECRET"),
            r"__jump_table\+0x8 refers to secret of the module driver, and the kernel",
        ),
        (
            '.section .static_call_sites,"aw"\n.long 1b - .\n.long SECRET - .\n',
            r"\.static_call_sites\+0x4 refers",
        ),
        (
            '.section .altinstr_replacement,"ax"\n call SECRET\n',
            r"\.altinstr_replacement\+0x1 refers to secret",
        ),
        ('.section __mcount_loc,"aw"\n.quad SECRET\n', r"__mcount_loc\+0x0 refers to secret"),
        ('.section .data..percpu,"aw"\n.quad SECRET\n', r"percpu\+0x0 refers to secret"),
    ],
    ids=["key", "static-call", "replacement", "table", "percpu"],
)
def test_what_the_kernel_reads_earlier_is_refused(tmp_path: Path, table: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_places("a.c", assembled(tmp_path, CODE + table), late())


def test_an_instruction_with_two_owners_is_refused(tmp_path: Path) -> None:
    """A call that an alternative, a static call or ftrace will write, too."""
    sites = '.section .return_sites,"a"\n.long f - .\n'
    with pytest.raises(
        UserError, match=r"\.text\.f\+0x1 refers to secret .* in an instruction that the kernel"
    ):
        check_places("a.c", assembled(tmp_path, CODE + sites), late())
    # Beside it there is no harm.
    check_places("a.c", assembled(tmp_path, CODE + JUMP.format(key="other")), late())


def test_a_direct_call_is_no_instruction_with_two_owners(tmp_path: Path) -> None:
    """Kernels with call depth tracking list all of them."""
    sites = '.section .call_sites,"a"\n.long f - .\n'
    check_places("a.c", assembled(tmp_path, CODE + sites), late())
    with pytest.raises(UserError, match="in an instruction that the kernel"):
        check_places("a.c", assembled(tmp_path, CODE + sites + sites.replace("call", "return")), late())


def test_a_type_that_the_core_does_not_write(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="by a relocation of type R_X86_64_16"):
        check_places("a.c", assembled(tmp_path, '.section .data.p,"aw"\n.word SECRET\n'), late())


def test_debug_information_does_not_count(tmp_path: Path) -> None:
    check_places("a.c", assembled(tmp_path, ".section .debug_info\n.quad SECRET\n"), late())


def test_the_object_that_a_late_symbol_is_written_with() -> None:
    other = late_reference("fat", "fat_fill_super", 0, user="vfat")
    assert (object_of(other.anchor), shown(other.anchor)) == ("vfat", ".klp.sym.fat.fat_fill_super,0")
    clone = late_reference("fat", "f.isra.0", 3)
    assert (object_of(clone.anchor), shown(clone.anchor)) == ("fat", ".klp.sym.fat.f.isra.0,3")
