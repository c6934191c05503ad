# SPDX-License-Identifier: GPL-2.0-or-later
"""The YAML reader: which plain words are text, where things stand, what is refused before any key is read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kbuild_py.errors import UserError
from kbuild_py.manifest.text import MAX_BYTES, Trap, data, parse, plain_value, read

ALIKE = {"true": True, "False": False, "0": 0, "-7": -7, "42": 42, "": None, "~": None, "Null": None}
TRAPS = "no Yes OFF y N 0001 +1 0o17 0x1F 0b1 1_000 12:30 190:20:30.15 1.10 1. .5 1e3 -1.5E-7 -.inf .NaN"
TEXTS = "vmlinux meminfo_proc_show 6.1.176-1 6.1.0-50-amd64 x86_64 nope e1 1a a:b . 1.2.3 0xyz 2026-02"


@pytest.mark.parametrize(("word", "value"), ALIKE.items())
def test_words_that_every_version_reads_alike(word: str, value: object) -> None:
    assert plain_value(word) == value


@pytest.mark.parametrize("word", [*TRAPS.split(" "), "2026-02-03", "2026-2-3 10:11:12", "9" * 19])
def test_words_that_are_traps(word: str) -> None:
    assert isinstance(plain_value(word), Trap)


@pytest.mark.parametrize("word", TEXTS.split(" "))
def test_words_that_are_text(word: str) -> None:
    assert plain_value(word) == word


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii", min_codepoint=0x21), min_size=1, max_size=8))
def test_text_is_what_pyyaml_reads_as_the_same_text(word: str) -> None:
    """PyYAML, which reads YAML 1.1, is the oracle: text here is text there."""
    try:
        (read_word,) = yaml.safe_load(f"[{word}]")
    except (yaml.YAMLError, ValueError):
        return
    node, _ = parse(f"[{word}]".encode())
    if node is not None and data(node) == [word]:
        assert read_word == word or word in ("=", "<<")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\xef\xbb\xbfschema: 1\n", "1:1: starts with a byte order mark"),
        ("schema: 1\n".encode("utf-16"), "1:1: is not UTF-8 but UTF-16 or UTF-32"),
        (b"schema: 1\nname: caf\xe9\n", "2:10: is not UTF-8: byte 0xe9"),
        (b"a: 1\r\nb: caf\xe9\r\n", "2:7: is not UTF-8: byte 0xe9"),
        (b"a: x\0y\n", "1:5: the character U+0000 cannot be seen and is not allowed here"),
        (b"a: \x1b[1m\n", "1:4: the character U+001B cannot be seen and is not allowed here"),
        ("a: 1\nb: x\u2028y".encode(), "2:5: the character U+2028 cannot be seen and is not allowed here"),
        ("a: \x85b".encode(), "1:4: the character U+0085 cannot be seen and is not allowed here"),
    ],
)
def test_encodings_and_unseen_characters(content: bytes, error: str) -> None:
    node, (finding,) = parse(content)
    assert node is None
    assert f"{finding.line}:{finding.column}: {finding.cause}" == error
    assert finding.remedy


def test_places_count_characters_from_one() -> None:
    node, findings = parse("ä: {ö: [ü, x]}\r\nb:\r\n  c: d\r\n".encode())
    assert not findings
    assert data(node) == {"ä": {"ö": ["ü", "x"]}, "b": {"c": "d"}}
    x = node.values["ä"].values["ö"].items[1]
    d = node.values["b"].values["c"]
    assert [(x.line, x.column), (d.line, d.column)] == [(1, 12), (3, 6)]


def test_strings_stay_as_written() -> None:
    node, findings = parse(b"a: |\n  one\n    two\nb: \"x\\ty\"\nc: 'no'\nd: '0001'\n")
    assert not findings
    assert data(node) == {"a": "one\n  two\n", "b": "x\ty", "c": "no", "d": "0001"}


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "{a: " * 30_000,
        "- " * 60_000,
        "? " * 60_000,
        "&a " * 40_000,
        "a: 1\n" * 25_000,
        "'" * 120_000,
        '"\\' * 60_000,
        "a: " + "../" * 40_000,
        "[" + "*a, " * 30_000 + "]",
    ],
)
def test_hostile_text_ends_soon_with_few_findings(content: str) -> None:
    start = time.monotonic()
    _, findings = parse(content.encode())
    assert time.monotonic() - start < 10
    assert len(findings) <= 101
    assert all(len(finding.cause) < 300 for finding in findings)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_tree_or_findings(content: bytes) -> None:
    node, findings = parse(content)
    assert node is not None or findings


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "loop").symlink_to("loop")
    causes = {}
    for name in (".", "pipe", "large", "loop", "missing", "n" * 300):
        with pytest.raises(UserError) as caught:
            read(tmp_path / name, "shown")
        causes[name[:7]] = str(caught.value)
    assert causes == {
        ".": "shown: is a folder, not a file",
        "pipe": "shown: is not a regular file",
        "large": "shown: is larger than 128 KiB, which no file of this kind needs",
        "loop": "shown: cannot read: Too many levels of symbolic links",
        "missing": "shown: there is no such file",
        "nnnnnnn": "shown: cannot read: File name too long",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.touch(mode=0)
    with pytest.raises(UserError, match="cannot read: Permission denied"):
        read(file, "shown")
