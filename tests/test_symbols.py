# SPDX-License-Identifier: GPL-2.0-or-later
"""References: what patched code reaches, and by which relocation."""

from dataclasses import replace

import pytest

from kbuild_py.elf.object import SHN_UNDEF, ObjectFile
from kbuild_py.errors import UserError
from kbuild_py.kernel.symbols import KernelSymbols
from kbuild_py.symbols import Home, Unit, parse_symvers, resolve
from tests.elf.builder import build, function, reloc, section, symbol

SYMBOLS = KernelSymbols(
    """
0000000000000000 A __per_cpu_start
0000000000001000 A this_cpu_off
0000000000001040 A runqueues
0000000000002000 A __per_cpu_end
ffffffff81000000 T _text
ffffffff81001000 T _printk
ffffffff81002000 t helper
ffffffff81003000 t helper
ffffffff81004000 T hidden
ffffffff81005000 t show
ffffffff82000000 D jiffies
ffffffff82000100 b counter
""",
    "test",
)
EXPORTS = parse_symvers(
    "0x1\t_printk\tvmlinux\tEXPORT_SYMBOL\t\n"
    "0x2\tjiffies\tvmlinux\tEXPORT_SYMBOL\t\n"
    "0x3\tthis_cpu_off\tvmlinux\tEXPORT_SYMBOL\t\n"
    "0x4\thidden\tvmlinux\tEXPORT_SYMBOL_GPL\tPRIVATE\n",
    "Module.symvers",
)
CALL = b"\xe8\0\0\0\0"
LOAD_IMMEDIATE = b"\x48\xc7\xc0\0\0\0\0"  # mov $0, %rax
LOAD_ADDRESS = b"\x48\x8d\x05\0\0\0\0"  # lea 0(%rip), %rax


def unit(obj: ObjectFile, *, locals_: set[str] = frozenset(), addresses: dict[str, int] | None = None,
         changed: tuple[str, ...] = (), source: str = "fs/a.c") -> Unit:  # fmt: skip
    return Unit(source, obj, frozenset(locals_), addresses or {}, changed)


def targets(obj: ObjectFile, name: str) -> list[tuple[str, int]]:
    """(symbol, addend) of each relocation of the section called `name`."""
    found = next(part for part in obj.sections if part.name == name)
    return [(obj.symbols[item.symbol].name, item.addend) for item in found.relocations]


def test_exported_symbol_stays_as_it_is() -> None:
    obj = build(function("f", CALL, reloc(1, "_printk", -4, "PLT32")))
    (bound,), references = resolve([unit(obj)], EXPORTS, SYMBOLS)
    assert targets(bound.object, ".text.f") == [("_printk", -4)]
    assert references == ()


def test_global_symbol_without_export_is_anchor_plus_distance() -> None:
    obj = build(function("f", CALL, reloc(1, "hidden", -4, "PLT32")))
    (bound,), (reference,) = resolve([unit(obj)], EXPORTS, SYMBOLS)
    assert targets(bound.object, ".text.f") == [("_printk", 0x3000 - 4)]
    assert (reference.name, reference.sympos, reference.distance) == ("hidden", 1, 0x3000)
    assert [symbol.name for symbol in bound.object.symbols[1:] if symbol.section == SHN_UNDEF] == ["_printk"]


def test_percpu_symbol_has_a_percpu_anchor() -> None:
    obj = build(function("f", b"\0" * 8, reloc(0, "runqueues", 8, "32S")))
    (bound,), _ = resolve([unit(obj)], EXPORTS, SYMBOLS)
    assert targets(bound.object, ".text.f") == [("this_cpu_off", 0x48)]


def test_static_name_that_occurs_twice_is_the_one_the_proof_found() -> None:
    obj = build(function("f", CALL, reloc(1, "helper", -4, "PLT32")))
    one = unit(obj, locals_={"helper"}, addresses={"helper": 0xFFFFFFFF81003000})
    (bound,), (reference,) = resolve([one], EXPORTS, SYMBOLS)
    assert targets(bound.object, ".text.f") == [("_printk", 0x2000 - 4)]
    assert reference.sympos == 2


