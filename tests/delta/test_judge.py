# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts about objects that a C file alone does not make."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Options, Verdict, Verdicts
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile
from tests.delta.compiling import compile_c, needs_gcc
from tests.delta.snippets import COMPILERS, compile_text
from tests.elf.builder import build, function, reloc

pytestmark = needs_gcc


def compiled(folder: Path, name: str, text: str) -> ObjectFile:
    source = folder / f"{name}.c"
    source.write_text(text)
    return compile_c(source, folder / name / "unit.o")


def refused(before: ObjectFile, after: ObjectFile) -> dict[str, Verdict]:
    result = diff(before, after)
    assert isinstance(result, Verdicts), result
    return {verdict.rule.name: verdict for verdict in result.verdicts}


def pair(folder: Path, before: str, old: str, new: str) -> tuple[ObjectFile, ObjectFile]:
    assert old in before
    return compiled(folder, "before", before), compiled(folder, "after", before.replace(old, new, 1))


def test_other_processor(tmp_path: Path) -> None:
    one, other = pair(tmp_path, "int f(int x) { return x + 1; }\n", "1", "2")
    assert set(refused(one, replace(other, big_endian=True))) == {"different-units"}


def test_module_information(tmp_path: Path) -> None:
    text = (
        'static const char __attribute__((used, section(".modinfo"))) __UNIQUE_ID_license12[] = "GPL";\n'
        "int f(int x) { return x + 1; }\n"
    )
    assert set(refused(*pair(tmp_path, text, "GPL", "BSD"))) == {"changed-module-info"}
    # Another number alone is nothing.
    result = diff(*pair(tmp_path, text, "license12", "license99"))
    assert not isinstance(result, Verdicts) and not result.changed


def test_functions_that_share_their_code(tmp_path: Path) -> None:
    text = (
        'int other(int);\nint f(int x) { return other(x) + 1; }\nint g(int x) __attribute__((alias("f")));\n'
    )
    own = "int g(int x) { return other(x) + 2; }\n"
    one, other = pair(tmp_path, text, 'int g(int x) __attribute__((alias("f")));\n', own)
    assert set(refused(one, other)) == {"folded-function"}
    assert set(refused(other, one)) == {"folded-function"}


def test_short_branch_between_functions(tmp_path: Path) -> None:
    text = (
        "int other(int);\n"
        '__attribute__((section(".sched.text"), noinline)) static int in(int x) { return other(x) * 3; }\n'
        '__attribute__((section(".sched.text"))) int f(int x) { other(1); return in(x); }\n'
    )
    assert "short-branch" in refused(*pair(tmp_path, text, "other(1)", "other(2)"))


def test_unnamed_writable_memory(tmp_path: Path) -> None:
    text = (
        'asm(".pushsection .data.hidden, \\"aw\\"\\n.quad 5\\n.Lhidden: .quad 6\\n.popsection");\n'
        'long f(void) { long v; asm("mov .Lhidden(%%rip), %0" : "=r" (v)); return v + 1; }\n'
    )
    assert set(refused(*pair(tmp_path, text, "v + 1", "v + 2"))) == {"unnamed-target"}


def test_code_that_cannot_be_decoded(tmp_path: Path) -> None:
    text = 'int other(int);\nint f(int x) { asm volatile(".byte 0x06"); return other(x) + 1; }\n'
    assert set(refused(*pair(tmp_path, text, "+ 1", "+ 2"))) == {"undecoded-code"}


def test_an_entry_about_two_functions(tmp_path: Path) -> None:
    table = '".pushsection __ex_table, \\"a\\"\\n.long 1b - ., g + 3 - ., 3\\n.popsection"'
    text = (
        "int other(int);\nint g(int x) { return other(x) + 5; }\n"
        f'int f(int x) {{ asm volatile("1: nop\\n" {table}); return other(x) + 1; }}\n'
    )
    assert set(refused(*pair(tmp_path, text, "+ 1", "+ 2"))) == {"table-entry"}


