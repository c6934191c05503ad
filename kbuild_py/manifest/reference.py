# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference page docs/manifest.md, made from `fields.py`.

Each kind of file gets an example that shows every key once it can, and one section for each mapping in
it, with a row for each key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import yaml

from kbuild_py.manifest import fields, kinds

_INTRODUCTION = """\
# Manifests and kernel descriptions

<!-- Made from kbuild_py/manifest/fields.py by `kbuild-py schema --write`; edit that. -->

A manifest says what a patch changes, for which kernels, and how to see that it works. It is read strictly:
an unknown or repeated key, or a word that YAML versions read in different ways (`no`, `0001`, `12:30`), is
an error with its line and column. Text like that goes in quotes: `"no"`. Aliases, anchors, tags and merge
keys are not used.

The first line of the examples is for editors with a YAML language server: they complete keys, show what is
written here, and check while you type.
"""


def example(format_: kinds.Format) -> str:
    """A complete file of the format, valid but for the files that it names."""
    top = format_.top
    left_out = top.at_most_one[1:]
    values = {field.key: field.example for field in top.fields if field.key not in left_out}
    modeline = f"# yaml-language-server: $schema={format_.schema_folder}/{format_.schema_name}\n"
    return modeline + yaml.safe_dump(values, sort_keys=False, width=100)


def page() -> str:
    """The whole page, in Markdown."""
    parts = [_INTRODUCTION]
    for format_, file in (
        (fields.MANIFEST, "manifests/NAME/manifest.yaml"),
        (fields.KERNEL, "manifests/kernels/NAME.yaml"),
        (fields.BUILD, "kbuild-py.yaml"),
    ):
        parts.append(f"## {format_.title}: `{file}`\n\n{format_.description}\n")
        parts.append(f"```yaml\n{example(format_)}```\n")
        for same, mapping in groups(format_):
            heading = f"### In {', '.join(f'`{path}`' for path in same)}\n\n" if same != [""] else ""
            parts.append(heading + _table(mapping))
    return "\n".join(parts)


def groups(format_: kinds.Format) -> Iterator[tuple[list[str], kinds.Mapping]]:
    """Each mapping of the format once, outermost first, with the paths of all keys that take it."""
    paths: dict[int, list[str]] = {}
    mappings = dict(_mappings("", format_.top))
    for path, mapping in mappings.items():
        paths.setdefault(id(mapping), []).append(path)
    for same in paths.values():
        yield same, mappings[same[0]]


def _mappings(path: str, type_: kinds.Type) -> Iterator[tuple[str, kinds.Mapping]]:
    """Each mapping that can stand in a value of the type, outermost first, with its path."""
    match type_:
        case kinds.Mapping():
            yield path, type_
            for field in all_fields(type_):
                yield from _mappings(f"{path}.{field.key}".removeprefix("."), field.type)
        case kinds.ListOf():
            yield from _mappings(f"{path}[]", type_.item)
        case kinds.Either():
            for choice in type_.choices:
                yield from _mappings(path, choice)


def all_fields(mapping: kinds.Mapping) -> tuple[kinds.Field, ...]:
    """The keys of a mapping, with what stands for those that are not named one by one."""
    return (*mapping.fields, mapping.rest) if mapping.rest else mapping.fields


def _table(mapping: kinds.Mapping) -> str:
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for field in all_fields(mapping):
        meaning_ = meaning(field).replace("|", "\\|")
        rows.append(f"| `{field.key}` | {value(field, mapping)} | {meaning_} |")
    return "\n".join(rows) + "\n"


def value(field: kinds.Field, mapping: kinds.Mapping) -> str:
    """What may stand there, and whether it must, in Markdown."""
    need = "optional"
    if field.required:
        need = "**required**"
    elif field.key in mapping.at_least_one:
        need = f"**at least one of {', '.join(f'`{key}`' for key in mapping.at_least_one)}**"
    elif field.default is not None:
        need = f"default `{json.dumps(field.default).strip(chr(34))}`"
    return f"{_kind(field.type)}; {need}"


def _kind(type_: kinds.Type) -> str:
    match type_:
        case kinds.Text() | kinds.Word() | kinds.Integer() | kinds.Either():
            return type_.must.removeprefix("be ")
        case kinds.Boolean():
            return "true or false"
        case kinds.ListOf():
            inner = "mappings" if isinstance(type_.item, kinds.Mapping) else _kind(type_.item)
            return f"list of {inner}" if inner == "mappings" else f"list, each item {inner}"
        case _:
            return "mapping"


def meaning(field: kinds.Field) -> str:
    """What the key says, in Markdown."""
    text = field.description
    if isinstance(field.example, str | int):
        text += f" Example: `{json.dumps(field.example).strip(chr(34))}`"
    return text
