# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON Schemas (draft 2020-12), made from `fields.py`.

They have two readers.  Editors take the committed files in manifests/schema/ (each manifest names its
schema in a first comment line) and complete, explain and check while a person types.  `check.py`
validates with the same schemas, made in memory, so what an editor accepts and what the build accepts is
one thing.  `errorMessage` is no keyword of the standard, which lets validators ignore it: editors show it
in place of "does not match pattern ...", and so does `check.py`.

    kbuild-py schema --write     write the schemas, docs/manifest.md and its manual page anew
    kbuild-py schema --check     exit status 1 when a committed one is stale
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kbuild_py.errors import Problem, UserError
from kbuild_py.files import write_atomic
from kbuild_py.manifest import fields, kinds, manual, reference

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_FOLDER = Path("manifests/schema")
REFERENCE_PAGE = Path("docs/manifest.md")
MANUAL_PAGE = Path("man/kbuild-py-manifest.5")

Schema = dict[str, Any]


def json_schema(format_: kinds.Format) -> Schema:
    """The JSON Schema of one kind of file."""
    return {
        "$schema": DIALECT,
        "title": format_.title,
        "description": format_.description,
        **_type_schema(format_.top),
    }


def _type_schema(type_: kinds.Type) -> Schema:
    match type_:
        case kinds.Text():
            schema: Schema = {"type": "string", "pattern": type_.pattern}
            if type_.min_length is not None:
                schema["minLength"] = type_.min_length
            if type_.max_length is not None:
                schema["maxLength"] = type_.max_length
            if type_.forbidden:
                schema["not"] = {"enum": list(type_.forbidden)}
            return schema | _message(type_.must)
        case kinds.Word():
            return {"type": "string", "enum": list(type_.values)} | _message(type_.must)
        case kinds.Integer():
            limits = {"type": "integer", "minimum": type_.minimum, "maximum": type_.maximum}
            return limits | _message(type_.must)
        case kinds.Boolean():
            return {"type": "boolean"}
        case kinds.ListOf():
            schema = {"type": "array", "items": _type_schema(type_.item)}
            if not type_.may_be_empty:
                schema["minItems"] = 1
            return schema | ({"uniqueItems": True} if type_.unique else {})
        case kinds.Either():
            return {"anyOf": [_type_schema(choice) for choice in type_.choices]} | _message(type_.must)
        case kinds.Mapping():
            return _mapping_schema(type_)


def _mapping_schema(mapping: kinds.Mapping) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": {field.key: _field_schema(field) for field in mapping.fields},
        "additionalProperties": False,
        "required": [field.key for field in mapping.fields if field.required],
    }
    if mapping.at_most_one:
        schema["not"] = {"required": list(mapping.at_most_one)}
    if mapping.at_least_one:
        schema["anyOf"] = [{"required": [key]} for key in mapping.at_least_one]
    if mapping.excludes:
        schema["dependentSchemas"] = {
            key: {"properties": {other: _excluded_by(key) for other in others}}
            for key, others in mapping.excludes
        }
    if mapping.rest:
        schema["patternProperties"] = {mapping.rest_pattern: _field_schema(mapping.rest)}
        schema["minProperties"] = 1
    if mapping.unknown:
        schema["errorMessage"] = mapping.unknown
    return schema


def _excluded_by(key: str) -> Schema:
    return {"not": {}, "errorMessage": f"cannot be given together with {key}"}


def _field_schema(field: kinds.Field) -> Schema:
    schema: Schema = {"description": field.description.replace("`", "")} | _type_schema(field.type)
    if field.default is not None:
        schema["default"] = field.default
    if field.example is not None:
        schema["examples"] = [field.example]
    return schema


def _message(must: str) -> Schema:
    return {"errorMessage": f"must {must}"}


def generated() -> dict[Path, str]:
    """Every committed file that is made from the declaration: its path from the project's top, its text."""
    schemas = {
        SCHEMA_FOLDER / format_.schema_name: json.dumps(json_schema(format_), indent=2, ensure_ascii=False)
        + "\n"
        for format_ in fields.FORMATS
    }
    return schemas | {REFERENCE_PAGE: reference.page(), MANUAL_PAGE: manual.page()}


def write(root: Path) -> None:
    """Write the generated files below the project's top folder."""
    for path, text in generated().items():
        write_atomic(root / path, text)


def check(root: Path) -> None:
    """Raise `UserError` that names each generated file that is missing or is not what it should be."""
    remedy = "kbuild-py schema --write"
    stale = [
        Problem(str(path), "does not say what kbuild_py/manifest/fields.py declares", remedy)
        for path, text in generated().items()
        if not (root / path).is_file() or (root / path).read_text() != text
    ]
    if stale:
        raise UserError(*stale)
