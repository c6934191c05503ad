# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON Schema (draft 2020-12) of the diff's account, made from the classes in `model.py`.

What `kbuild-py diff --json` writes is read by other programs; the committed schema in docs/schema/ is what
they can rely on.  Types come from the classes' annotations, descriptions from their docstrings, where a line
`name: text` describes a field.  A test validates accounts with it, and fails when the file is stale.

    python -m kbuild_py.delta.schema > docs/schema/diff-1.schema.json
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from kbuild_py.delta.model import FORMAT, Delta, Verdict, Verdicts
from kbuild_py.delta.rules import RULES

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FIELD = re.compile(r"^ {4}(?P<names>\w+(?:, \w+)*): +(?P<text>.*(?:\n {5,}.*)*)", re.MULTILINE)
_SIMPLE = {str: "string", int: "integer", bool: "boolean", NoneType: "null"}


def diff_schema() -> Schema:
    """The schema of what `diff --json` writes."""
    definitions: Schema = {}
    account = _object(Delta, definitions, without=("object",))
    refusal = _object(Verdicts, definitions)
    refusal["properties"]["verdicts"]["items"] = {"$ref": "#/$defs/Verdict"}
    definitions["Verdict"] = _verdict()
    return {
        "$schema": DIALECT,
        "title": "Account of kbuild-py diff",
        "description": "What changed between two objects, or why the pair is refused.",
        "oneOf": [_with_result(account, ["changed", "unchanged"]), _with_result(refusal, ["refused"])],
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def _with_result(schema: Schema, results: list[str]) -> Schema:
    head = {"format": {"const": FORMAT}, "result": {"enum": results}}
    schema["properties"] = head | schema["properties"]
    schema["required"] = [*head, *schema["required"]]
    return schema


def _verdict() -> Schema:
    """A verdict is written with its rule's texts in place of the rule."""
    texts = _descriptions(Verdict) | {
        "rule": "the rule's name",
        "remedy": "what to do instead",
        "anchor": "where the rule is explained",
    }
    names = ("rule", "place", "source", "cause", "remedy", "anchor")
    properties: Schema = {name: {"type": "string", "description": texts[name]} for name in names}
    properties["rule"]["enum"] = [rule.name for rule in RULES]
    return _closed(_summary(Verdict), properties)


def _object(kind: type, definitions: Schema, without: tuple[str, ...] = ()) -> Schema:
    hints, texts = get_type_hints(kind), _descriptions(kind)
    properties: Schema = {}
    for item in fields(kind):
        if item.name not in without and hints[item.name] != tuple[Verdict, ...]:
            properties[item.name] = _type(hints[item.name], definitions)
        elif item.name not in without:
            properties[item.name] = {"type": "array"}
        if item.name in properties and item.name in texts:
            properties[item.name] = {"description": texts[item.name]} | properties[item.name]
    return _closed(_summary(kind), properties)


def _closed(description: str, properties: Schema) -> Schema:
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _type(kind: Any, definitions: Schema) -> Schema:
    if kind in _SIMPLE:
        return {"type": _SIMPLE[kind]}
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _type(get_args(kind)[0], definitions)}
    if get_origin(kind) in (Union, UnionType):
        return {"anyOf": [_type(choice, definitions) for choice in get_args(kind)]}
    if isinstance(kind, type) and issubclass(kind, Enum):
        definitions[kind.__name__] = {"description": _summary(kind), "enum": [item.value for item in kind]}
    elif is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # known already, should it refer to itself
            definitions[kind.__name__] = _object(kind, definitions)
    else:
        raise TypeError(f"{kind} has no JSON form")
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ").replace("`", "")


def _descriptions(kind: type) -> dict[str, str]:
    """Field -> what the docstring says of it."""
    return {
        name: re.sub(r"\s+", " ", match["text"]).strip().replace("`", "")
        for match in _FIELD.finditer(kind.__doc__ or "")
        for name in match["names"].split(", ")
    }


def schema_text() -> str:
    """The committed file's text."""
    return json.dumps(diff_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
