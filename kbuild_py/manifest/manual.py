# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual page kbuild-py-manifest(5), made from `fields.py` like docs/manifest.md.

It says the same in roff, with the macros of man(7).  A dot or a quote at the start of a line makes it a
request there, a backslash begins an escape, and each sentence begins on a line of its own.  The texts of
`fields.py` are Markdown with no more than `code` and **bold** in it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

from kbuild_py.manifest import fields, reference

# Of the page's words below; a new key does not change it.
_DATE = "2026-11-25"
_WIDTH = 78

_INTRODUCTION = (
    "A manifest says what a live patch changes, for which kernels, and how to see that it works. It is a "
    "YAML file in a folder of its own, beside the patch; `./doit build` makes a patch module of both.",
    "It is read strictly: an unknown or repeated key, or a word that YAML versions read in different ways "
    '(`no`, `0001`, `12:30`), is an error with its line and column. Text like that goes in quotes: `"no"`. '
    "Aliases, anchors, tags and merge keys are not used.",
    "The first line of the examples is for editors with a YAML language server: they complete keys, show "
    "what is written here, and check while you type.",
)

_END = """\
.SH FILES
.TP
.I manifests/NAME/manifest.yaml
The manifest; the patch and C sources of its own lie beside it.
.TP
.I manifests/kernels/NAME.yaml
The description of a kernel.
.TP
.I manifests/kernels/NAME.lock.json
Version and SHA-256 of each of its packages;
.BR kbuild-py (1)
writes it.
.TP
.I manifests/schema
JSON Schemas of both, for editors.
.SH SEE ALSO
.BR kbuild-py (1),
.BR kpatch (7),
.BR kpatch_callbacks (9)
.PP
.IR docs/manifest.md ,
.I docs/patch\\-author\\-guide.md
"""


def page() -> str:
    """The whole page."""
    lines = [
        r".\" SPDX-License-Identifier: GPL-2.0-or-later",
        r".\" Made from kbuild_py/manifest/fields.py by `kbuild-py schema --write`; edit that.",
        f'.TH KBUILD-PY-MANIFEST 5 {_DATE} kbuild-py "Kernel live patches"',
        ".SH NAME",
        r"kbuild-py-manifest \- what a live patch changes, and for which kernels",
        ".SH DESCRIPTION",
        *_paragraphs(_INTRODUCTION),
    ]
    for heading, format_ in (
        ("MANIFEST", fields.MANIFEST),
        ("KERNEL DESCRIPTION", fields.KERNEL),
        ("BUILD CONFIGURATION", fields.BUILD),
    ):
        lines += [f".SH {heading}", *roff(format_.description)]
        lines += [".PP", ".EX", *map(literal, reference.example(format_).splitlines()), ".EE"]
        for paths, mapping in reference.groups(format_):
            lines.append(f".SS In {literal(', '.join(paths))}" if paths != [""] else ".SS Keys")
            for field in reference.all_fields(mapping):
                lines += [".TP", f".B {literal(field.key)}"]
                lines += roff(f"{reference.value(field, mapping)}. {reference.meaning(field)}")
    return "\n".join(lines) + "\n" + _END


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if number:
            yield ".PP"
        yield from roff(text)


def roff(markdown: str) -> list[str]:
    """Lines of running text: a line for each sentence, or more where it is long."""
    lines = []
    for sentence in re.split(r"(?<=[.!?]) ", markdown):
        # No break within a line's words: a long one, an example or a path, stays whole.
        for line in textwrap.wrap(sentence, _WIDTH - 10, break_long_words=False, break_on_hyphens=False):
            lines.append(line)
    text = _protected("\n".join(lines))
    text = re.sub(r"\*\*(.+?)\*\*", r"\\fB\1\\fP", text, flags=re.DOTALL)
    text = re.sub(r"`([^`]+)`", lambda code: r"\fI" + code[1].replace("-", r"\-") + r"\fP", text)
    return text.splitlines()


def literal(line: str) -> str:
    """A line that is to be read as it stands: hyphens are minus signs, which can be copied."""
    return _protected(line).replace("-", r"\-")


def _protected(text: str) -> str:
    return re.sub(r"^(?=[.'])", r"\\&", text.replace("\\", r"\e"), flags=re.MULTILINE)
