# SPDX-License-Identifier: GPL-2.0-or-later
"""Patch files: which files of the kernel tree they touch, and with which hunks.

A patch file is a unified diff with one leading folder to strip (`-p1`), as git and `diff -ru a b` write it.
`unidiff` does the parsing.  It is lenient where a live patch cannot be: a line that it does not understand
is taken for prose, so a hunk header with a typing mistake, or a hunk that is longer than its header says,
would silently lose changes.  `_strays` looks at every line that no hunk has claimed and refuses those that
look like a piece of a hunk.

What a live patch cannot express, or what this version leaves to a later one, is refused here by name:
new, deleted and renamed files, mode changes, binary changes, headers, assembly and everything else that is
not a C source.  No kernel tree is needed for any of this, so that `touched_files` can give the task graph
its shape at every start.

Text is bytes decoded as UTF-8 with `surrogateescape`: the few sources that are not UTF-8 come out as they
went in.  Lines end at LF only; a CR is part of its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kbuild_py.errors import Problem, Problems, UserError

# File name (whole, or its end) -> why it cannot be patched.  The first match counts.
REFUSED_NAMES: tuple[tuple[str, str, str], ...] = (
    (
        r"\.(h|inc)$",
        "it is a header, and header changes come with a later version",
        "move the change into the .c files that include it",
    ),
    (
        r"\.(S|s|asm)$",
        "it is assembly, which has no functions that can be replaced at run time",
        "leave the file out of the patch",
    ),
    (
        r"(^|/)(Makefile|Kbuild|Kconfig)[^/]*$",
        "it changes how the kernel is configured or built, not what runs",
        "leave the file out of the patch",
    ),
    (
        r"\.rs$",
        "it is Rust, which this version does not compile",
        "leave the file out of the patch",
    ),
    (r"", "it is not a C source (.c)", "leave the file out of the patch"),
)

# Patch files are read at every start of doit.
MAX_BYTES = 4 << 20
# What a hunk header with a typing mistake still has.
LINE_RANGES = re.compile(r"^[@ ]*-\d+,\d+ \+\d+,\d+")


@dataclass(frozen=True, slots=True)
class HunkLine:
    """One line of a hunk: `sign` is ' ', '-' or '+'; `number` is its line in the patch file.

    text has no line end; `newline` is False for a file's last line that lacks one.
    """

    sign: str
    text: str
    newline: bool
    number: int


@dataclass(frozen=True, slots=True)
class Hunk:
    """One hunk: `start` is the line (from 1) of the old file at which its old lines begin."""

    start: int
    number: int
    lines: tuple[HunkLine, ...]

    @property
    def old(self) -> tuple[HunkLine, ...]:
        """The lines that must be there."""
        return tuple(line for line in self.lines if line.sign != "+")

    @property
    def new(self) -> tuple[HunkLine, ...]:
        """The lines that stand there afterwards."""
        return tuple(line for line in self.lines if line.sign != "-")


@dataclass(frozen=True, slots=True)
class FilePatch:
    """What one patch file does to one file of the tree.

    patch:  the patch file
    number: the line of the patch file where this file's part begins
    path:   the patched file, relative to the tree, for example fs/proc/meminfo.c
    """

    patch: Path
    number: int
    path: str
    hunks: tuple[Hunk, ...]


def touched_files(patches: Iterable[Path]) -> tuple[str, ...]:
    """The tree's files that the patch files change, in the order in which they first appear."""
    return tuple(dict.fromkeys(part.path for part in read_patches(patches)))


def read_patches(patches: Iterable[Path]) -> tuple[FilePatch, ...]:
    """All parts of all patch files, in the order in which they apply; raises every problem at once."""
    problems = Problems()
    parts: list[FilePatch] = []
    for patch in patches:
        try:
            with patch.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except OSError as error:
            problems.add(shown(patch), f"cannot read this patch file: {error.strerror}")
            continue
        if len(data) > MAX_BYTES:
            cause = f"is larger than {MAX_BYTES >> 20} MiB, which no patch for a running kernel is"
            problems.add(shown(patch), cause, "leave out what it does not need")
            continue
        try:
            parts += parse_patch(patch, data)
        except UserError as error:
            problems.extend(error.problems)
    problems.raise_if_any()
    return tuple(parts)


