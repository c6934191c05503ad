# SPDX-License-Identifier: GPL-2.0-or-later
"""Patched sources: hunks apply exactly or not at all, and unchanged lines keep their numbers.

The oracle for numbers is the preprocessor: texts carry `__LINE__` beside a mark, and gcc -E of the original
and of the patched text must agree about each mark that the patch leaves alone.
"""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbuild_py.errors import Problem
from kbuild_py.unit.patchfile import parse_patch
from kbuild_py.unit.source import PatchedSource, apply_patches, split

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def diff(old: str, new: str, context: int = 3) -> str:
    """A unified diff of two texts that end in a newline, or not."""

    def lines(text: str) -> list[str]:
        return [f"{line}\n" for line in text.split("\n")[:-1]] + (
            [text.split("\n")[-1]] * (text[-1:] != "\n")
        )

    out = ""
    for line in difflib.unified_diff(lines(old), lines(new), "a/f/f.c", "b/f/f.c", n=context):
        out += line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
    return out


def apply(old: str, *patches: str) -> tuple[tuple[PatchedSource, ...], tuple[Problem, ...]]:
    parts = [
        part
        for number, patch in enumerate(patches, 1)
        for part in parse_patch(Path(f"{number}.patch"), patch.encode())
    ]
    return apply_patches({"f/f.c": old}, parts)


def applied(old: str, *patches: str) -> PatchedSource:
    (source,), problems = apply(old, *patches)
    assert problems == ()
    return source


def refused(old: str, *patches: str) -> str:
    sources, problems = apply(old, *patches)
    assert sources == ()
    return "\n".join(str(problem) for problem in problems)


TEN = "".join(f"line {number};\n" for number in range(1, 11))


def test_replaced_line_for_line_needs_no_directive() -> None:
    new = TEN.replace("line 5;", "five;").replace("line 6;", "six;")
    source = applied(TEN, diff(TEN, new))
    assert source.text == source.plain == new
    assert source.place(5) == "1.patch:9"
    assert source.place(4) == "f/f.c:4"
    assert source.place(7) == "f/f.c:7"


def test_added_and_removed_lines_are_followed_by_a_directive() -> None:
    new = TEN.replace("line 3;\n", "line 3;\nnew;\n").replace("line 8;\n", "")
    source = applied(TEN, diff(TEN, new))
    assert source.plain == new
    assert source.text == new.replace("new;\n", "new;\n#line 4\n").replace("line 9", "#line 9\nline 9")


def test_patches_apply_one_after_the_other() -> None:
    first = TEN.replace("line 5;\n", "line 5;\nnew;\n")
    second = first.replace("new;\n", "newer;\n").replace("line 9;\n", "")
    source = applied(TEN, diff(TEN, first), diff(first, second))
    assert source.plain == second
    assert source.place(6) == "2.patch:8"
    assert [line.original for line in source.lines] == [1, 2, 3, 4, 5, 0, 6, 7, 8, 10]


def test_a_moved_hunk_is_accepted_where_it_is_the_only_one() -> None:
    old = "a;\nb;\n" + TEN
    source = applied(old, diff(TEN, TEN.replace("line 5;", "five;")))
    assert source.plain == old.replace("line 5;", "five;")
    (note,) = source.notes
    assert (
        note == "1.patch:3: applied to f/f.c at line 4, not 2 as it says, the only place where its lines are"
    )


def test_a_moved_hunk_that_fits_twice_is_refused() -> None:
    old = "a;\n" + TEN + TEN
    text = refused(old, diff(TEN, TEN.replace("line 5;", "five;")))
    assert "1.patch:3: this hunk fits f/f.c at 2 places, none of them the line it names (2)" in text


def test_the_named_place_wins_over_others() -> None:
    old = TEN + TEN
    new = TEN + TEN.replace("line 5;", "five;")
    assert applied(old, diff(old, new)).plain == new


def test_no_fuzz() -> None:
    old = TEN.replace("line 3;", "line three;")
    text = refused(old, diff(TEN, TEN.replace("line 5;", "five;")))
    assert "1.patch:5: this hunk does not apply: the patch expects\n    line 3;\n  but f/f.c:3 has" in text
    assert "line three;" in text


def test_white_space_counts() -> None:
    text = refused(TEN.replace("line 3", "line  3"), diff(TEN, TEN.replace("5", "x")))
    assert "does not apply" in text
    assert "only white space differs" in text


