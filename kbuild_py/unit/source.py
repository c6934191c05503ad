# SPDX-License-Identifier: GPL-2.0-or-later
"""Patched sources, in which every unchanged line keeps its line number.

Applying.  A hunk's old lines must be in the file, all of them and unchanged: a fuzzy match that was wrong
would end in a running kernel.  Where they are at the line the hunk names (moved by what earlier hunks added),
that is the place.  Otherwise one single other place is accepted with a note, and several are refused.

Line numbers.  `__LINE__` is compiled in (WARN, BUG, lockdep classes, __LINE__-made names), so one added line
would change every function below it that has a WARN.  After a hunk that changes the number of lines, a
`#line N` directive sets the count right again.  Only the number is given, so that `__FILE__` stays.

Where a directive may stand.  Not inside a comment, not after a line that ends in a backslash, and not between
the parentheses of what may be a macro call, where the C standard leaves directives undefined (6.10.3p11).
Which names are macros is not known here, so every open parenthesis counts.  `_Lexer` keeps that state; the
directive waits for the first safe line, and the few lines until then (the rest of one statement, which the
patch changes anyway) count on.  A directive in a branch of an #if may be skipped together with the branch, so
it is given again after the branch.

Added lines count on from the line before them, so a change that replaces lines one for one needs no directive
at all, and a WARN in new code names a line close to where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kbuild_py.errors import Problem, Problems
from kbuild_py.unit.patchfile import FilePatch, Hunk, HunkLine, shown


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One line of a source.

    text:     without its line end
    newline:  False for a last line that has no line end
    original: its number in the kernel's source, 0 for a line that a patch adds
    place:    `patch file:line` for an added line, else empty
    """

    text: str
    newline: bool
    original: int
    place: str = ""


@dataclass(frozen=True, slots=True)
class PatchedSource:
    """A source file before and after the patches.

    path:     in the tree, for example fs/proc/meminfo.c
    original: the kernel's text
    text:     the patched text with the `#line` directives
    lines:    the patched lines, without directives
    notes:    hunks that were applied at another line than they name
    """

    path: str
    original: str
    text: str
    lines: tuple[SourceLine, ...]
    notes: tuple[str, ...]

    @property
    def plain(self) -> str:
        """The patched text without directives."""
        return "".join(line.text + "\n" * line.newline for line in self.lines)

    def place(self, number: int) -> str:
        """Where line `number` of `plain` comes from: a line of a patch file or of the kernel's source."""
        if not 1 <= number <= len(self.lines):
            return self.path
        line = self.lines[number - 1]
        return line.place or f"{self.path}:{line.original}"


def apply_patches(
    sources: Mapping[str, str], parts: Sequence[FilePatch]
) -> tuple[tuple[PatchedSource, ...], tuple[Problem, ...]]:
    """Apply all parts, in order, to the sources (path -> text) that they name.

    Parts whose file is not in `sources` are left out (the caller has reported it).  Problems of all hunks
    of all files come back together; a file with problems has no `PatchedSource`.
    """
    problems = Problems()
    results: list[PatchedSource] = []
    for path in dict.fromkeys(part.path for part in parts if part.path in sources):
        lines = split(sources[path])
        notes: list[str] = []
        before = len(problems)
        for part in parts:
            if part.path == path:
                lines = _apply_part(lines, part, notes, problems)
        if len(problems) == before:
            result = PatchedSource(path, sources[path], with_directives(lines), tuple(lines), tuple(notes))
            if result.plain == result.original:
                problems.add(path, "the patches together change nothing in this file")
            else:
                results.append(result)
    return tuple(results), tuple(problems)


def split(text: str) -> list[SourceLine]:
    """A source text as its numbered lines."""
    pieces = text.split("\n")
    lines = [SourceLine(piece, True, number) for number, piece in enumerate(pieces[:-1], 1)]
    return lines + ([SourceLine(pieces[-1], False, len(pieces))] if pieces[-1] else [])