def test_two_local_functions_of_one_name(tmp_path: Path) -> None:
    text = "int other(int);\nint f(int x) { return other(x) + 1; }\nint g(int x) { return other(x) * 7; }\n"
    one, two = pair(tmp_path, text, "+ 1", "+ 2")
    three = compiled(tmp_path, "third", text.replace("+ 1", "+ 2").replace("* 7", "* 9"))

    def same_name(obj: ObjectFile) -> ObjectFile:
        symbols = [
            replace(s, name="f", bind=elf.STB_LOCAL) if s.type == elf.STT_FUNC else s for s in obj.symbols
        ]
        return replace(obj, symbols=tuple(symbols))

    assert "ambiguous-symbol" in refused(same_name(one), same_name(three))
    # One of them is the same as before, so the other must be the one that changed.
    result = diff(same_name(one), same_name(two))
    assert not isinstance(result, Verdicts) and len(result.functions) == 1


def test_version_of_an_export(tmp_path: Path) -> None:
    one, _ = pair(tmp_path, "int f(int x) { return x + 1; }\n", "1", "2")

    def with_crc(value: int) -> ObjectFile:
        last = one.symbols[-1]
        crc = replace(last, index=len(one.symbols), name="__crc_f", value=value, section=-15, size=0)
        return replace(one, symbols=(*one.symbols, crc))

    assert set(refused(with_crc(0x1234), with_crc(0x1235))) == {"changed-export"}


@pytest.mark.parametrize(
    "path",
    [
        "arch/x86/entry/vdso/vclock_gettime.o",
        "arch/x86/entry/vdso/vdso32/vclock_gettime.o",
        "/b/arch/x86/realmode/rm/video.o",
        "arch/x86/boot/compressed/misc.o",
        "drivers/firmware/efi/libstub/x86-stub.o",
        "arch/arm64/kvm/hyp/nvhe/switch.nvhe.o",
    ],
)
def test_files_that_are_no_part_of_the_kernel(path: str, tmp_path: Path) -> None:
    text = "int other(int);\nint f(int x) { return other(x) + 1; }\n"
    traced = pair(tmp_path, text, "+ 1", "+ 2")
    plain = pair(tmp_path, "#define f __attribute__((no_instrument_function)) f\n" + text, "+ 1", "+ 2")
    assert "never-patched" in refused(*(replace(obj, path=path) for obj in plain))
    # arch/x86/entry/vdso/vma.c is in such a folder, and kernel code.
    assert not isinstance(diff(*(replace(obj, path=path) for obj in traced)), Verdicts)
    # Without a telling name it is refused as well, for another reason.
    assert set(refused(*plain)) == {"no-fentry"}


def test_functions_of_the_vdso_by_name(tmp_path: Path) -> None:
    text = (
        "int other(int);\n__attribute__((no_instrument_function)) int __vdso_time(int x) { return x + 1; }\n"
    )
    assert "never-patched" in refused(*pair(tmp_path, text, "+ 1", "+ 2"))


def test_members_of_libraries(tmp_path: Path) -> None:
    objects = pair(tmp_path, "int f(int x) { return x + 1; }\n", "+ 1", "+ 2")
    result = diff(*objects, Options(archive="lib/lib.a"))
    assert isinstance(result, Verdicts)
    assert [verdict.rule.name for verdict in result.verdicts] == ["never-patched"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("f", "notrace, or inline"), ("__do_sys_f", "SYSCALL_DEFINE"), ("__x64_sys_f", "SYSCALL_DEFINE")],
)
def test_why_there_is_no_call_for_ftrace(name: str, reason: str, tmp_path: Path) -> None:
    text = (
        "int other(int);\n__attribute__((no_instrument_function)) "
        f"int {name}(int x) {{ return other(x) + 1; }}\n"
        "int g(int x) { return other(x) * 7; }\n"
    )
    assert reason in refused(*pair(tmp_path, text, "+ 1", "+ 2"))["no-fentry"].cause


def test_a_file_without_ftrace(tmp_path: Path) -> None:
    text = "__attribute__((no_instrument_function)) int f(int x) { return x + 1; }\n"
    assert (
        "the file is compiled without ftrace"
        in refused(*pair(tmp_path, text, "+ 1", "+ 2"))["no-fentry"].cause
    )


