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
from tests.delta.compiling import CASES, compile_c, compile_case, needs_gcc
from tests.delta.transform import damaged, renumbered, shuffled, with_changed_byte, without_section_symbols

pytestmark = needs_gcc

NAMES = sorted(folder.name for folder in CASES.iterdir() if folder.is_dir())
USABLE = [name for name in NAMES if name not in ("common", "thread-local", "marker-mistake")]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ObjectFile, ObjectFile]]:
    """Both objects of every case."""
    folder = tmp_path_factory.mktemp("objects")
    return {name: compile_case(name, folder / name) for name in NAMES}


def account(result: Delta | Verdicts) -> object:
    """What the diff found, as far as neither order nor numbers of the patched object go into it."""
    if isinstance(result, Verdicts):
        return sorted(verdict.rule.name for verdict in result.verdicts)
    functions = sorted((f.original_name, f.source_name, f.status.value) for f in result.functions)
    references = sorted((r.name, r.local, r.kind) for r in result.references)
    return functions, references, len(result.data)


@pytest.mark.parametrize("name", USABLE)
def test_numbers_and_order_mean_nothing(name: str, objects: dict[str, tuple[ObjectFile, ObjectFile]]) -> None:
    before, after = objects[name]
    for seed in range(5):
        for same in (renumbered(before, seed), shuffled(before, seed), without_section_symbols(before)):
            result = diff(before, same)
            assert isinstance(result, Delta) and not result.changed, (seed, result)
        expected = account(diff(before, after))
        for other in (renumbered(after, seed), shuffled(after, seed), without_section_symbols(after)):
            assert account(diff(before, other)) == expected, seed


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_changed_bit_of_a_function_is_found(
    data: st.DataObject, objects: dict[str, tuple[ObjectFile, ObjectFile]]
) -> None:
    before = objects[data.draw(st.sampled_from(USABLE))][0]
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
def test_damaged_objects_give_an_error_or_an_answer(
    data: st.DataObject, objects: dict[str, tuple[ObjectFile, ObjectFile]]
) -> None:
    before, after = objects[data.draw(st.sampled_from(NAMES))]
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


@pytest.mark.parametrize("name", NAMES)
def test_damaged_fields_give_an_error_or_an_answer(
    name: str, objects: dict[str, tuple[ObjectFile, ObjectFile]]
) -> None:
    """Seeded damage that a reader lets through more often than changed bytes of a file."""
    before, after = objects[name]
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


@pytest.mark.parametrize("name", USABLE)
def test_the_same_objects_give_the_same_bytes(
    name: str, objects: dict[str, tuple[ObjectFile, ObjectFile]]
) -> None:
    before, after = objects[name]
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