def test_hunks_in_the_wrong_order() -> None:
    long = "".join(f"line {number};\n" for number in range(1, 101))
    head, first, second = re.split(
        r"^(?=@@)", diff(long, long.replace("e 9;", "x").replace("e 77;", "y")), flags=re.M
    )
    assert "belongs above or into the one before it" in refused(long, head + second + first)
    assert "belongs above or into the one before it" in refused(long, head + first + first)


def test_past_the_end() -> None:
    text = refused("line 1;\nline 2;\n", diff(TEN, TEN.replace("line 1;", "one;")))
    assert "f/f.c has only 2 lines" in text


def test_already_applied() -> None:
    new = TEN.replace("line 5;", "five;")
    assert "this hunk is already applied" in refused(new, diff(TEN, new))


def test_all_hunks_that_do_not_apply() -> None:
    long = "".join(f"line {number};\n" for number in range(1, 101))
    new = long.replace("line 10;", "x;").replace("line 50;", "y;").replace("line 90;", "z;")
    text = refused(long.replace("line 11;", "-;").replace("line 89;", "-;"), diff(long, new))
    assert text.count("does not apply") == 2


def test_patches_that_cancel_out() -> None:
    new = TEN.replace("line 5;", "five;")
    assert "change nothing in this file" in refused(TEN, diff(TEN, new), diff(new, TEN))


def test_a_missing_newline_at_the_end_counts() -> None:
    old = TEN[:-1]
    assert applied(old, diff(old, TEN)).plain == TEN
    assert applied(TEN, diff(TEN, old)).plain == old
    assert "no newline at end of file" in refused(TEN, diff(old, old.replace("line 10", "ten")))


# old lines, where a line is added (after which one), and where the directive stands then (before which one)
PLACES: tuple[tuple[str, str, int, int], ...] = (
    ("plain code", "a;\nb;\nc;", 1, 2),
    ("arguments", 'f("(",\n  b,\n  c);\nd;', 1, 4),
    ("a call's name alone on its line", "a;\nf\n(b);\nc;", 2, 4),
    ("a call that makes a call's name", "a;\nf(a)\n(b);\nc;", 2, 4),
    ("a name and the next line's name", "a;\nint\nf(b);\nc;", 2, 3),
    ("comment", "a; /*\n * (\n * */ b;\nc;", 1, 4),
    ("line comment that goes on", "a; // (\\\nb\nc;", 1, 3),
    ("macro", "#define A( \\\n  b \\\n  c\nd;", 1, 4),
    ("string with a comment's start", 'a("/*");\nb;\nc;', 1, 2),
    ("character", "a('(', '\\'');\nb;\nc;", 1, 2),
    ("prose in #if 0", "#if 0\ndon't (\n#endif\nb;\nc;", 4, 5),
    ("branches that agree", "#if X\nf(\n#else\ng(\n#endif\n  b);\nc;", 4, 7),
    ("branches that disagree", "#if X\nf(\n#endif\nb;\n}\nc;", 3, 5),
)


@pytest.mark.parametrize(
    ("old", "after", "before"), [place[1:] for place in PLACES], ids=[p[0] for p in PLACES]
)
def test_where_a_directive_stands(old: str, after: int, before: int) -> None:
    lines = [f"{line}\n" for line in old.split("\n")]
    added = "\\\n" if lines[after - 1].endswith("\\\n") else "\n"
    new = [*lines[:after], added, *lines[after:]]
    source = applied("".join(lines), diff("".join(lines), "".join(new)))
    new.insert(before, f"#line {before}\n")
    assert source.text == "".join(new)


def test_a_directive_in_a_branch_is_given_again_after_it() -> None:
    old = "a;\n#ifdef X\nb;\nc;\n#else\nd;\n#endif\ne;\n"
    source = applied(old, diff(old, old.replace("b;\n", "b;\nnew;\n")))
    assert source.text == ("a;\n#ifdef X\nb;\nnew;\n#line 4\nc;\n#else\n#line 6\nd;\n#endif\n#line 8\ne;\n")


LINES = st.lists(st.sampled_from(["a", "b", "c", "", "\tx", "d\r", "e\x0c"]), min_size=1, max_size=30)


