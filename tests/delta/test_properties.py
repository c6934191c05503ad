# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold for every pair of objects, whatever is in them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Verdicts
from kbuild_py.elf import constants as elf
from kbuild_py.elf.check import check_object
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import parse_object
from kbuild_py.elf.write import write_object
from kbuild_py.errors import UserError
from tests.delta import transform
from tests.delta.checker import check
from tests.delta.compiling import CASES, compile_c, needs_gcc
from tests.delta.snippets import CLANG, COMPILERS, compile_file
from tests.delta.transform import damaged, with_changed_byte

pytestmark = needs_gcc

NAMES = sorted(folder.name for folder in CASES.iterdir() if folder.is_dir())
USABLE = [name for name in NAMES if name not in ("common", "thread-local", "marker-mistake")]


# A case and the compiler: "switch", "switch clang".
PAIRS = [f"{name}{' clang' if c == CLANG else ''}" for name in NAMES for c in COMPILERS]
USABLE_PAIRS = [pair for pair in PAIRS if pair.split()[0] in USABLE]
Objects = dict[str, tuple[ObjectFile, ObjectFile]]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """Both objects of every case."""
    folder = tmp_path_factory.mktemp("objects")

    def compiled(pair: str, side: str) -> ObjectFile:
        name, *with_clang = pair.split()
        compiler = COMPILERS[-1] if with_clang else COMPILERS[0]
        return compile_file(compiler, CASES / name / f"{side}.c", folder / pair / side / "unit.o")

    return {pair: (compiled(pair, "before"), compiled(pair, "after")) for pair in PAIRS}


def account(result: Delta | Verdicts) -> object:
    """What the diff found, as far as neither order nor numbers of the patched object go into it."""
    if isinstance(result, Verdicts):
        return sorted(verdict.rule.name for verdict in result.verdicts)
    functions = sorted((f.original_name, f.source_name, f.status.value) for f in result.functions)
    references = sorted((r.name, r.local, r.kind) for r in result.references)
    return functions, references, len(result.data)


@pytest.mark.parametrize("pair", USABLE_PAIRS)
def test_form_means_nothing(pair: str, objects: Objects) -> None:
    """Numbers in names, order, section symbols or named ones, binding, padding: the answer is the same."""
    before, after = objects[pair]
    expected = account(diff(before, after))
    for seed in range(4):
        for obj in (before, after):
            forms = {
                "renumbered": transform.renumbered(obj, seed),
                "shuffled": transform.shuffled(obj, seed),
                "without section symbols": transform.without_section_symbols(obj),
                "with section references": transform.with_section_references(obj),
                "without unused symbols": transform.without_unused_section_symbols(obj),
                "padded": transform.padded(obj, seed),
                "with plain branches": transform.with_plain_branches(obj),
            }
            if obj is before:  # a global one of the patched object may be used elsewhere, which matters
                forms["rebound"] = transform.rebound(obj, seed)
            for form, same in forms.items():
                check_object(same)
                if obj is before:
                    result = diff(before, same)
                    assert isinstance(result, Delta) and not result.changed, (form, seed, result)
                else:
                    assert account(diff(before, same)) == expected, (form, seed)


