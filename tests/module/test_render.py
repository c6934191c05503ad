# SPDX-License-Identifier: GPL-2.0-or-later
"""Templates: text that a user wrote reaches C, and cannot end the string or the comment that it stands in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import jinja2
import pytest

from kbuild_py.module.render import c_text, render

# What a description may hold (one line, no control characters), at its worst.
DESCRIPTIONS = [
    "plain words",
    "*/ int injected; /*",
    "/* inner */ **/ /*/",
    "*\\/",
    '"quoted" and \\"escaped\\"',
    '"); int injected; char x[] = ("',
    "backslash at the end \\",
    "two \\\\",
    "trigraphs ??/ ??' ??= ???/",
    "percent %s %n %%",
    "ünïcödé → 内核 🐧",
    "{{ name }} {% include 'Kbuild.j2' %} {# x #}",
    "octal \\101 hex \\x41 \\u0041 newline \\n",
    "// comment \\",
    "#define x",
    "// $(shell touch injected) `touch injected`",
]


@pytest.mark.parametrize("text", DESCRIPTIONS)
@pytest.mark.parametrize("standard", ["gnu11", "c11"])
def test_the_compiler_reads_back_what_was_written(text: str, standard: str, tmp_path: Path) -> None:
    """The string is the text but for what cannot stand in a comment, and nothing else is declared."""
    escaped = c_text(text)
    assert "\n" not in escaped and "*/" not in escaped
    source = (
        f'/*\n * {escaped}\n */\n// x\nint puts(const char *);\nint main(void) {{ puts("{escaped}"); }}\n'
    )
    (tmp_path / "x.c").write_text(source)
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", "x", "x.c"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "x"], capture_output=True, check=True).stdout.decode()
    assert printed == text.replace("*/", "* /").replace("/*", "/ *") + "\n"


def test_white_space_becomes_one_line() -> None:
    assert c_text(" a\n b\t\tc\x0b\x85d\u2028e ") == "a b c d e"


def test_a_name_that_nobody_gave_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="objects"):
        render("Kbuild.j2", {"name": "x", "module": "kpatch-x"})


def test_kbuild() -> None:
    assert render(
        "Kbuild.j2", {"module": "kpatch-a-b", "name": "a-b", "objects": ["1_fs_x.o", "2_mm_y.o"]}
    ) == (
        "# SPDX-License-Identifier: GPL-2.0-or-later\n"
        '# Patch module "a-b"; generated from the manifest.\n'
        "obj-m := kpatch-a-b.o\n"
        "kpatch-a-b-y := patch.o 1_fs_x.o 2_mm_y.o\n"
    )