def with_directives(lines: Sequence[SourceLine]) -> str:
    """The text of `lines` with `#line` directives, so that unchanged lines keep their original numbers."""
    out: list[str] = []
    lexer = _Lexer(branches=[])
    count: int = 1  # what the compiler takes the next line's number to be; below 0 if that is not known
    conditional: set[int] = set()  # nesting levels of #if whose present branch has a directive in it
    for line in lines:
        if line.original and line.original != count and lexer.safe_before(line.text):
            out.append(f"#line {line.original}\n")
            count = line.original
            if lexer.branches:
                conditional.add(len(lexer.branches))
        out.append(line.text + "\n" * line.newline)
        count += 1
        ended = lexer.feed(line.text)
        if ended in conditional:
            # The compiler may have skipped that branch, and the directive with it: give the number again.
            conditional.remove(ended)
            count = -len(lines)
    return "".join(out)


def _apply_part(
    lines: list[SourceLine], part: FilePatch, notes: list[str], problems: Problems
) -> list[SourceLine]:
    """The lines after one part of a patch; hunks that do not apply are added to `problems`."""
    out: list[SourceLine] = []
    done = 0  # lines[:done] are in `out` already
    moved = 0  # how far the previous hunk was from where it said
    for hunk in part.hunks:
        expected = hunk.start - 1 + moved
        found = _find(lines, hunk.old, expected, done)
        if len(found) != 1:
            problems.extend([_misfit(lines, part, hunk, expected, len(found))])
            continue
        at = found[0]
        if at != expected:
            notes.append(
                f"{shown(part.patch, hunk.number)}: applied to {part.path} at line {at + 1}, "
                f"not {hunk.start} as it says, the only place where its lines are"
            )
            moved = at - (hunk.start - 1)
        out += lines[done:at]
        done = at
        for line in hunk.lines:
            if line.sign == "+":
                out.append(SourceLine(line.text, line.newline, 0, shown(part.patch, line.number)))
            else:
                if line.sign == " ":
                    out.append(lines[done])
                done += 1
    return out + lines[done:]


def _find(lines: list[SourceLine], wanted: Sequence[HunkLine], expected: int, first: int) -> tuple[int, ...]:
    """Where `wanted` stands in `lines[first:]`: `expected` alone if it does there, else every place."""
    if expected >= first and _matches(lines, wanted, expected):
        return (expected,)
    last = len(lines) - len(wanted)
    return tuple(at for at in range(first, last + 1) if _matches(lines, wanted, at))


def _matches(lines: list[SourceLine], wanted: Sequence[HunkLine], at: int) -> bool:
    """Whether the lines from `at` on are those wanted, line ends included."""
    if at < 0 or at + len(wanted) > len(lines):
        return False
    return all(_same(lines[at + index], want) for index, want in enumerate(wanted))


def _same(line: SourceLine, want: HunkLine) -> bool:
    return line.text == want.text and line.newline == want.newline


def _misfit(lines: list[SourceLine], part: FilePatch, hunk: Hunk, expected: int, places: int) -> Problem:
    """The problem for a hunk that has no place in the file, or several."""
    place = shown(part.patch, hunk.number)
    if places > 1:
        return Problem(
            place,
            f"this hunk fits {part.path} at {places} places, none of them the line it names ({hunk.start})",
            "make the patch against this kernel's source, or with more lines of context",
        )
    if hunk.new and any(_matches(lines, hunk.new, at) for at in range(len(lines) - len(hunk.new) + 1)):
        return Problem(
            place,
            f"this hunk is already applied: {part.path} has its new lines",
            "this kernel, or an earlier patch file of the manifest, has this change; take the hunk out",
        )
    if any(_matches(lines, hunk.old, at) for at in range(len(lines) - len(hunk.old) + 1)):
        return Problem(
            place,
            f"this hunk belongs above or into the one before it in {part.path}",
            "make the patch again with git diff or diff -u",
        )
    # Show the mismatch at the place that has most of the wanted lines, preferring the one the hunk names.
    at = max(
        [expected, *range(max(len(lines) - len(hunk.old), 0) + 1)],
        key=lambda start: sum(
            0 <= start + index < len(lines) and _same(lines[start + index], want)
            for index, want in enumerate(hunk.old)
        ),
    )
    for index, want in enumerate(hunk.old):
        where = at + index
        if 0 <= where < len(lines) and _same(lines[where], want):
            continue
        if 0 <= where < len(lines):
            line = lines[where]
            has = f"{line.place or f'{part.path}:{line.original}'} has\n    {_quoted(line)}"
        else:
            has = f"{part.path} has only {len(lines)} lines"
        spaces = where < len(lines) and want.text.split() == lines[where].text.split()
        return Problem(
            shown(part.patch, want.number),
            f"this hunk does not apply: the patch expects\n{_quoted(want)}\n  but {has}",
            "only white space differs (spaces for tabs, or CR at line ends?); make the patch with git diff"
            if spaces
            else "make the patch against this kernel's source",
        )
    raise AssertionError("a hunk that matches is no misfit")


