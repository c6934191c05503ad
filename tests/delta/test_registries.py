# SPDX-License-Identifier: GPL-2.0-or-later
"""Exports in the forms that kernels have had, their versions and namespaces, and imported namespaces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Options, Verdicts
from kbuild_py.elf.object import ObjectFile
from kbuild_py.symbols import Export
from tests.delta.compiling import compile_c, needs_gcc

pytestmark = needs_gcc

F = "int other(int);\nint f(int x) { return other(x) + 1; }\n"
# 4.x: two addresses, the name in __ksymtab_strings, the CRC an absolute symbol
OLD = (
    'static const char s[] __attribute__((section("__ksymtab_strings"), used)) = "f";\n'
    'asm(".globl __crc_f\\n.set __crc_f, 0x1234\\n'
    '.pushsection ___kcrctab+f, \\"a\\"\\n.quad __crc_f\\n.popsection");\n'
    "struct { void *v; const char *n; } __ksymtab_f "
    '__attribute__((section("___ksymtab+f"), used)) = { f, s };\n'
)
# 5.4 to 6.3: three distances, the last one of the namespace; the CRC is a word in .rodata
MIDDLE = (
    'asm(".section \\"__ksymtab_strings\\",\\"aMS\\",%progbits,1\\n__kstrtab_f: .asciz \\"f\\"\\n'
    '__kstrtabns_f: .asciz \\"NS\\"\\n.previous\\n'
    '.section \\"___ksymtab_gpl+f\\", \\"a\\"\\n.balign 4\\n__ksymtab_f: .long f - .\\n'
    ".long __kstrtab_f - .\\n"
    ".long __kstrtabns_f - .\\n.previous\\n"
    '.section .rodata, \\"a\\"\\n.balign 4\\n.globl __crc_f\\n__crc_f: .long 0x1234\\n.previous\\n'
    '.section \\"___kcrctab_gpl+f\\", \\"a\\"\\n.balign 4\\n.long __crc_f - .\\n.previous");\n'
)
# 6.4 and later: everything in one section until the final link
NEW = (
    'asm(".section .export_symbol, \\"a\\"\\n__export_symbol_f: .asciz \\"GPL\\"\\n.asciz \\"NS\\"\\n'
    '.balign 8\\n.quad f\\n.previous");\n'
)


def compiled(folder: Path, name: str, text: str) -> ObjectFile:
    source = folder / f"{name}.c"
    source.write_text(text)
    return compile_c(source, folder / name / "unit.o")


def rules(result: Delta | Verdicts) -> set[str]:
    assert isinstance(result, Verdicts), result
    return {verdict.rule.name for verdict in result.verdicts}


@pytest.mark.parametrize("layout", [OLD, MIDDLE, NEW])
def test_an_export_is_new_or_gone(layout: str, tmp_path: Path) -> None:
    without, with_ = compiled(tmp_path, "one", F), compiled(tmp_path, "two", F + layout)
    assert rules(diff(without, with_)) == {"changed-export"}
    assert rules(diff(with_, without)) == {"changed-export"}
    edited = compiled(tmp_path, "three", F.replace("+ 1", "+ 2") + layout)
    result = diff(with_, edited)  # An export of a changed function is no change of the export.
    assert isinstance(result, Delta), result
    assert [function.name for function in result.functions] == ["f"]


@pytest.mark.parametrize(
    ("layout", "old", "new"),
    [
        (OLD, "0x1234", "0x1235"),
        (MIDDLE, "0x1234", "0x1235"),
        (MIDDLE, 'asciz \\"NS', 'asciz \\"XY'),
        (MIDDLE, "_gpl", ""),
        (NEW, 'asciz \\"NS', 'asciz \\"XY'),
        (NEW, 'asciz \\"GPL', 'asciz \\"'),
    ],
)
def test_an_export_changes(layout: str, old: str, new: str, tmp_path: Path) -> None:
    assert old in layout
    one = compiled(tmp_path, "one", F + layout)
    two = compiled(tmp_path, "two", F + layout.replace(old, new))
    assert rules(diff(one, two)) == {"changed-export"}


def info(text: str, name: str = "a") -> str:
    return f'static const char __attribute__((used, section(".modinfo"))) __UNIQUE_ID_{name}1[] = "{text}";\n'


def imported(delta: Delta | Verdicts) -> list[bytes]:
    assert isinstance(delta, Delta) and delta.object is not None, delta
    content = b"".join(s.data for s in delta.object.sections if s.name == ".modinfo")
    assert not content or content.endswith(b"\0")
    return content.split(b"\0")[:-1]


def test_namespaces_are_imported_anew(tmp_path: Path) -> None:
    one = compiled(tmp_path, "one", info("license=GPL") + info("import_ns=OLD", "b") + F)
    changed = info("license=GPL") + info("import_ns=OLD", "b") + info("import_ns=NEW", "c")
    two = compiled(tmp_path, "two", changed + F.replace("+ 1", "+ 2"))
    assert imported(diff(one, two)) == [b"import_ns=NEW", b"import_ns=OLD"]
    assert imported(diff(two, one)) == [b"import_ns=NEW", b"import_ns=OLD"]
    exports = {"other": Export("other", 0, "vmlinux", "NEEDED"), "unused": Export("unused", 0, "x", "NOT")}
    options = Options(exports=exports)
    assert imported(diff(one, two, options)) == [b"import_ns=NEEDED", b"import_ns=NEW", b"import_ns=OLD"]
    exports["other"] = replace(exports["other"], namespace="module:kvm")
    assert imported(diff(one, two, options)) == [b"import_ns=NEW", b"import_ns=OLD"]


def test_an_import_alone_is_no_change(tmp_path: Path) -> None:
    one = compiled(tmp_path, "one", F)
    two = compiled(tmp_path, "two", info("unit.import_ns=NS") + F)
    result = diff(one, two)
    assert isinstance(result, Delta) and not result.changed
    three = compiled(tmp_path, "three", info("unit.import_ns=NS") + F.replace("+ 1", "+ 2"))
    assert imported(diff(one, three)) == [b"import_ns=NS"]
    assert imported(diff(one, compiled(tmp_path, "four", F.replace("+ 1", "+ 2")))) == []


@pytest.mark.parametrize("old", ["license=GPL", "parm=x:number", "unit.alias=fs-x"])
def test_other_information_is_refused(old: str, tmp_path: Path) -> None:
    one, two = compiled(tmp_path, "one", info(old) + F), compiled(tmp_path, "two", info(old + "s") + F)
    result = diff(one, two)
    assert rules(result) == {"changed-module-info"}
    assert isinstance(result, Verdicts)
    assert all("(.modinfo+0x0)" in str(verdict.place) for verdict in result.verdicts)
