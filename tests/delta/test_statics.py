# SPDX-License-Identifier: GPL-2.0-or-later
"""Static locals: which one of the patched object is which of the original, as gcc and clang name them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kbuild_py.delta import names
from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Verdicts
from kbuild_py.elf.read import read_object
from kbuild_py.elf.write import write_object
from kbuild_py.run import run
from tests.delta.checker import check
from tests.delta.compiling import CASES, FLAGS
from tests.delta.snippets import COMPILERS, compile_text


@dataclass(frozen=True, slots=True)
class Move:
    """A change, and how many static locals stay the kernel's and how many are new; or the rule against it.

    moved: what clang calls the variable before and after
    """

    name: str
    before: str
    after: str
    kept: int = 0
    new: int = 0
    rule: str = ""
    moved: tuple[str, ...] = ()


KEY = "{ static struct static_key key; if (static_branch(&key)) return other(x %s); return x; } "
TWINS = (
    "int f(int x) { if (x) { static int n; return n += x; } else { static int n; return n -= other(x); } } "
    "int g(int x) { return other(x) * 3; }"
)
MAP = "{ static const int map[] = { %s, 7, 9, 4, 5 }; x += map[x & 3]; } "
MOVES = (
    Move(
        "constants of one name, which content tells apart",
        f"int f(int x) {{ {MAP % 1} {MAP % 2} return other(x); }}",
        f"int f(int x) {{ {MAP % 3} {MAP % 1} {MAP % 2} {MAP % 4} return other(x); }}",
        kept=2,
        new=2,
    ),
    Move(
        "one of the same name in another function, which nothing connects with the first",
        "int f(int x) { static int n; n += x; return other(n); } int g(int x) { return other(x); }",
        "int f(int x) { return other(x); } int g(int x) { static int n; n += 2 * x; return other(n); }",
        rule="static-local-lost",
    ),
    Move("twins, and another function changes", TWINS, TWINS.replace("* 3", "* 5")),
    Move("twins of a changed function", TWINS, TWINS.replace("n += x", "n += x * 3"), kept=2),
    Move(
        "a third one before the second",
        "int f(int x) { if (x) { static int n; return n += x; } return other(x); }",
        "int f(int x) { if (x == 7) { static int n; use(&n); } if (x) { static int n; return n += x; } "
        "return other(x); }",
        rule="ambiguous-symbol",
    ),
    Move(
        "an inlined function is called now",
        "static int bump(int x) { static int n; n += x; return other(n); } "
        "int f(int x) { return bump(x) + 1; } int g(int x) { return other(x); }",
        "static noinline int bump(int x) { static int n; n += x; return other(n); } "
        "int f(int x) { return bump(x) + 1; } int g(int x) { return other(x) + bump(x) + bump(3); }",
        kept=1,
    ),
    Move(
        "a called function is inlined now",
        "static noinline int bump(int x) { static int n; n += x; return other(n); } "
        "int f(int x) { return bump(x) + 1; } int g(int x) { return other(x) + bump(x) + bump(3); }",
        "static int bump(int x) { static int n; n += x; return other(n); } "
        "int f(int x) { return bump(x) + 1; } int g(int x) { return other(x); }",
        kept=1,
    ),
    Move(
        "code moves to a helper of a helper",
        "int f(int x) { static int n; n += x; return other(n) + 1; }",
        "static noinline int h2(int x) { static int n; n += x; return other(n); } "
        "static noinline int h1(int x) { return h2(x) * 2 + h2(7); } int f(int x) { return h1(x) + 1; }",
        kept=1,
        moved=("f.n", "h2.n"),
    ),
    Move(
        "a function gets another name",
        "static noinline int cb(int x) { static int n; n += x; return other(n); } "
        "int f(int x) { return cb(x) + cb(3); }",
        "static noinline int cb2(int x) { static int n; n += x * 3; return other(n); } "
        "int f(int x) { return cb2(x) + cb2(3); }",
        kept=1,
        moved=("cb.n", "cb2.n"),
    ),
    Move(
        "static keys, which only the jump table refers to",
        f"int f(int x) {KEY % '+ 2'} int g(int x) {KEY % '+ 1'}",
        f"int g0(int x) {KEY % '+ 1'} int f(int x) {KEY % '* 3'} int g(int x) {KEY % '+ 1'}",
        kept=1,
        new=1,
    ),
    Move(
        "a new one in front of two",
        "int a(int x) { return x; } int f(int x) { static int n; n += x; return other(n) + 1; } "
        "int g(int x) { static int n = 4; n += x; return other(n) + 2; }",
        "int a(int x) { static int n; n += x; return other(n); } "
        "int f(int x) { static int n; n += x; return other(n) + 3; } "
        "int g(int x) { static int n = 4; n += x; return other(n) + 4; }",
        kept=2,
        new=1,
    ),
    Move(
        "a pointer to one in another",
        "int *f(int x) { static int n; static int *p = &n; *p += x; return p; }",
        "int *f(int x) { static int n; static int *p = &n; *p += x * 3; return p; }",
        kept=1,
    ),
    Move(
        "another size",
        "int f(int x) { static int n; n += x; return other(n); }",
        "int f(int x) { static long n; n += x; return other(n); }",
        rule="changed-size",
    ),
    Move(
        "not used any more",
        "int f(int x) { static int n; n += x; return other(n); }",
        "int f(int x) { return other(x); }",
        rule="static-local-lost",
    ),
    Move(
        "special ones start anew",
        "int f(int x) { static int __key, __warned, _rs; if (x && !__warned) { __warned = 1; use(&_rs); } "
        "use(&__key); return other(x) + 1; }",
        "int f(int x) { static int __key, __warned, _rs; if (x && !__warned) { __warned = 1; use(&_rs); } "
        "use(&__key); return other(x) + 3; }",
        new=3,
    ),
)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("move", MOVES, ids=lambda move: str(move.name))
def test_static_locals(move: Move, compiler: str, tmp_path: Path) -> None:
    before = compile_text(compiler, move.before, tmp_path / "before" / "unit.o")
    after = compile_text(compiler, move.after, tmp_path / "after" / "unit.o")
    result = diff(before, after)
    if move.rule:
        assert isinstance(result, Verdicts), result
        assert {verdict.rule.name for verdict in result.verdicts} == {move.rule}
        return
    assert isinstance(result, Delta), result
    original = {symbol.name for symbol in before.symbols}
    kept = {r.name for r in result.references if r.local and r.kind == "object"}
    assert len(kept) == move.kept and kept <= original
    assert len(result.data) == move.new, result.data
    assert result.object is not None
    output = tmp_path / "output.o"
    output.write_bytes(write_object(result.object))
    account = result.to_json()
    if move.moved:  # clang's name tells in which function it was
        account["data"].append(dict(zip(("name", "patched_name"), move.moved, strict=True)))
    check(tmp_path / "after" / "unit.o", output, account)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_numbers_of_twins_mean_nothing_where_code_tells_more(compiler: str, tmp_path: Path) -> None:
    """The compiler numbers them the other way round, and f is the same: so is each variable."""
    before = compile_text(compiler, TWINS, tmp_path / "unit.o")
    one, other = sorted(s.name for s in before.symbols if names.static_local_base(s.name) == "n")
    exchanged = {one: other, other: one}
    after = replace(
        before, symbols=tuple(replace(s, name=exchanged.get(s.name, s.name)) for s in before.symbols)
    )
    result = diff(before, after)
    assert isinstance(result, Delta) and not result.changed, result


def test_files_linked_together_may_share_names(tmp_path: Path) -> None:
    """Static functions and variables of the same names in two files, which are linked in another order."""
    source = (
        "static int n; static noinline int probe(int x) {{ n += x; return other(n); }} "
        "int f{0}(int x) {{ return probe(x) + n; }}"
    )
    parts = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.c").write_text('#include "kernel.h"\n' + source.format(name))
        run([COMPILERS[0], *FLAGS, f"-I{CASES}", "-c", "-o", f"{name}.o", f"{name}.c"], cwd=folder)
        parts.append(folder / f"{name}.o")
    run(["ld", "-r", "-o", tmp_path / "ab.o", *parts])
    run(["ld", "-r", "-o", tmp_path / "ba.o", *reversed(parts)])
    result = diff(read_object(tmp_path / "ab.o"), read_object(tmp_path / "ba.o"))
    assert isinstance(result, Delta) and not result.changed, result


def test_a_variable_that_nothing_writes_any_more_is_pointed_out(tmp_path: Path) -> None:
    """The compiler reads no variable then, but the kernel's may have another value by now."""
    source = "static int n; void f(int x) { n += x; } int g(int x) { return other(x + n); }"
    before = compile_text(COMPILERS[0], source, tmp_path / "before" / "unit.o")
    after = compile_text(COMPILERS[0], source.replace("n += x", ""), tmp_path / "after" / "unit.o")
    result = diff(before, after)
    assert isinstance(result, Delta) and {function.name for function in result.functions} == {"f", "g"}
    assert any(note.startswith("n: is in the original only") and "initial" in note for note in result.notes)