def test_static_name_that_occurs_twice_without_proof_is_refused() -> None:
    obj = build(function("f", CALL, reloc(1, "helper", -4, "PLT32")))
    with pytest.raises(UserError, match="'helper', which names 2 symbols"):
        resolve([unit(obj, locals_={"helper"})], EXPORTS, SYMBOLS)


def test_static_symbol_with_the_name_of_an_export_is_not_the_export() -> None:
    obj = build(function("f", CALL, reloc(1, "jiffies", 0, "32S")))
    one = unit(obj, locals_={"jiffies"}, addresses={"jiffies": 0xFFFFFFFF82000100})
    (bound,), _ = resolve([one], EXPORTS, SYMBOLS)
    assert targets(bound.object, ".text.f") == [("_printk", 0xFFF100)]


def test_all_missing_symbols_come_at_once() -> None:
    obj = build(function("f", CALL * 2, reloc(1, "gone", -4, "PLT32"), reloc(6, "lost", -4, "PLT32")))
    with pytest.raises(UserError) as caught:
        resolve([unit(obj)], EXPORTS, SYMBOLS)
    assert [problem.cause.split("'")[1] for problem in caught.value.problems] == ["gone", "lost"]


def test_symbol_of_init_memory_is_refused() -> None:
    obj = build(function("f", CALL, reloc(1, "hidden", -4, "PLT32")))
    with pytest.raises(UserError, match="frees after boot"):
        resolve([unit(obj)], EXPORTS, SYMBOLS, (0xFFFFFFFF81004000, 0xFFFFFFFF81005000))


def test_stored_pointer_to_a_changed_function_is_the_old_function_and_a_call_is_the_new() -> None:
    obj = build(
        function("show", b"\xc3", bind="local"),
        function("f", CALL + LOAD_IMMEDIATE + LOAD_ADDRESS + CALL, reloc(1, "show", -4, "PLT32"),
                 reloc(8, "show", 0, "32S"), reloc(15, "show", -4, "PC32"), reloc(20, "show", -4, "PC32")),
        section(".data.ops", b"\0" * 8, reloc(0, "show", 0, "64")),
        section("__mcount_loc", b"\0" * 8, reloc(0, "show", 0, "64")),
    )  # fmt: skip
    one = unit(obj, addresses={"show": 0xFFFFFFFF81005000}, changed=("show",))
    (bound,), _ = resolve([one], EXPORTS, SYMBOLS)
    old = ("_printk", 0x4000)
    assert targets(bound.object, ".text.f") == [("show", -4), old, (old[0], old[1] - 4), ("show", -4)]
    assert targets(bound.object, ".data.ops") == [old]
    assert targets(bound.object, "__mcount_loc") == [("show", 0)]


def test_new_function_of_another_file_is_linked_to() -> None:
    caller = build(function("f", CALL, reloc(1, "fresh", -4, "PLT32")))
    definer = build(function("fresh", b"\xc3"))
    (bound, _), references = resolve([unit(caller), unit(definer, source="fs/b.c")], EXPORTS, SYMBOLS)
    assert targets(bound.object, ".text.f") == [("fresh", -4)]
    assert references == ()


def test_changed_function_of_another_file_is_reached_through_the_old_one() -> None:
    caller = build(function("f", CALL, reloc(1, "hidden", -4, "PLT32")))
    definer = build(function("hidden", b"\xc3"))
    known = {"hidden": 0xFFFFFFFF81004000}
    other = unit(definer, source="fs/b.c", addresses=known, changed=("hidden",))
    (bound, published), _ = resolve([unit(caller), other], EXPORTS, SYMBOLS)
    assert targets(bound.object, ".text.f") == [("_printk", 0x3000 - 4)]
    assert published.new_names == {"hidden": "hidden"}


def test_two_static_functions_of_one_name_get_two_names() -> None:
    units = [
        unit(build(function("show", b"\xc3", bind="local")), source=source, changed=("show",),
             addresses={"show": 0xFFFFFFFF81005000})
        for source in ("fs/a.c", "fs/b.c")
    ]  # fmt: skip
    bound, _ = resolve(units, EXPORTS, SYMBOLS)
    assert [item.new_names["show"] for item in bound] == ["show.fs_a_c", "show.fs_b_c"]


