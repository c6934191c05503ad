# SPDX-License-Identifier: GPL-2.0-or-later
"""A node tree against its JSON Schema: what does not fit, at its line and column, in a person's words.

jsonschema decides what is valid; this module only translates its errors.  An error names a path into the
data (`objects`, `vmlinux`, `functions`, 0), which leads to the node that has the position, and carries
the part of the schema that failed, whose `errorMessage` says what the value must be.  What probably mends
it comes from `remedy.py`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from kbuild_py.manifest import kinds, remedy
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
    """A finding and the path of the value that it is about; a missing key has the path that it would have.

    missing: the finding is that there is no such key
    meant:   for an unknown key, the path of the known one that was probably meant
    """

    path: Path
    finding: Finding
    missing: bool = False
    meant: Path | None = None


@cache
def _validator(format_: kinds.Format) -> Validator:
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


def check(node: Node, format_: kinds.Format) -> list[Misfit]:
    """Everything in the tree that the format's schema does not accept, in the text's order."""
    errors = _validator(format_).iter_errors(data(node))
    translated = (misfit for error in errors for misfit in _translate(error, node))
    misfits = list(dict.fromkeys(itertools.islice(translated, MAX_FINDINGS)))
    if len(misfits) == MAX_FINDINGS:
        misfits.append(Misfit((), too_many(misfits[-1].finding)))
    # A misspelt key is one slip: do not say too that the key which was meant is missing.
    meant = {misfit.meant for misfit in misfits}
    told = [misfit for misfit in misfits if not (misfit.missing and misfit.path in meant)]
    return sorted(told, key=lambda misfit: (misfit.finding.line, misfit.finding.column))


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
    must = schema.get("errorMessage", "")
    match error.validator:
        case "type":
            yield _wrong_kind(path, node, schema)
        case "anyOf" | "not" | "required" if "properties" in schema and not isinstance(node, Mapping):
            pass  # no mapping at all: "type" says so
        case "anyOf" if isinstance(node, Mapping) and "properties" in schema:
            yield _none_of(path, node, [choice["required"][0] for choice in rule], schema)
        case "anyOf":
            yield from _no_choice(path, node, schema, error.context or (), root)
        case "additionalProperties" if isinstance(node, Mapping):
            for key, key_node in node.keys.items():
                known = key in schema["properties"]
                if not known and not any(re.search(one, key) for one in schema.get("patternProperties", ())):
                    yield _unknown_key(path, key_node, schema)
        case "required" if isinstance(node, Mapping):
            for key in rule:
                if key not in node.keys:
                    yield _missing_key(path, node, key, schema)
        case "minProperties":
            yield _misfit(path, node, f"{_label(path)} is empty", remedy.example(schema))
        case "uniqueItems" if isinstance(node, Sequence):
            yield from _repeated(path, node)
        case "minItems":
            yield _misfit(path, node, f"{_label(path)} is an empty list", "give at least one item")
        case "not" if rule == {}:
            yield _misfit(path, _key(root, path), f"{_label(path)}: {must}", "remove this key")
        case "not" if isinstance(node, Mapping) and "required" in rule:
            yield _not_both(path, node, rule["required"])
        case _:
            cause = f"{_label(path)}: {short(error.instance)} {must}"
            yield _misfit(path, node, cause, remedy.for_value(str(error.instance), schema))


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


def _no_choice(
    path: Path, node: Node, schema: Any, nested: Iterable[ValidationError], root: Node
) -> Iterator[Misfit]:
    """The errors of the one choice whose kind the value has; no choice has it: what the value must be."""
    choices: dict[int, list[ValidationError]] = {}
    for error in nested:
        choices.setdefault(int(error.schema_path[0]), []).append(error)
    for errors in choices.values():
        if not any(error.validator == "type" and not error.relative_path for error in errors):
            for error in errors:
                yield from _translate(error, root)
            return
    yield _wrong_kind(path, node, schema)


def _wrong_kind(path: Path, node: Node, schema: Any) -> Misfit:
    """A value of a kind (text, number, list ...) that cannot stand here."""
    is_mapping = "properties" in schema  # its errorMessage is about unknown keys
    must = "" if is_mapping else schema.get("errorMessage", "")
    must = must or f"must be {_KINDS[schema['type']]}"
    label = _label(path)
    if isinstance(node, Sequence):
        return _misfit(path, node, f"{label} {must}, and not a list", "")
    if isinstance(node, Mapping):
        return _misfit(path, node, f"{label} {must}, and not a mapping", "")
    if not node.quoted and not node.text:
        return _misfit(path, node, f"{label} has no value; it {must}", "give a value or remove the key")
    hint = remedy.for_kind(node, schema)
    if isinstance(node.value, str):
        return _misfit(path, node, f"{label} {must}, and not the text {short(node.text)}", hint)
    if "string" in remedy.kinds(schema):
        return _misfit(
            path, node, f"{label} {must}; {short(node.text)} without quotes {_reads_as(node)}", hint
        )
    return _misfit(path, node, f"{label} {must}, and not {short(node.text)}", hint)


def _reads_as(node: Scalar) -> str:
    match node.value:
        case Trap(reads_as):
            return f"is {reads_as}"
        case bool():
            return "is a truth value"
        case int():
            return "is a number"
        case _:
            return "means no value"


def _unknown_key(path: Path, key: Scalar, schema: Any) -> Misfit:
    known = list(schema["properties"])
    near = remedy.nearest(key.text, known)
    plain = key.text.replace("-", "_")
    if any(re.search(one, plain) for one in schema.get("patternProperties", ())):
        near = plain
    if "errorMessage" in schema:
        cause = f"{_label((*path, key.text))}: {schema['errorMessage']}"
    elif key.text:
        cause = f"unknown key {short(key.text)}" + (f" in {_label(path)}" if path else "")
    else:
        cause = "a key is empty"
    hint = f"did you mean {near!r}?" if near else f"the keys here are: {', '.join(known)}"
    finding = Finding(key.line, key.column, cause, hint)
    return Misfit((*path, key.text), finding, meant=(*path, near) if near else None)


def _missing_key(path: Path, node: Node, key: str, schema: Any) -> Misfit:
    cause = f"the key {key!r} is missing" + (f" in {_label(path)}" if path else "")
    finding = Finding(node.line, node.column, cause, remedy.example(schema["properties"][key], key))
    return Misfit((*path, key), finding, missing=True)


def _none_of(path: Path, node: Mapping, keys: list[str], schema: Any) -> Misfit:
    """None of these keys is there, and one must be."""
    known = list(schema["properties"])
    meant = [remedy.nearest(key, known) for key in node.keys if key not in known]
    first = next((key for key in keys if key in meant), keys[0])
    cause = f"one of the keys {', '.join(repr(key) for key in keys)} is missing"
    finding = Finding(node.line, node.column, cause, remedy.example(schema["properties"][first], first))
    return Misfit((*path, first), finding, missing=True)


def _not_both(path: Path, node: Mapping, keys: list[str]) -> Misfit:
    """Both keys are there, and only one may be."""
    given = [key for key in node.keys if key in keys]
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