@pytest.mark.parametrize("pair", USABLE_PAIRS)
def test_what_is_written_is_right_whatever_the_form(pair: str, objects: Objects, tmp_path: Path) -> None:
    """The independent checker on the output of another form of the patched object."""
    before, after = objects[pair]
    for seed in range(2):
        for form in (transform.shuffled, transform.renumbered, transform.padded):
            patched = form(after, seed)
            result = diff(before, patched)
            if isinstance(result, Delta) and result.object is not None:
                (tmp_path / "patched.o").write_bytes(write_object(patched))
                (tmp_path / "output.o").write_bytes(write_object(result.object))
                moved = pair == "static-local-helper clang"  # f.calls is helper.calls in the patched object
                if not moved:
                    branches = pair.startswith("sched-text")
                    account = result.to_json()
                    check(tmp_path / "patched.o", tmp_path / "output.o", account, branches=branches)


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_changed_bit_of_a_function_is_found(data: st.DataObject, objects: Objects) -> None:
    # In the functions of these cases some constants are line numbers, which are no change.
    pairs = [pair for pair in USABLE_PAIRS if not pair.startswith(("line-argument", "line-numbers"))]
    before = objects[data.draw(st.sampled_from(pairs))][0]
    functions = [s for s in before.symbols if s.type == elf.STT_FUNC and s.section > 0]
    function = data.draw(st.sampled_from(functions))
    section = before.sections[function.section]
    fields = {r.offset + i for r in section.relocations for i in range(4)}
    places = [function.value + i for i in range(function.size) if function.value + i not in fields]
    place = data.draw(st.sampled_from(places))
    result = diff(before, with_changed_byte(before, section.index, place, data.draw(st.integers(0, 7))))
    if isinstance(result, Delta):
        found = {name for f in result.functions for name in (f.original_name, *f.aliases)}
        assert function.name in found
    else:
        assert result.verdicts


@settings(deadline=None, max_examples=600, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_objects_give_an_error_or_an_answer(data: st.DataObject, objects: Objects) -> None:
    before, after = objects[data.draw(st.sampled_from(PAIRS))]
    content = bytearray(write_object(after))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    for _ in range(data.draw(st.integers(0, 8))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    started = time.monotonic()
    try:
        result = diff(before, parse_object(bytes(content), "damaged.o"))
        if isinstance(result, Delta) and result.object is not None:
            parse_object(write_object(result.object), "output.o")
    except UserError as error:
        assert error.problems
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("pair", PAIRS)
def test_damaged_fields_give_an_error_or_an_answer(pair: str, objects: Objects) -> None:
    """Seeded damage that a reader lets through more often than changed bytes of a file."""
    before, after = objects[pair]
    for seed in range(60):
        for one, other in ((before, damaged(after, seed)), (damaged(before, seed), after)):
            try:
                check_object(one)
                check_object(other)
                result = diff(one, other)
                if isinstance(result, Delta) and result.object is not None:
                    parse_object(write_object(result.object), "output.o")
            except UserError as error:
                assert error.problems


@pytest.mark.parametrize("pair", USABLE_PAIRS)
def test_the_same_objects_give_the_same_bytes(pair: str, objects: Objects) -> None:
    before, after = objects[pair]
    first, second = diff(before, after), diff(before, after)
    assert first == second
    if isinstance(first, Delta) and isinstance(second, Delta) and first.object and second.object:
        assert write_object(first.object) == write_object(second.object)


def test_time_grows_with_the_size_and_not_faster(tmp_path: Path) -> None:
    """Eight times as many functions take about eight times as long (a scan per symbol: 64 times)."""

    def seconds(count: int) -> float:
        text = "int other(int);\nvoid _printk(const char *, ...);\n" + "".join(
            f"static int v{i};\nint f{i}(int x)\n{{\n\tstatic int s;\n\tv{i} += x; s++;\n"
            f'\t_printk("f{i} %d", s);\n\treturn other(v{i}) + {i};\n}}\n'
            for i in range(count)
        )
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "a.c").write_text(text)
        (folder / "b.c").write_text(text.replace("+ 7;", "+ 70;"))
        one = compile_c(folder / "a.c", folder / "a" / "a.o", "-O1")
        other = compile_c(folder / "b.c", folder / "b" / "b.o", "-O1")
        best = 1e9
        for _ in range(3):
            started = time.process_time()
            assert isinstance(result := diff(one, other), Delta) and len(result.functions) == 1
            best = min(best, time.process_time() - started)
        return best

    small, large = seconds(250), seconds(2000)
    assert large / small < 16, (small, large)