def test_a_symbol_that_the_kernel_does_not_have(tmp_path: Path) -> None:
    text = "int other(int);\nint another(int);\nint f(int x) { return other(x) + 1; }\n"
    objects = pair(tmp_path, text, "other(x)", "another(x)")
    result = diff(*objects, Options(known={"other", "f"}))
    assert isinstance(result, Verdicts)
    assert [verdict.rule.name for verdict in result.verdicts] == ["unresolved-symbol"]
    assert not isinstance(diff(*objects, Options(known={"another"})), Verdicts)
    weak = text.replace("int another", "__attribute__((weak)) int another")
    assert not isinstance(
        diff(*pair(tmp_path, weak, "other(x)", "another(x)"), Options(known=set())), Verdicts
    )


def test_a_name_that_means_two_things(tmp_path: Path) -> None:
    text = (
        "int other(int);\n__attribute__((noinline)) static int g(int x) { return other(x) * 7; }\n"
        "int f(int x) { return g(x) + g(x + 1); }\nint h(int x) { return g(x) + other(x); }\n"
    )
    one, two = pair(tmp_path, text, "g(x + 1)", "g(x + 2)")
    assert not isinstance(diff(one, two), Verdicts)

    def renamed(obj: ObjectFile) -> ObjectFile:
        symbols = [replace(s, name="g", bind=elf.STB_LOCAL) if s.name == "h" else s for s in obj.symbols]
        return replace(obj, symbols=tuple(symbols))

    assert set(refused(renamed(one), renamed(two))) == {"ambiguous-symbol"}
    foreign = text.replace(
        "__attribute__((noinline)) static int g(int x) { return other(x) * 7; }", "int g(int);"
    ).replace("g(x + 1)", "g(x + 2)")
    assert "ambiguous-symbol" in refused(one, compiled(tmp_path, "foreign", foreign))


def test_many_functions_that_cannot_be_redirected_take_no_longer_each() -> None:
    """Nothing is worked out anew for each of them."""

    def took(count: int) -> float:
        texts = [b"\x55\x90\xc3", b"\x53\x90\xc3"]
        one, other = (build(*(function(f"f{n}", text) for n in range(count))) for text in texts)
        start = time.perf_counter()
        assert set(refused(one, other)) == {"no-fentry"}
        return time.perf_counter() - start

    few, many = min(took(400) for _ in range(3)), took(4000)
    assert many < 40 * few


def test_relocations_that_compute_on_a_stack_are_one_verdict_a_function() -> None:
    def made(code: bytes) -> ObjectFile:
        program = [reloc(4, "g", 0, 29), reloc(4, "g", 0, 45), reloc(8, "g", 0, 29), reloc(8, "g", 0, 45)]
        text = function("f", code + bytes.fromhex("00000054" * 2 + "2000004c"), *program)
        return build(text, machine=elf.EM_LOONGARCH)

    one, other = made(bytes.fromhex("00004003")), made(bytes.fromhex("84048002"))
    found = refused(one, other)
    assert sorted(found) == ["no-fentry", "stack-relocations"]
    assert "binutils 2.40" in found["stack-relocations"].rule.remedy
    assert len(diff(one, other).verdicts) == 2  # type: ignore[union-attr]


BOOT = """
int section(".init.data") limit = 3;
int __init noinline start(int x) { use(0); return other(x) + limit; }
int section(".exit.text") noinline stop(int x) { use(0); return other(x) + 3; }
int f(int x) { return other(x) + 1; }
"""


@pytest.mark.parametrize("what", ["limit", "start(x)", "stop(x)"])
def test_code_of_boot_time_is_not_used_later(what: str, tmp_path: Path) -> None:
    before, after, used = (
        compile_text(COMPILERS[0], text, tmp_path / side / "unit.o")
        for side, text in (
            ("before", BOOT),
            ("after", BOOT.replace("x) + 1", f"x) + {what}")),
            ("used", BOOT.replace("x) + 1", f"x) * 2 + {what}")),
        )
    )
    result = diff(before, after)
    assert isinstance(result, Verdicts), result
    assert {verdict.rule.name for verdict in result.verdicts} == {"init-reference"}
    assert all(".text.f+0x" in str(verdict.place) for verdict in result.verdicts)
    # Who used it before knows when it may.
    assert isinstance(diff(after, used), Delta)
