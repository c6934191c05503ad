# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages: well formed, linked to what exists, and true to header, core and program."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbuild_py import cli, run
from kbuild_py.manifest import fields, kinds, manual

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "man").iterdir())
CODE = ROOT / "core"

# Pages that others bring: kmod, util-linux.
ELSEWHERE = {("flock", "1"), ("insmod", "8"), ("lsmod", "8"), ("rmmod", "8")}

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def page(name: str) -> str:
    return (ROOT / "man" / name).read_text()


def names(text: str) -> list[str]:
    """What a page documents, from its NAME section."""
    heading = text.partition(".SH NAME\n")[2].partition(r" \- ")[0]
    return [name.strip() for name in heading.split(",")]


def section(text: str, heading: str) -> str:
    """One section of a page; empty when it has none of that name."""
    return text.partition(f".SH {heading}\n")[2].partition("\n.SH ")[0]


def plain(text: str) -> str:
    """Lines of roff without their requests, fonts and escapes."""
    lines = []
    for line in text.splitlines():
        request, _, rest = line.partition(" ")
        if re.fullmatch(r"\.(B|I|BI|BR|IR|RB|RI|IB)", request):
            words = re.findall(r'"([^"]*)"|(\S+)', rest)
            joint = " " if len(request) == 2 else ""
            line = joint.join(quoted or word for quoted, word in words)
        elif line.startswith("."):
            continue
        lines.append(line)
    return "\n".join(lines).replace(r"\-", "-").replace(r"\(dq", '"').replace(r"\e", "\\")


def squeezed(text: str) -> str:
    """C without comments, and with one space wherever it has white space."""
    return " ".join(COMMENT.sub("", text).split())