def parse_patch(patch: Path, data: bytes) -> tuple[FilePatch, ...]:
    """Parse one patch file's content; raises every problem of it at once."""
    from unidiff.errors import UnidiffParseError  # here: a start that reads no patch should not pay for it
    from unidiff.patch import PatchSet

    lines = decode(data).split("\n")
    ended = [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    counter = _Counter(ended)
    try:
        parsed = PatchSet(counter)
    except UnidiffParseError as error:
        cause = str(error).strip().split("\n")[0]
        raise UserError(Problem(shown(patch, counter.number), f"malformed patch: {_lower(cause)}")) from error

    problems = Problems()
    problems.extend(_strays(patch, ended, parsed))
    parts: list[FilePatch] = []
    for part in parsed:
        number = (part.diff_line_no or 1) - (part.patch_info is None)  # no git header: it is the +++ line
        hunks = tuple(_hunk(hunk, number) for hunk in part)
        place = shown(patch, number)
        path, problem = _path(place, part)
        if problem is None:
            problem = _refused(place, path, part, hunks)
        if problem is not None:
            problems.extend([problem])
        else:
            parts.append(FilePatch(patch, number, path, hunks))
    if not parsed and not len(problems):
        problems.add(shown(patch), "this patch changes nothing: no '--- a/FILE' with '+++ b/FILE' in it")
    problems.raise_if_any()
    return tuple(parts)


def shown(path: Path, number: int | None = None) -> str:
    """A file (and line) as a user knows it: relative to the current folder where it lies below."""
    here = Path.cwd()
    name = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{name}:{number}" if number else str(name)


def decode(data: bytes) -> str:
    """Bytes of a patch or source as text; `encode` gives back the same bytes."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes that `decode` read."""
    return text.encode("utf-8", "surrogateescape")


class _Counter:
    """The lines of a patch, and how many of them were asked for: unidiff's errors carry no line number."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self.number = 0

    def __iter__(self) -> Any:
        for line in self._lines:
            self.number += 1
            yield line


def _hunk(hunk: Any, fallback: int) -> Hunk:
    """unidiff's hunk as a value; "no newline" markers move to the line before them."""
    lines: list[HunkLine] = []
    for line in hunk:
        if line.line_type == "\\":
            if lines:
                last = lines[-1]
                lines[-1] = HunkLine(last.sign, last.text, False, last.number)
            continue
        lines.append(HunkLine(line.line_type or " ", line.value.removesuffix("\n"), True, line.diff_line_no))
    number = lines[0].number - 1 if lines else fallback
    # A hunk without old lines gives the line after which its new ones go.
    start = hunk.source_start if hunk.source_length else hunk.source_start + 1
    # unidiff hangs an empty line that follows a hunk onto it; the header's count says where it ends.
    old = new = 0
    kept: list[HunkLine] = []
    for item in lines:
        if old == hunk.source_length and new == hunk.target_length:
            break
        kept.append(item)
        old += item.sign != "+"
        new += item.sign != "-"
    return Hunk(start, number, tuple(kept))


def _strays(patch: Path, lines: Sequence[str], parsed: Any) -> Iterable[Problem]:
    """Problems for lines that belong to no hunk but look like a piece of one."""
    ends: set[int] = set()
    claimed: set[int] = set()
    for part in parsed:
        for hunk in part:
            numbers = [line.diff_line_no for line in hunk if line.diff_line_no]
            if numbers:
                claimed.update(range(numbers[0] - 1, numbers[-1] + 1))
                ends.add(numbers[-1])
    previous_end = False
    seen_file = False
    for number, line in enumerate(lines, 1):
        if number in claimed:
            previous_end = number in ends
            continue
        if line.startswith("+++ "):
            seen_file = True
        elif seen_file and (line.startswith("@@") or LINE_RANGES.search(line)):
            yield Problem(
                shown(patch, number),
                "malformed hunk header",
                "it must read '@@ -LINE,COUNT +LINE,COUNT @@'; make the patch again with git diff or diff -u",
            )
        elif previous_end and line[:1] in ("+", "-", " ") and not line.startswith(("--- ", "-- \n")):
            yield Problem(
                shown(patch, number),
                "malformed hunk: it has more lines than its header says",
                "make the patch again with git diff or diff -u",
            )
        if not line.startswith("\\"):
            previous_end = False


def _path(place: str, part: Any) -> tuple[str, Problem | None]:
    """The path inside the tree that a part of a patch is about, or why there is none."""
    old, new = str(part.source_file), str(part.target_file)
    if old == "/dev/null":
        return "", Problem(
            place,
            f"creates the new file {_stripped(new)!r}; a live patch changes functions of existing files",
            "put the new code into a file that the kernel already has",
        )
    if new == "/dev/null":
        return "", Problem(place, f"deletes the file {_stripped(old)!r}", "empty its functions instead")
    for name in (old, new):
        if name.startswith("/"):
            return "", Problem(place, f"{name!r} is an absolute path", "make the patch with a/ and b/ (-p1)")
        if not name or name.startswith('"') or any(ord(char) < 33 or ord(char) == 127 for char in name):
            remedy = "the patch file's lines end in CR LF; make them end in LF" if name[-1:] == "\r" else ""
            return "", Problem(place, f"{name!r} is no name of a file of the kernel tree", remedy)
        if ".." in PurePosixPath(name).parts:
            return "", Problem(place, f"{name!r} leaves the kernel tree")
        if not _stripped(name):
            return "", Problem(
                place, f"{name!r} has no leading folder to strip", "make the patch with a/ and b/ (-p1)"
            )
    if _stripped(old) != _stripped(new):
        tail = _stripped(_stripped(new))
        if "/" in tail and _stripped(_stripped(old)) == tail:
            return "", Problem(
                place,
                f"names two files, {_stripped(old)!r} and {_stripped(new)!r} (one folder is stripped, -p1)",
                f"if {tail!r} is meant, make the patch with one folder (a/ and b/) in front of it",
            )
        return "", Problem(
            place,
            f"renames {_stripped(old)!r} to {_stripped(new)!r}",
            "change the file under the name that it has in the kernel",
        )
    return _stripped(new), None


def _stripped(name: str) -> str:
    """`a/fs/exec.c` as `fs/exec.c`."""
    parts = PurePosixPath(name).parts[1:]
    return str(PurePosixPath(*parts)) if parts else ""


def _refused(place: str, path: str, part: Any, hunks: tuple[Hunk, ...]) -> Problem | None:
    """Why this change of an existing file cannot become a live patch; None when it can."""
    info = [line.rstrip("\n") for line in part.patch_info or ()]
    if any(line.startswith(("copy from ", "rename from ")) for line in info):
        return Problem(place, f"renames or copies {path!r}", "change the file under the name that it has")
    if any(line.startswith(("old mode ", "new mode ")) for line in info):
        return Problem(place, f"changes the mode of {path!r}", "leave the mode change out of the patch")
    if part.is_binary_file:
        return Problem(place, f"changes {path!r} as a binary", "leave the file out of the patch")
    if not path.endswith(".c"):
        why, remedy = next((why, to) for pattern, why, to in REFUSED_NAMES if re.search(pattern, path))
        return Problem(place, f"changes {path!r}: {why}", remedy)
    if not any(line.sign != " " for hunk in hunks for line in hunk.lines):
        return Problem(place, f"changes nothing in {path!r}", "leave the file out of the patch")
    for hunk in hunks:
        if not hunk.old:
            return Problem(
                f"{place.rsplit(':', 1)[0]}:{hunk.number}",
                f"this hunk for {path!r} has no line of the old file, so nothing shows where it belongs",
                "make the patch with lines of context (git diff -U3)",
            )
    return None


def _lower(text: str) -> str:
    """`text` as the middle of a sentence."""
    return text[:1].lower() + text[1:]
