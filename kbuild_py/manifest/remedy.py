# SPDX-License-Identifier: GPL-2.0-or-later
"""What probably mends a value that the schema refuses: the hint below an error.

A guess is only offered where the schema accepts it.  Where there is none, an example from the declaration
shows what a value looks like; an empty string means that the error already says everything.
"""

from __future__ import annotations

import difflib
import json
import posixpath
import re
from collections.abc import Iterable
from typing import Any

from kbuild_py.manifest import fields
from kbuild_py.manifest.text import Scalar

_LONGEST = 70  # of a guess that is worth printing


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known word that is spelt most like this one, or an empty string."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, cutoff)), "")


def example(schema: dict[str, Any], key: str = "") -> str:
    """`for example: KEY: VALUE` with the declaration's own example, or an empty string."""
    if "examples" not in schema:
        return ""
    value = schema["examples"][0]
    text = value if isinstance(value, str) else json.dumps(value)
    return f"for example: {key}: {text}" if key else f"for example: {text}"


def kinds(schema: dict[str, Any]) -> set[str]:
    """The schema's types, without those that take only a few fixed words."""
    return {choice["type"] for choice in _choices(schema) if "enum" not in choice}


def _choices(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [schema] if "type" in schema else schema["anyOf"]


def for_kind(node: Scalar, schema: dict[str, Any]) -> str:
    """For a word that stands where another kind of value is wanted."""
    wanted = kinds(schema)
    if isinstance(node.value, str):
        if "boolean" in wanted and node.text in ("true", "false"):
            return f"write {node.text} without quotes"
        if "integer" in wanted and re.fullmatch(r"-?[0-9]{1,18}", node.text, re.ASCII):
            return f"write {node.text} without quotes"
        if "array" in wanted:
            return _as_list(node.text)
        if "object" in wanted and len(schema.get("required", ())) == 1 and len(node.text) <= _LONGEST:
            return f"write {schema['required'][0]}: {node.text}"
        return ""
    if "string" in wanted:
        accepted = any(_fits(node.text, choice) for choice in _choices(schema))
        return f"if it is meant as text, quote it: {json.dumps(node.text)}" if accepted else example(schema)
    if "boolean" in wanted:
        return "write true or false"
    return "write it in decimal, for example 1" if "integer" in wanted else ""


def for_value(text: str, schema: dict[str, Any]) -> str:
    """For a value of the right kind."""
    pattern = schema.get("pattern")
    if pattern == fields.C_IDENTIFIER:
        if text == "auto":
            return "write functions: auto, without a list"
        if clone := re.fullmatch(r"(\w+)\.[\w.]+", text, re.ASCII):
            return f"write {clone[1]}, which stands for the clones that the compiler makes of it too"
        if call := re.match(r"(\w+) *\(", text, re.ASCII):
            return f"write {call[1]}"
    if pattern in (fields.RELATIVE_PATH, fields.SOURCE_PATH):
        text = posixpath.normpath(text)
    for guess in (text, text.strip(), text.strip().lower(), re.sub("[_ ]", "-", text.strip().lower())):
        if _fits(guess, schema):
            return f"did you mean {guess!r}?"
    if near := nearest(text, schema.get("enum", ()), 0.7):
        return f"did you mean {near!r}?"
    if pattern == fields.RELATIVE_PATH:
        return "put the file into the manifest's folder and write its name"
    if schema.get("enum") == ["auto"]:
        return _as_list(text)
    return example(schema)


def _as_list(text: str) -> str:
    return f"write [{text}]" if re.fullmatch(r"[\w./-]{1,70}", text) else "write a list: [one, two]"


def _fits(text: str, schema: dict[str, Any]) -> bool:
    """Whether the schema of a text accepts it, and it is short enough to be printed."""
    longest = min(_LONGEST, schema.get("maxLength", _LONGEST))
    forbidden = schema.get("not", {}).get("enum", ())
    matches = "pattern" in schema and re.search(schema["pattern"], text) is not None
    return matches and schema.get("minLength", 0) <= len(text) <= longest and text not in forbidden