HEADER = squeezed((CODE / "kpatch.h").read_text())
CONTEXT_PAGES = [path for path in PAGES if path.suffix == ".9"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_mandoc_has_no_complaint(path: Path) -> None:
    if shutil.which("mandoc") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mandoc is not installed")
        pytest.skip("mandoc is not installed")
    result = run.run(["mandoc", "-T", "lint", "-W", "all", path])
    assert result.stdout + result.stderr == ""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_name_is_the_files(path: Path) -> None:
    name, _, number = path.name.rpartition(".")
    text = path.read_text()
    title = re.search(r"^\.TH (\S+) (\d)", text, re.MULTILINE)
    assert title is not None and title.groups() == (name.upper(), number)
    assert names(text)[0] == name


KNOWN = {(name, path.suffix[1:]) for path in PAGES for name in names(path.read_text())}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_references_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    referenced = set(re.findall(r"^\.BR (\S+) \((\d)\)", text, re.MULTILINE))
    assert referenced <= KNOWN | ELSEWHERE
    # What is mentioned is listed at the end, in the order of sections and names, and never the page itself.
    listed = re.findall(r"^\.BR (\S+) \((\d)\)", section(text, "SEE ALSO"), re.MULTILINE)
    itself = {(name, path.suffix[1:]) for name in names(text)}
    assert listed and referenced - itself == set(listed)
    assert listed == sorted(set(listed), key=lambda entry: (entry[1], entry[0]))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_of_the_project_exist(path: Path) -> None:
    named = re.findall(r"(?:core|docs|manifests|man)/[\w./-]*\w", path.read_text().replace(r"\-", "-"))
    for name in named:
        assert "NAME" in name or (ROOT / name).exists(), name


def test_pages_are_linked_from_the_overview() -> None:
    listed = re.findall(r"^\.BR (\S+) \((\d)\)", section(page("kpatch.7"), "SEE ALSO"), re.MULTILINE)
    pages = {(path.stem, path.suffix[1:]) for path in PAGES} - {("kpatch", "7")}
    assert pages <= set(listed)


# --- pages of section 9 against the header ---------------------------------------------------------------


def declared_functions() -> dict[str, str]:
    found = re.findall(r"(?<=; )((?:int|void) \*?(kpatch_\w+)\([^;]*\);)", HEADER.replace("}; ", "; "))
    return {name: text for text, name in found}


def synopsis(path: Path) -> str:
    return squeezed(plain(section(path.read_text(), "SYNOPSIS")))


def test_prototypes_are_those_of_the_header() -> None:
    shown: dict[str, str] = {}
    for path in CONTEXT_PAGES:
        for prototype, name in re.findall(r"((?:int|void) \*?(kpatch_\w+)\([^;]*\);)", synopsis(path)):
            assert name in names(path.read_text())
            shown[name] = prototype
    declared = declared_functions()
    assert {"kpatch_register", "kpatch_unregister"} <= declared.keys()
    assert shown == declared


@pytest.mark.parametrize("path", CONTEXT_PAGES, ids=lambda path: path.name)
def test_structures_are_those_of_the_header(path: Path) -> None:
    for text in re.findall(r"struct kpatch_\w+ \{.*?\};|typedef [^;]*;", synopsis(path)):
        assert text in HEADER


def test_every_structure_and_field_is_described() -> None:
    structures = dict(re.findall(r"struct (kpatch_\w+) \{(.*?)\};", HEADER))
    structures.pop("kpatch_callbacks")
    text = page("kpatch_module.9")
    assert sorted(names(text)) == sorted(structures)
    for name, body in structures.items():
        described = text.partition(f".SS struct {name}\n")[2]
        described = re.split(r"^\.S[SH] ", described, maxsplit=1, flags=re.MULTILINE)[0]
        assert re.findall(r"\.TP\n\.I (\w+)\n", described) == re.findall(r"\*?(\w+);", body)


def test_callbacks_are_described() -> None:
    text = section(page("kpatch_callbacks.9"), "DESCRIPTION")
    body = dict(re.findall(r"struct (kpatch_\w+) \{(.*?)\};", HEADER))["kpatch_callbacks"]
    assert re.findall(r"\.TP\n\.I (\w+)\n", text) == re.findall(r"\(\*(\w+)\)", body)


@pytest.mark.parametrize("path", CONTEXT_PAGES, ids=lambda path: path.name)
def test_sections_that_a_caller_needs(path: Path) -> None:
    text = path.read_text()
    if re.search(r"\bkpatch_\w+\(", plain(section(text, "SYNOPSIS"))):
        assert section(text, "CONTEXT") and section(text, "RETURN VALUE") and section(text, "EXAMPLES")


# --- messages, errors and files against the core ---------------------------------------------------------


def messages() -> Iterator[re.Pattern[str]]:
    """What the core can log, each as an expression."""
    for path in sorted(CODE.glob("*.c")):
        for literal in re.findall(r'pr_(?:err|warn|info)\(("(?:[^"\\]|\\.|"\s*")*")', path.read_text()):
            text = "kpatch: " + re.sub(r'"\s*"', "", literal)[1:-1].removesuffix(r"\n")
            pieces = re.split(r"%[-#*\d]*(?:ph|p[a-zA-Z]|l*[dux]|z?u|s)", text)
            yield re.compile(".+".join(re.escape(piece) for piece in pieces))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_messages_are_the_cores(path: Path) -> None:
    known = list(messages())
    shown = re.findall(r'^\.I "(kpatch: .*)"$', path.read_text().replace(r"\-", "-"), re.MULTILINE)
    for message in shown:
        assert any(pattern.fullmatch(message) for pattern in known), message
    assert shown or path.name != "kpatch.7"


def test_files_in_sysfs_are_all_described() -> None:
    code = (CODE / "sysfs.c").read_text()
    files = set(re.findall(r"__ATTR(?:_R[OW](?:_MODE)?)?\((\w+)", code))
    shown = re.findall(
        r"^\.TP\n\.I (?:patches/\S*/)?(\w+)$", section(page("kpatch.7"), "FILES"), re.MULTILINE
    )
    assert files == set(shown)


@pytest.mark.parametrize("path", CONTEXT_PAGES, ids=lambda path: path.name)
def test_errors_are_those_that_the_core_uses(path: Path) -> None:
    used = set(re.findall(r"-(E[A-Z]+)\b", "".join(file.read_text() for file in CODE.glob("*.c"))))
    shown = set(re.findall(r"^\.B \\-(E[A-Z]+)$", path.read_text(), re.MULTILINE))
    assert shown <= used


def test_every_error_of_registration_is_listed() -> None:
    """What the comment in front of the function promises."""
    comment = (CODE / "main.c").read_text().partition(" * kpatch_register - ")[2].partition("*/")[0]
    promised = set(re.findall(r"-(E[A-Z]+)\b", comment))
    listed = set(
        re.findall(r"^\.B \\-(E[A-Z]+)$", section(page("kpatch_register.9"), "ERRORS"), re.MULTILINE)
    )
    assert promised and promised <= listed


# --- the program, and the manifest ------------------------------------------------------------------------


def test_every_option_of_the_program_is_described() -> None:
    text = plain(page("kbuild-py.1")) + page("kbuild-py.1").replace(r"\-", "-")
    for words, usage in commands(cli._parser()):
        assert words in text
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", usage)) - {"--help"}:
            assert option in text, f"{words} {option}"


def commands(parser: argparse.ArgumentParser, words: str = "") -> Iterator[tuple[str, str]]:
    """The words of every command of kbuild-py, and what it says with --help."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield words.strip(), parser.format_help()
    for action in inner:
        for name, child in action.choices.items():
            yield from commands(child, f"{words} {name}")


def test_every_key_of_a_manifest_is_described() -> None:
    text = page("kbuild-py-manifest.5")

    def check(type_: kinds.Type) -> None:
        match type_:
            case kinds.Mapping():
                for field in type_.fields:
                    assert f"\n.B {field.key}\n" in text.replace(r"\-", "-"), field.key
                    check(field.type)
            case kinds.ListOf():
                check(type_.item)
            case kinds.Either():
                for choice in type_.choices:
                    check(choice)

    for format_ in fields.FORMATS:
        check(format_.top)


@pytest.mark.parametrize(
    ("markdown", "lines"),
    [
        ("A `b-c`. D **e**.", [r"A \fIb\-c\fP.", r"D \fBe\fP."]),
        (".x is hidden", [r"\&.x is hidden"]),
        ("'tis so", [r"\&'tis so"]),
        ("one \\n two", [r"one \en two"]),
    ],
)
def test_text_of_the_manifests_page(markdown: str, lines: list[str]) -> None:
    assert manual.roff(markdown) == lines
