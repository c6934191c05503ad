# SPDX-License-Identifier: GPL-2.0-or-later
"""`__LINE__` as an argument: on every processor, in every version's place, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.lines import TAKERS
from kbuild_py.delta.model import Verdicts
from tests.delta.processors import BY_NAME, CASES

PROCESSORS = ("x86_64-clang", "aarch64", "ppc64le", "s390x", "loongarch64-clang", "loongarch64-relax")
ARGUMENTS = (
    "struct x *a",
    "const char *b",
    "const char *c",
    "const char *d",
    "const char *e",
    "const char *g",
)


def changed(toolchain: str, folder: Path, text: str, lines: tuple[int, int]) -> bool:
    """Whether the text is another when it stands at another line."""
    chain = BY_NAME[toolchain]
    if not Path(chain.compiler[0]).exists():
        pytest.skip(f"{chain.compiler[0]} is not installed")
    objects = []
    for line in lines:
        content = f'#line {line} "unit.c"\n{text}'
        objects.append(chain.compile_text(content, CASES, folder / str(line) / "unit.o"))
    result = diff(*objects)
    assert not isinstance(result, Verdicts), result
    return result.changed


@pytest.mark.parametrize("lines", [(10, 20), (300, 1000), (5000, 5010), (9000, 9001)])
@pytest.mark.parametrize("toolchain", PROCESSORS)
def test_a_line_is_no_change(toolchain: str, lines: tuple[int, int], tmp_path: Path) -> None:
    text = """
void __might_sleep(const char *file, int line);
void lockdep_rcu_suspicious(const char *file, int line, const char *text);
int held(void);
int f(int x) { __might_sleep(__FILE__, __LINE__); return x; }
int g(int x) { if (!held()) lockdep_rcu_suspicious(__FILE__, __LINE__, "no"); return x; }
"""
    assert not changed(toolchain, tmp_path, text, lines)


@pytest.mark.parametrize("lines", [(10, 20), (5000, 5010)])
@pytest.mark.parametrize("toolchain", PROCESSORS)
def test_a_number_for_another_function_is_one(toolchain: str, lines: tuple[int, int], tmp_path: Path) -> None:
    text = "void takes(const char *file, int count);\nint f(int x) { takes(__FILE__, __LINE__); return x; }\n"
    assert changed(toolchain, tmp_path, text, lines)


@pytest.mark.parametrize(
    ("callee", "place"), [("gfs2_consist_i", 3), ("gfs2_consist_i", 4), ("assfail", 2), ("assfail", 3)]
)
def test_each_versions_place_is_known(callee: str, place: int, tmp_path: Path) -> None:
    before = ", ".join(ARGUMENTS[:place])
    values = ", ".join(["0"] + ["__func__"] * (place - 1))
    text = f"void {callee}({before}, int line);\nint f(int x) {{ {callee}({values}, __LINE__); return x; }}\n"
    assert not changed("x86_64-clang", tmp_path, text, (10, 20))


@pytest.mark.parametrize("place", [1, 3])
def test_the_error_beside_a_line_is_none(place: int, tmp_path: Path) -> None:
    """btrfs: (transaction, function, line, error) since 4.8."""
    before = ", ".join(ARGUMENTS[:place])
    values = ", ".join(["0"] * place)
    name = "__btrfs_abort_transaction"
    text = f"void {name}({before}, int line);\nint f(int x) {{ {name}({values}, __LINE__); return x; }}\n"
    assert changed("x86_64-clang", tmp_path, text, (10, 20))


def test_every_taker_has_a_place_and_a_source() -> None:
    assert all(
        positions and all(0 < one < 8 for one in positions) and where for positions, where in TAKERS.values()
    )
