# SPDX-License-Identifier: GPL-2.0-or-later
"""A node tree against its JSON Schema: what does not fit, at its line and column, in a person's words.

jsonschema decides what is valid; this module only translates its errors.  An error names a path into the
data (`objects`, `vmlinux`, `functions`, 0), which leads to the node that has the position, and carries
the part of the schema that failed, whose `errorMessage` says what the value must be.
"""

from __future__ import annotations

import difflib
import itertools
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from kbuild_py.manifest import fields
from kbuild_py.manifest.schema import json_schema
from kbuild_py.manifest.text import (
    MAX_FINDINGS,
    Finding,
    Mapping,
    Node,
    Scalar,
    Sequence,
    Trap,
    data,
    short,
    too_many,
)

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

Path: TypeAlias = tuple[str | int, ...]

_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping (key: value)",
}


@dataclass(frozen=True, slots=True)
class Misfit:
    """A finding and the path of the value that it is about; a missing key has the path that it would have."""

    path: Path
    finding: Finding


@cache
def _validator(format_: fields.Format) -> Validator:
    from jsonschema import Draft202012Validator, validators  # some 45 ms: only for who reads a manifest

    extend: Any = validators.extend
    validator: Validator = extend(Draft202012Validator, {"uniqueItems": _unique})(json_schema(format_))
    return validator


def _unique(_validator: object, _wanted: bool, instance: Any, _schema: object) -> Iterator[ValidationError]:
    """jsonschema's own takes quadratic time for values that do not sort.  Our unique lists hold strings."""
    from jsonschema import ValidationError

    strings = [item for item in instance if isinstance(item, str)] if isinstance(instance, list) else []
    if len(set(strings)) < len(strings):
        yield ValidationError("has non-unique elements")


def check(node: Node, format_: fields.Format) -> list[Misfit]:
    """Everything in the tree that the format's schema does not accept, in the text's order."""
    errors = _validator(format_).iter_errors(data(node))
    translated = (misfit for error in errors for misfit in _translate(error, node))
    misfits = list(dict.fromkeys(itertools.islice(translated, MAX_FINDINGS)))
    if len(misfits) == MAX_FINDINGS:
        misfits.append(Misfit((), too_many(misfits[-1].finding)))
    return sorted(misfits, key=lambda misfit: (misfit.finding.line, misfit.finding.column))


def locate(node: Node, path: Iterable[str | int]) -> Node:
    """The node at a path that exists."""
    for step in path:
        if isinstance(node, Mapping):
            node = node.values[str(step)]
        elif isinstance(node, Sequence):
            node = node.items[int(step)]
    return node


def _translate(error: ValidationError, root: Node) -> Iterator[Misfit]:
    path: Path = tuple(error.absolute_path)
    node = locate(root, path)
    schema: Any = error.schema
    rule: Any = error.validator_value
    must = schema.get("errorMessage", "") if isinstance(schema, dict) else ""
    match error.validator:
        case "anyOf":
            yield from _best_choice(error, node, root, path)
        case "additionalProperties" if isinstance(node, Mapping):
            for key in node.keys:
                if key not in schema["properties"]:
                    yield _unknown_key(path, node.keys[key], list(schema["properties"]), must)
        case "required":
            for key in rule:
                if isinstance(node, Mapping) and key not in node.keys:
                    yield _missing_key(path, node, key, schema)
        case "oneOf" if isinstance(node, Mapping):
            yield _one_of(path, node, [choice["required"][0] for choice in rule])
        case "uniqueItems" if isinstance(node, Sequence):
            yield from _repeated(path, node)
        case "minItems":
            yield _misfit(path, node, f"{_label(path)} is an empty list", "give at least one item")
        case "type":
            yield _wrong_type(path, node, schema["type"], must)
        case "not" if rule == {}:
            yield _misfit(path, _key(root, path), f"{_label(path)}: {must}", "remove this key")
        case _:
            cause = f"{_label(path)}: {short(error.instance)} {must}"
            yield _misfit(path, node, cause, _value_remedy(error.instance, schema))


def _misfit(path: Path, node: Node, cause: str, remedy: str) -> Misfit:
    return Misfit(path, Finding(node.line, node.column, cause, remedy))


def _key(root: Node, path: Path) -> Scalar:
    """The node of the key that a path ends with."""
    parent = locate(root, path[:-1])
    assert isinstance(parent, Mapping)
    return parent.keys[str(path[-1])]