def _quoted(line: SourceLine | HunkLine) -> str:
    return f"    {line.text}" + ("" if line.newline else "  (no newline at end of file)")


@dataclass(slots=True)
class _Lexer:
    """Follows a C text line by line, as far as needed to know where a directive may stand.

    depth:     open parentheses outside of comments, literals and directives
    unsure:    the branches of an #if disagree about the depth
    comment:   inside /* */
    continued: the line before ended in a backslash
    directive: the logical line is a preprocessor directive
    last:      the last significant character before here
    branches:  per open #if the depth at its start, the depths at the ends of its branches so far, and
               whether the present branch is that of an `#if 0`
    """

    branches: list[tuple[int, list[int], bool]]
    depth: int = 0
    unsure: bool = False
    comment: bool = False
    continued: bool = False
    directive: bool = False
    last: str = ";"

    def safe_before(self, text: str) -> bool:
        """Whether a directive may stand before the line `text`, which comes next."""
        if self.comment or self.continued:
            return False
        if self.depth and not self._certain(text):
            return False
        # A name (or a call that makes one) whose "(" comes on a later line would be a macro call around
        # the directive.
        named = self.last == ")" or self.last == "_" or self.last.isalnum()
        return not named or text.lstrip(" \t")[:1] not in ("", "(", "/", "\\", "#")

    def feed(self, text: str) -> int:
        """Go past one physical line; the nesting level of the branch of an #if that it ends, or 0."""
        ended = 0
        if not self.continued and not self.comment:
            if self._certain(text):
                self.depth, self.unsure = 0, False
            self.directive = text.lstrip(" \t").startswith(("#", "%:"))
            if self.directive:
                ended = self._conditional(text)
        self._scan(text)
        self.continued = text.rstrip(" \t\r").endswith("\\")
        if not self.continued and not self.comment:
            self.directive = False
        return ended

    def _certain(self, text: str) -> bool:
        """A "}" in the first column ends a function, so no parenthesis is open there after all."""
        return self.unsure and text.startswith("}")

    def _scan(self, text: str) -> None:
        """Parentheses, comments and the last significant character of a line."""
        position = 0
        while position < len(text):
            if self.comment:
                end = text.find("*/", position)
                if end < 0:
                    return
                self.comment = False
                position = end + 2
                continue
            match = _TOKEN.match(text, position)
            assert match is not None  # its last alternative takes any character
            token = match.group()
            position = match.end()
            if token == "/*":
                self.comment = True
            elif token.startswith("//"):
                return
            elif not self.directive and not token.isspace():
                self.last = token[-1]
                if token == "(":
                    self.depth += 1
                elif token == ")":
                    self.depth = max(self.depth - 1, 0)

    def _conditional(self, text: str) -> int:
        """Each branch of an #if starts at the depth before it; afterwards the first branch's end counts.

        What stands in `#if 0` is no code: there the depth of the start counts.  Returns as `feed` does.
        """
        word = _WORD.match(text)
        name = word.group(1) if word else ""
        level = len(self.branches)
        if name in ("if", "ifdef", "ifndef"):
            self.branches.append((self.depth, [], bool(_NEVER.match(text))))
        if name not in ("else", "elif", "elifdef", "elifndef", "endif") or not level:
            return 0
        start, ends, never = self.branches.pop()
        ends.append(start if never else self.depth)
        if name != "endif":
            self.depth = start
            self.branches.append((start, ends, False))
            return level
        self.depth = ends[0]
        # Without an #else, the other branch is the empty one.
        self.unsure |= len(set(ends if len(ends) > 1 else [*ends, start])) > 1
        return level


# One step of the scan.  A literal that does not end on its line ends with the line (text inside #if 0).
_TOKEN = re.compile(
    r"""/\*|//.*|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|[A-Za-z0-9_]+|[ \t\f\v\r]+|.""", re.DOTALL
)
_NEVER = re.compile(r"\s*#\s*if\s+0\s*($|/)")
_WORD = re.compile(r"\s*(?:#|%:)\s*([a-z]+)")
