# SPDX-License-Identifier: GPL-2.0-or-later
"""YAML text -> a tree of nodes that know their line and column; or what is wrong with the text.

YAML reads plain words in surprising ways, and versions 1.1 and 1.2 differ: `no` is false, `0001` is 1,
`12:30` is 750, `1.10` is 1.1.  This reader takes YAML's syntax from PyYAML but gives plain words their
meaning itself.  What every version of YAML reads as the same truth value or whole number is one; what any
version reads as something other than text becomes a `Trap`, which no schema accepts, so that the person
has to write which is meant; the rest is text, exactly as written.

Refused in the text itself, since no manifest needs them and readers trip over them: aliases, anchors and
merge keys (they can also make a small file expand without end), tags, duplicate keys, several documents,
characters that cannot be seen, encodings other than UTF-8.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from kbuild_py.errors import refuse

MAX_BYTES = 128 << 10
MAX_DEPTH = 20
MAX_FINDINGS = 100

# The parser in C is some ten times faster; the one in Python gives the same events.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem with its place in the file; line and column count from 1."""

    line: int
    column: int
    cause: str
    remedy: str = ""


def short(value: object) -> str:
    """The value in quotes, for a message; a long one only by its start."""
    text = repr(value)
    return text if len(text) <= 70 else f"{text[:60]}... ({len(str(value))} characters)"


def too_many(last: Finding) -> Finding:
    """What is said in place of the problems after `MAX_FINDINGS`."""
    return Finding(last.line, last.column, f"more than {MAX_FINDINGS} problems; the rest is not shown")


@dataclass(frozen=True, slots=True)
class Trap:
    """A plain word that some YAML versions do not read as text; `reads_as` says as what."""

    reads_as: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """A word or string.  `text` as written; `value` is str, int, bool, None or `Trap`."""

    line: int
    column: int
    text: str
    quoted: bool
    value: str | int | bool | Trap | None


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    line: int
    column: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values; `keys` has each key's own node."""

    line: int
    column: int
    keys: dict[str, Scalar]
    values: dict[str, Node]


Node: TypeAlias = Scalar | Sequence | Mapping

_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TRAPS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reads_as)
    for pattern, reads_as in (
        (r"y|yes|n|no|on|off", "a truth value in YAML 1.1"),
        (r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-f_]+|[0-9][0-9_]*)", "a number"),
        (r"[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)(e[-+]?[0-9]+)?|[-+]?\.inf|\.nan", "a number"),
        (r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?", "a number in base 60 in YAML 1.1"),
        (r"\d{4}-\d\d?-\d\d?([Tt \t]+\d\d?:\d\d:\d\d.*)?", "a date"),
    )
)
_DECIMAL = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)


def plain_value(text: str) -> str | int | bool | Trap | None:
    """What a word without quotes means."""
    if text in ("", "~") or text.lower() == "null":
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _DECIMAL.fullmatch(text):
        return int(text)
    for pattern, reads_as in _TRAPS:
        if pattern.fullmatch(text):
            return Trap(reads_as)
    return text


def read(path: Path, shown: str) -> bytes:
    """The bytes of a file that a person wrote; `UserError` when it cannot be one."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise refuse(shown, "is a folder, not a file")
        if not stat.S_ISREG(mode):
            raise refuse(shown, "is not a regular file")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise refuse(shown, "there is no such file") from error
    except OSError as error:
        raise refuse(shown, f"cannot read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise refuse(shown, f"is larger than {MAX_BYTES >> 10} KiB, which no file of this kind needs")
    return content


def parse(content: bytes) -> tuple[Node | None, list[Finding]]:
    """The tree, or None where the text has none, and everything found wrong on the way."""
    text, findings = _decode(content)
    if text is None or findings:
        return None, findings
    composer = _Composer(_Parser(text))
    try:
        return composer.document(), composer.findings
    except yaml.MarkedYAMLError as error:
        return None, [*composer.findings, _syntax_finding(error, text)]
    except _GiveUpError as error:
        return None, [*composer.findings, error.finding]


def data(node: Node) -> Any:
    """The tree as the plain values that JSON Schema speaks of."""
    if isinstance(node, Mapping):
        return {key: data(value) for key, value in node.values.items()}
    if isinstance(node, Sequence):
        return [data(item) for item in node.items]
    return node.value


# Characters that YAML forbids, and the line breaks and marks that most programs do not show.
_UNSEEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def _decode(content: bytes) -> tuple[str | None, list[Finding]]:
    if content.startswith(b"\xef\xbb\xbf"):
        return None, [Finding(1, 1, "starts with a byte order mark", "save it as UTF-8 without one")]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None, [Finding(1, 1, "is not UTF-8 but UTF-16 or UTF-32", "save it as UTF-8")]
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        line, column = _position(before, len(before))
        cause = f"is not UTF-8: byte 0x{content[error.start]:02x}"
        return None, [Finding(line, column, cause, "save it as UTF-8")]
    findings = []
    for match in _UNSEEN.finditer(text):
        line, column = _position(text, match.start())
        code = ord(match[0])
        escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
        cause = f"the character U+{code:04X} cannot be seen and is not allowed here"
        remedy = f'remove it, or write "{escape}" in double quotes where it is meant'
        findings.append(Finding(line, column, cause, remedy))
        if len(findings) == 10:  # a binary file: more of the same helps nobody
            break
    return text, findings


def _position(text: str, index: int) -> tuple[int, int]:
    lines = re.split(r"\r\n|\r|\n", text[:index])
    return len(lines), len(lines[-1]) + 1


# A part of the parser's message -> what usually mends it.
_SYNTAX_REMEDIES = (
    ("mapping values are not allowed", "check the indentation; text that contains ': ' needs quotes"),
    ("could not find expected ':'", "write 'key: value'; text over several lines needs quotes or '|'"),
    ("did not find expected key", "check the indentation: keys of one mapping start in one column"),
    ("did not find expected '-' indicator", "check the indentation: items of one list start in one column"),
    ("did not find expected ',' or", "check the brackets and commas; text that contains them needs quotes"),
    ("unexpected end of stream", "close the quotes"),
    (
        "unknown escape character",
        "a backslash in double quotes starts an escape: double it, or use single quotes",
    ),
    ("cannot start any token", "text that starts with @, ` or % needs quotes"),
)


def _syntax_finding(error: yaml.MarkedYAMLError, text: str) -> Finding:
    mark = error.problem_mark or error.context_mark
    line, column, index = (mark.line + 1, mark.column + 1, mark.index) if mark else (1, 1, 0)
    problem = error.problem or "cannot be parsed"
    if "tab character" in problem or (
        text[index : index + 1] == "\t" and "cannot start any token" in problem
    ):
        return Finding(line, column, "a tab indents this line", "indent with spaces")
    context = f" {error.context}" if error.context else ""
    if error.context_mark and error.context_mark.line + 1 != line:
        context += f" (from line {error.context_mark.line + 1})"
    remedy = next((remedy for part, remedy in _SYNTAX_REMEDIES if part in problem), "")
    return Finding(line, column, f"is not YAML:{context}{':' if context else ''} {problem}", remedy)


class _GiveUpError(Exception):
    """Ends the reading of a text that no person meant; the last finding says why."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding


@dataclass(slots=True)
class _Composer:
    """Makes nodes from PyYAML's events, a recursive descent of bounded depth."""

    parser: Any
    findings: list[Finding] = field(default_factory=list)

    def document(self) -> Node | None:
        """The single document of the text; None when there is none."""
        self.parser.get_event()  # start of the stream
        event = self.parser.get_event()
        if isinstance(event, yaml.StreamEndEvent):
            self.findings.append(Finding(1, 1, "is empty", "start it with: schema: 1"))
            return None
        node = self._node(0)
        self.parser.get_event()  # end of the document
        event = self.parser.get_event()
        if not isinstance(event, yaml.StreamEndEvent):
            line, column = event.start_mark.line + 1, event.start_mark.column + 1
            remedy = "write one file for each, and remove '---'"
            self._find(line, column, "a second document starts here", remedy)
        return node

    def _find(self, line: int, column: int, cause: str, remedy: str) -> None:
        self.findings.append(Finding(line, column, cause, remedy))
        if len(self.findings) == MAX_FINDINGS:
            raise _GiveUpError(too_many(self.findings[-1]))

    def _node(self, depth: int) -> Node:
        event = self.parser.get_event()
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, yaml.AliasEvent):
            cause = f"the alias {short(f'*{event.anchor}')} is not allowed"
            remedy = "write the value itself; text that starts with * needs quotes"
            self._find(line, column, cause, remedy)
            return Scalar(line, column, f"*{event.anchor}", False, None)
        if event.anchor is not None:
            cause = f"the anchor {short(f'&{event.anchor}')} is not allowed"
            self._find(line, column, cause, "remove it; text that starts with & needs quotes")
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            cause = f"the tag {short(tag)} is not allowed"
            self._find(line, column, cause, "remove it; quotes make a value text")
        if isinstance(event, yaml.ScalarEvent):
            quoted = event.style not in (None, "")
            value = event.value if quoted else plain_value(event.value)
            return Scalar(line, column, event.value, quoted, value)
        if depth == MAX_DEPTH:
            cause = f"is nested more than {MAX_DEPTH} levels deep here"
            raise _GiveUpError(Finding(line, column, cause, "no key needs that"))
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not self.parser.check_event(yaml.SequenceEndEvent):
                items.append(self._node(depth + 1))
            self.parser.get_event()
            return Sequence(line, column, tuple(items))
        return self._mapping(line, column, depth)

    def _mapping(self, line: int, column: int, depth: int) -> Mapping:
        keys: dict[str, Scalar] = {}
        values: dict[str, Node] = {}
        while not self.parser.check_event(yaml.MappingEndEvent):
            key = self._node(depth + 1)
            value = self._node(depth + 1)
            if not isinstance(key, Scalar):
                cause = "a key must be a word, not a list or mapping"
                self._find(key.line, key.column, cause, "check the brackets and indentation")
            elif key.text == "<<" and not key.quoted:
                cause = "the merge key << is not allowed"
                self._find(key.line, key.column, cause, "write the keys themselves")
            elif key.text in keys:
                cause = f"the key {short(key.text)} is given twice, first in line {keys[key.text].line}"
                self._find(key.line, key.column, cause, "keep one of the two")
            else:
                keys[key.text], values[key.text] = key, value
        self.parser.get_event()
        return Mapping(line, column, keys, values)