@given(LINES, LINES, st.booleans(), st.booleans(), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_any_difference_applies_exactly(
    old: list[str], new: list[str], old_end: bool, new_end: bool, context: int
) -> None:
    one, two = "\n".join(old) + "\n" * old_end, "\n".join(new) + "\n" * new_end
    patch = diff(one, two, context)
    if one == two or not one or "@@ -0,0" in patch:
        return
    source = applied(one, patch)
    assert source.plain == two
    assert source.notes == ()


def test_split_is_whole() -> None:
    for text in ("", "a", "a\n", "\n", "a\n\nb", "a\r\nb\x0c\n"):
        assert "".join(line.text + "\n" * line.newline for line in split(text)) == text


# Line numbers, by the preprocessor.  A block is one or more lines that belong together; `@` becomes its mark;
# what may be put between its lines depends on what it is.
CODE, ARGUMENTS, COMMENT, MACRO = range(4)
BLOCKS: tuple[tuple[int, str], ...] = (
    (CODE, "one(@, __LINE__);"),
    (CODE, "if (x)\n\tone(@, __LINE__);"),
    (CODE, "else\n\tone(@, __LINE__);"),
    (CODE, "int\nf(void)\n{\n\tone(@, __LINE__);\n}"),
    (CODE, 's = "((" /* ( */ "\\"(";\none(@, __LINE__); // ('),
    (CODE, "c = '(';\none(@, __LINE__);"),
    (CODE, "one(@, __LINE__);\n#define STRAY ("),
    (ARGUMENTS, "CALL(0,\n     two,\n     three);\none(@, __LINE__);"),
    (ARGUMENTS, 'CALL("a)",\n     two(/* ) */ 1),\n     three)\n;one(@, __LINE__);'),
    (ARGUMENTS, "CALL\n(0,\n     two);\none(@, __LINE__);"),
    (COMMENT, "/* a\n * ( b\n */ one(@, __LINE__);"),
    (MACRO, "#define M(a) \\\n\tdo { (a \\\n\t); } while (0)\none(@, __LINE__);"),
    (MACRO, "// continued (\\\n more \\\n and more\none(@, __LINE__);"),
    (CODE, "#if 0\nDon't (\n#else\none(@, __LINE__);\n#endif\none(@, __LINE__);"),
    (CODE, "#ifdef NEVER\nif (a &&\n#else\nif (\n#endif\n    b)\n\tone(@, __LINE__);"),
    (CODE, "#ifdef NEVER\nf(\n#endif\n}\none(@, __LINE__);"),
)
ADDED = {
    CODE: ("added;", "/* added (\n */", "#define ADDED", "", "added(1,\n 2);", "#if 0\n(\n#endif"),
    ARGUMENTS: ("\tadded,", "\t(added,\n\t added),"),
    COMMENT: (" * added (", ""),
    MACRO: ("\tadded \\",),
}


def preprocessed(text: str) -> dict[str, list[str]]:
    """Mark -> the line numbers that gcc gives to it."""
    out = subprocess.run(
        ["gcc", "-E", "-P", "-w", "-"],
        input="#define CALL(...) call(__VA_ARGS__)\n#line 1\n" + text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: dict[str, list[str]] = {}
    for mark, line in re.findall(r"one\(mark_(\d+), (\d+)\)", out):
        found.setdefault(mark, []).append(line)
    return found


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, str, dict[str, range]]:
    """An original text, an edited one, and for each mark the lines of its block in the original."""
    old: list[str] = []
    new: list[str] = []
    blocks: dict[str, range] = {}
    for number, (kind, block) in enumerate(draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=12))):
        lines = block.replace("@", f"mark_{number}").split("\n")
        blocks[str(number)] = range(len(old) + 1, len(old) + len(lines) + 1)
        old += lines
        what = draw(st.sampled_from(("keep", "keep", "keep", "inside", "before", "delete")))
        if what == "delete":
            continue
        if what == "inside" and kind != CODE:
            at = 2 if block.startswith("CALL\n") else 1
            lines[at:at] = draw(st.sampled_from(ADDED[kind])).split("\n")
        elif what in ("inside", "before"):
            new += draw(st.sampled_from(ADDED[CODE])).split("\n")
        new += lines
    return "\n".join(old) + "\n", "\n".join(new) + "\n", blocks


@needs_gcc
@given(edits())
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
def test_unchanged_lines_keep_their_numbers(edit: tuple[str, str, dict[str, range]]) -> None:
    old, new, blocks = edit
    patch = diff(old, new)
    if not patch or "@@ -0,0" in patch or new == "\n":
        return
    source = applied(old, patch)
    assert source.plain == new
    before, after = preprocessed(old), preprocessed(source.text)
    originals = [line.original for line in source.lines]
    for mark, lines in blocks.items():
        # A block counts as unchanged when all its lines are, by the patch, with nothing between them.
        at = originals.index(lines[0]) if lines[0] in originals else 0
        if originals[at : at + len(lines)] == list(lines):
            assert after.get(mark) == before.get(mark), source.text