def _label(path: Path) -> str:
    """The path as people write it: objects.vmlinux.functions[0]."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".") or "the file"


def _best_choice(error: ValidationError, node: Node, root: Node, path: Path) -> Iterator[Misfit]:
    """The errors of the one choice whose kind the value has; no choice has it: what the value must be."""
    choices: dict[int, list[ValidationError]] = {}
    for nested in error.context or ():
        choices.setdefault(int(nested.schema_path[0]), []).append(nested)
    for found in choices.values():
        if not any(nested.validator == "type" and not nested.relative_path for nested in found):
            for nested in found:
                yield from _translate(nested, root)
            return
    rule: Any = error.validator_value
    schema: Any = error.schema
    free_text = any(choice["type"] == "string" and "enum" not in choice for choice in rule)
    yield _wrong_type(path, node, "string" if free_text else "", schema["errorMessage"])


def _unknown_key(path: Path, key: Scalar, known: list[str], must: str) -> Misfit:
    near = difflib.get_close_matches(key.text, known, 1, 0.6)
    remedy = f"did you mean {near[0]!r}?" if near else f"the keys here are: {', '.join(known)}"
    if must:
        cause, remedy = f"{_label((*path, key.text))}: {must}", f"did you mean {near[0]!r}?" if near else ""
    elif not key.text:
        cause = "a key is empty"
    else:
        cause = f"unknown key {short(key.text)}" + (f" in {_label(path)}" if path else "")
    return _misfit((*path, key.text), key, cause, remedy)


def _missing_key(path: Path, node: Node, key: str, schema: dict[str, Any]) -> Misfit:
    cause = f"the key {key!r} is missing" + (f" in {_label(path)}" if path else "")
    return _misfit((*path, key), node, cause, _example(key, schema["properties"][key]))


def _example(key: str, schema: dict[str, Any]) -> str:
    if not schema.get("examples"):
        return ""
    return f"for example: {key}: {json.dumps(schema['examples'][0]).strip(chr(34))}"


def _one_of(path: Path, node: Mapping, keys: list[str]) -> Misfit:
    given = [key for key in node.keys if key in keys]
    if not given:
        cause = f"one of the keys {' and '.join(repr(key) for key in keys)} is missing"
        return _misfit((*path, keys[0]), node, cause, f"for one file write {keys[0]}, for several {keys[1]}")
    cause = f"{given[1]!r} cannot be given together with {given[0]!r}"
    return _misfit((*path, given[1]), node.keys[given[1]], cause, "remove one of the two")


def _repeated(path: Path, node: Sequence) -> Iterator[Misfit]:
    lines: dict[str, int] = {}
    for index, item in enumerate(node.items):
        if isinstance(item, Scalar) and isinstance(item.value, str):
            if item.text in lines:
                first = f"first in line {lines[item.text]}"
                cause = f"{_label(path)}: {short(item.text)} is given twice, {first}"
                yield _misfit((*path, index), item, cause, "keep one of the two")
            lines.setdefault(item.text, item.line)


def _wrong_type(path: Path, node: Node, wanted: str, must: str) -> Misfit:
    """A value of a kind that cannot stand here; `wanted` is the schema's type, "" for several."""
    must = must or f"must be {_KINDS[wanted]}"
    label = _label(path)
    if isinstance(node, Sequence):
        return _misfit(path, node, f"{label} {must}, and not a list", "")
    if isinstance(node, Mapping):
        return _misfit(path, node, f"{label} {must}, and not a mapping", "")
    if not node.quoted and not node.text:
        return _misfit(path, node, f"{label} has no value; it {must}", "give a value or remove the key")
    if node.quoted or isinstance(node.value, str):
        remedy = f"write {node.text} without quotes" if _is_kind(node, wanted) else ""
        return _misfit(path, node, f"{label} {must}, and not the text {short(node.text)}", remedy)
    if wanted == "string":
        cause = f"{label} {must}; {short(node.text)} without quotes is {_reads_as(node)}"
        return _misfit(path, node, cause, f"if it is meant as text, quote it: {json.dumps(node.text)[:70]}")
    remedy = {"boolean": "write true or false", "integer": "write it in decimal, for example 1"}.get(
        wanted, ""
    )
    return _misfit(path, node, f"{label} {must}, and not {short(node.text)}", remedy)


def _is_kind(node: Scalar, wanted: str) -> bool:
    if wanted == "boolean":
        return node.text in ("true", "false")
    return wanted == "integer" and re.fullmatch(r"-?[0-9]+", node.text) is not None


def _reads_as(node: Scalar) -> str:
    match node.value:
        case Trap(reads_as):
            return reads_as
        case bool():
            return "a truth value"
        case int():
            return "a number"
        case _:
            return "no value"


def _value_remedy(value: object, schema: dict[str, Any]) -> str:
    """For a value of the right kind that is refused: what was most likely meant."""
    text = str(value)
    pattern = schema.get("pattern")
    if pattern == fields.C_IDENTIFIER:
        if text == "auto":
            return "write functions: auto, without a list"
        if clone := re.fullmatch(r"(\w+)\.[\w.]+", text, re.ASCII):
            return f"write {clone[1]}, which stands for the clones that the compiler makes of it too"
        if call := re.match(r"(\w+) *\(", text, re.ASCII):
            return f"write {call[1]}"
    is_path = pattern in (fields.RELATIVE_PATH, fields.SOURCE_PATH)
    meant = posixpath.normpath(text) if is_path else text.strip()
    for candidate in (meant, meant.lower(), re.sub("[_ ]", "-", meant.lower())):
        if candidate != text and len(candidate) <= 70 and _fits(candidate, schema):
            return f"did you mean {candidate!r}?"
    near = difflib.get_close_matches(text, schema.get("enum", ()), 1, 0.7)
    if near:
        return f"did you mean {near[0]!r}?"
    if pattern == fields.RELATIVE_PATH:
        return "put the file into the manifest's folder and write its name"
    return f"for example: {schema['examples'][0]}" if schema.get("examples") else ""


def _fits(text: str, schema: dict[str, Any]) -> bool:
    forbidden = schema.get("not", {}).get("enum", ())
    return "pattern" in schema and re.search(schema["pattern"], text) is not None and text not in forbidden
