# SPDX-License-Identifier: GPL-2.0-or-later
"""Patch files: what is read from them, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.unit.patchfile import MAX_BYTES, decode, encode, parse_patch, read_patches, touched_files

GIT = """\
From 0123456789abcdef Mon Sep 17 00:00:00 2001
Subject: [PATCH] fs: a change
 with a list:
 - one
 + two
---
 fs/exec.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/fs/exec.c b/fs/exec.c
index 0123456789ab..ba9876543210 100644
--- a/fs/exec.c
+++ b/fs/exec.c
@@ -10,3 +10,4 @@ int f(void)
 one
-two
+2
+3
 three
--\x20
2.39.5
"""


def parse(text: str, name: str = "x.patch") -> tuple[str, ...]:
    return tuple(part.path for part in parse_patch(Path(name), text.encode()))


def problems(text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse_patch(Path("x.patch"), text.encode())
    return [str(problem) for problem in caught.value.problems]


def change(path: str, head: str = "") -> str:
    """A well-formed change of one line of `path`."""
    return f"{head}--- a/{path}\n+++ b/{path}\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n d\n"


def test_git_patch_with_mail_text() -> None:
    (part,) = parse_patch(Path("x.patch"), GIT.encode())
    assert (part.path, part.number) == ("fs/exec.c", 10)
    (hunk,) = part.hunks
    assert (hunk.start, hunk.number) == (10, 14)
    assert [(line.sign, line.text, line.number) for line in hunk.lines] == [
        (" ", "one", 15),
        ("-", "two", 16),
        ("+", "2", 17),
        ("+", "3", 18),
        (" ", "three", 19),
    ]
    assert [line.text for line in hunk.old] == ["one", "two", "three"]
    assert [line.text for line in hunk.new] == ["one", "2", "3", "three"]


def test_plain_diff_with_folders_and_times() -> None:
    text = change("fs/exec.c").replace("--- a/", "--- linux-6.1.orig/").replace("+++ b/", "+++ linux-6.1/")
    text = text.replace("exec.c\n", "exec.c\t2024-01-01 00:00:00.000000000 +0000\n")
    (part,) = parse_patch(Path("x.patch"), f"diff -ru linux-6.1.orig/fs linux-6.1/fs\n{text}".encode())
    assert part.path == "fs/exec.c"


def test_a_removed_line_that_looks_like_a_header() -> None:
    text = "--- a/fs/exec.c\n+++ b/fs/exec.c\n@@ -1,2 +1,2 @@\n a\n--- a/x.c\n+++ b/x.c\n"
    (part,) = parse_patch(Path("x.patch"), text.encode())
    assert [line.text for line in part.hunks[0].lines] == ["a", "-- a/x.c", "++ b/x.c"]


def test_touched_files_in_order_without_repetition(tmp_path: Path) -> None:
    (tmp_path / "1.patch").write_text(change("mm/mmap.c") + change("fs/exec.c"))
    (tmp_path / "2.patch").write_text(change("fs/exec.c") + change("fs/open.c"))
    assert touched_files([tmp_path / "1.patch", tmp_path / "2.patch"]) == (
        "mm/mmap.c",
        "fs/exec.c",
        "fs/open.c",
    )


def test_no_newline_at_end_of_file() -> None:
    text = "--- a/f.c\n+++ b/f.c\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"
    (part,) = parse_patch(Path("x.patch"), text.replace("f.c", "x/f.c").encode())
    assert [(line.sign, line.newline) for line in part.hunks[0].lines] == [
        (" ", True),
        ("-", False),
        ("+", True),
    ]


def test_bytes_that_are_not_utf8_come_back() -> None:
    data = bytes(range(256))
    assert encode(decode(data)) == data
    (part,) = parse_patch(Path("x.patch"), change("fs/f.c").encode().replace(b"+c", b"+c \xe9\x0c\x1d\r"))
    assert encode(part.hunks[0].lines[2].text) == b"c \xe9\x0c\x1d\r"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "x.patch: this patch changes nothing"),
        ("some prose\n", "x.patch: this patch changes nothing"),
        (change("include/linux/fs.h"), "x.patch:1: changes 'include/linux/fs.h': it is a header, and header"),
        (change("arch/x86/entry/entry_64.S"), "it is assembly"),
        (change("fs/Kconfig"), "it changes how the kernel is configured"),
        (change("fs/Kconfig.binfmt"), "it changes how the kernel is configured"),
        (change("fs/Makefile"), "it changes how the kernel is configured"),
        (change("rust/kernel/lib.rs"), "it is Rust"),
        (change("Documentation/x.rst"), "it is not a C source"),
        (change("../etc/x.c"), "leaves the kernel tree"),
        (change("fs/../../x.c"), "leaves the kernel tree"),
        (change("fs/x.c").replace("a/fs", "/fs").replace("b/fs", "/fs"), "is an absolute path"),
        (
            change("fs/x.c").replace("a/fs/x.c", "x.c").replace("b/fs/x.c", "x.c"),
            "no leading folder to strip",
        ),
        (change("fs/x.c").replace("a/fs/x.c", "/dev/null"), "creates the new file 'fs/x.c'"),
        (change("fs/x.c").replace("b/fs/x.c", "/dev/null"), "deletes the file 'fs/x.c'"),
        (change("fs/x.c").replace("b/fs/x.c", "b/fs/y.c"), "renames 'fs/x.c' to 'fs/y.c'"),
        (
            change("fs/x.c").replace("a/fs", "linux/a/fs").replace("b/fs", "linux/b/fs"),
            "names two files, 'a/fs/x.c' and 'b/fs/x.c'",
        ),
        (
            "diff --git a/fs/x.c b/fs/y.c\nsimilarity index 100%\nrename from fs/x.c\nrename to fs/y.c\n",
            "renames 'fs/x.c' to 'fs/y.c'",
        ),
        ("diff --git a/fs/x.c b/fs/x.c\nold mode 100644\nnew mode 100755\n", "changes the mode of 'fs/x.c'"),
        (
            change("fs/x.c", "diff --git a/fs/x.c b/fs/x.c\nold mode 100644\nnew mode 100755\n"),
            "x.patch:1: changes the mode of 'fs/x.c'",
        ),
        (
            "diff --git a/fs/x.c b/fs/x.c\nindex 12..34 100644\nBinary files a/fs/x.c and b/fs/x.c differ\n",
            "changes 'fs/x.c' as a binary",
        ),
        (
            "diff --git a/fs/x.c b/fs/x.c\nindex 12..34 100644\nGIT binary patch\nliteral 1\nIcmZPo\n\n",
            "changes 'fs/x.c' as a binary",
        ),
        ("diff --git a/fs/x.c b/fs/x.c\nnew file mode 100644\nindex 0..1\n", "creates the new file 'fs/x.c'"),
        (change("fs/x.c").replace("-b\n+c\n", " b\n"), "changes nothing in 'fs/x.c'"),
        (
            "--- a/fs/x.c\n+++ b/fs/x.c\n@@ -4,0 +5,2 @@ f\n+a\n+b\n",
            "x.patch:3: this hunk for 'fs/x.c' has no line of the old file",
        ),
        (change("fs/x.c").replace("\n", "\r\n"), "lines end in CR LF"),
        (change("fs/x y.c"), "is no name of a file of the kernel tree"),
        (
            change("fs/x.c").replace("@@ -1,3 +1,3 @@", "@@ -1,4 +1,4 @@"),
            "x.patch:7: malformed patch: hunk is shorter",
        ),
        (
            change("fs/x.c").replace("@@ -1,3 +1,3 @@", "@@ -1,2 +1,2 @@"),
            "x.patch:7: malformed hunk: it has more",
        ),
        (change("fs/x.c") + "+more\n", "x.patch:8: malformed hunk: it has more lines"),
        (change("fs/x.c") + "@@ -9,3 +9 3 @@\n a\n-b\n+c\n d\n", "x.patch:8: malformed hunk header"),
        (change("fs/x.c") + "@ -9,3 +9,3 @@\n a\n-b\n+c\n d\n", "x.patch:8: malformed hunk header"),
        (change("fs/x.c").replace("-b\n", "?b\n"), "x.patch:5: malformed patch: hunk diff line expected"),
        ("@@ -1,3 +1,3 @@\n a\n-b\n+c\n d\n", "x.patch:1: malformed patch: unexpected hunk found"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    found = problems(text)
    assert any(expected in problem for problem in found), found


def test_every_problem_of_every_file_at_once(tmp_path: Path) -> None:
    (tmp_path / "1.patch").write_text(change("fs/x.h") + change("fs/exec.c") + change("fs/y.S"))
    (tmp_path / "2.patch").write_text("")
    with pytest.raises(UserError) as caught:
        read_patches([tmp_path / "1.patch", tmp_path / "2.patch", tmp_path / "3.patch"])
    assert [problem.place.rpartition("/")[2] for problem in caught.value.problems] == [
        "1.patch:1",
        "1.patch:15",
        "2.patch",
        "3.patch",
    ]


def test_files_that_cannot_be_patches_are_all_named(tmp_path: Path) -> None:
    endless = tmp_path / "endless.patch"
    with endless.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError) as caught:
        read_patches([tmp_path / "missing.patch", endless])
    assert [(Path(problem.place).name, problem.cause.split(",")[0]) for problem in caught.value.problems] == [
        ("missing.patch", "cannot read this patch file: No such file or directory"),
        ("endless.patch", "is larger than 4 MiB"),
    ]