def test_a_function_that_is_called_like_something_of_patch_c() -> None:
    """It gets another name, for the assembler would take patch.c's."""
    for name in ("patch", "objects", "funcs_1", "code_1_2"):
        obj = build(function(name, b"\xc3", bind="local"))
        known = {name: 0xFFFFFFFF81005000}
        (bound,), _ = resolve([unit(obj, changed=(name,), addresses=known)], EXPORTS, SYMBOLS)
        assert bound.new_names == {name: f"{name}.fs_a_c"}
        assert f"{name}.fs_a_c" in {symbol.name for symbol in bound.object.symbols}


def test_hooks_can_be_named_by_the_patch_module() -> None:
    """A static one becomes global, under another name where another file uses its name; a global one, which
    other files may call, keeps its name."""
    first = replace(unit(build(function("go", b"\xc3", bind="local"))), hooks=("go",))
    caller = build(function("f", CALL, reloc(1, "go", -4, "PLT32")))
    second = replace(unit(build(function("go", b"\xc3")), source="hooks.c"), hooks=("go",))
    (only,), _ = resolve([first], EXPORTS, SYMBOLS)
    assert only.new_names == {"go": "go"}
    assert [symbol.bind for symbol in only.object.symbols if symbol.name == "go"] == [1]
    bound, references = resolve([first, unit(caller, source="fs/b.c"), second], EXPORTS, SYMBOLS)
    assert [item.new_names for item in bound] == [{"go": "go.fs_a_c"}, {}, {"go": "go"}]
    assert targets(bound[1].object, ".text.f") == [("go", -4)]
    assert references == ()


def test_anchor_is_never_a_symbol_that_the_patch_defines() -> None:
    exports = parse_symvers("0x1\t_printk\tvmlinux\tE\t\n0x2\t_text\tvmlinux\tE\t\n", "x")
    obj = build(function("_printk", CALL, reloc(1, "hidden", -4, "PLT32")))
    one = unit(obj, addresses={"_printk": 0xFFFFFFFF81001000}, changed=("_printk",))
    (bound,), _ = resolve([one], exports, SYMBOLS)
    assert targets(bound.object, ".text._printk") == [("_text", 0x4000 - 4)]


def test_unused_undefined_symbols_are_dropped() -> None:
    obj = build(function("f", b"\xc3"), symbols=[symbol("nobody")])
    (bound,), _ = resolve([unit(obj)], EXPORTS, SYMBOLS)
    assert all(item.section != SHN_UNDEF for item in bound.object.symbols[1:])


# --- modules --------------------------------------------------------------------------------------------

MODULE = KernelSymbols(
    """
ffffffffc0000000 T jiffies
ffffffffc0000010 T reset
ffffffffc0000020 t own
""",
    "module",
)


def in_module(obj: ObjectFile, *, locals_: set[str] = frozenset()) -> Unit:  # type: ignore[assignment]
    home = Home("m", MODULE, range(0xFFFFFFFFC0000000, 0xFFFFFFFFC0001000), (0, 0), frozenset())
    return replace(unit(obj, locals_=locals_, source="m/a.c"), home=home)


def test_a_modules_own_global_is_meant_before_an_export_of_its_name() -> None:
    obj = build(function("f", CALL, reloc(1, "jiffies", -4, "PLT32")))
    (bound,), (reference,) = resolve([in_module(obj)], EXPORTS, SYMBOLS)
    assert targets(bound.object, ".text.f") == [(".klp.sym.m.jiffies,1", -4)]
    assert (reference.object, reference.sympos) == ("m", 1)


def test_a_modules_static_symbol_is_never_taken_from_vmlinux() -> None:
    obj = build(function("f", CALL, reloc(1, "counter", -4, "PLT32")))
    with pytest.raises(UserError, match=r"refers to 'counter'"):
        resolve([in_module(obj, locals_={"counter"})], EXPORTS, SYMBOLS)


def test_what_the_patch_defines_is_no_other_modules() -> None:
    other = unit(build(function("reset", CALL, reloc(1, "_printk", -4, "PLT32"))), source="fs/a.c")
    obj = build(function("f", CALL, reloc(1, "reset", -4, "PLT32")))
    with pytest.raises(UserError, match=r"fs/a.c: defines 'reset', and the module m has a global"):
        resolve([in_module(obj), other], EXPORTS, SYMBOLS)
