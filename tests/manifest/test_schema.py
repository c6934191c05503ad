# SPDX-License-Identifier: GPL-2.0-or-later
"""The committed schemas and page are what the declaration makes, and validators agree with the loader."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kbuild_py.errors import UserError
from kbuild_py.manifest import fields, kinds, reference, schema
from kbuild_py.manifest.check import check
from kbuild_py.manifest.text import data, parse
from tests.manifest.project import TOP


def committed(format_: kinds.Format) -> Any:
    return json.loads((TOP / schema.SCHEMA_FOLDER / format_.schema_name).read_text())


VALIDATORS = {format_.name: Draft202012Validator(committed(format_)) for format_ in fields.FORMATS}


def test_committed_files_are_not_stale() -> None:
    schema.check(TOP)


def test_a_stale_file_is_named(tmp_path: Path) -> None:
    schema.write(tmp_path)
    schema.check(tmp_path)
    page = tmp_path / schema.REFERENCE_PAGE
    page.write_text(page.read_text() + "more\n")
    (tmp_path / schema.SCHEMA_FOLDER / "kernel-1.schema.json").unlink()
    with pytest.raises(UserError) as caught:
        schema.check(tmp_path)
    assert [problem.place for problem in caught.value.problems] == [
        "manifests/schema/kernel-1.schema.json",
        "docs/manifest.md",
    ]


@pytest.mark.parametrize("format_", fields.FORMATS, ids=lambda format_: format_.name)
def test_schema_is_valid_and_explains_every_key(format_: kinds.Format) -> None:
    Draft202012Validator.check_schema(committed(format_))

    def walk(part: Any) -> None:
        for key, field in part.get("properties", {}).items():
            if "not" not in field or field["not"]:
                assert field["description"], key
            walk(field)
        for choice in [*part.get("anyOf", ()), *([part["items"]] if "items" in part else ())]:
            walk(choice)
        if part.get("type") == "object":
            assert part["additionalProperties"] is False

    walk(committed(format_))


@pytest.mark.parametrize("format_", fields.FORMATS, ids=lambda format_: format_.name)
def test_example_on_the_page_is_valid(format_: kinds.Format) -> None:
    text = reference.example(format_)
    assert text in (TOP / schema.REFERENCE_PAGE).read_text()
    assert text.startswith(f"# yaml-language-server: $schema={format_.schema_folder}/{format_.schema_name}\n")
    node, findings = parse(text.encode())
    assert (findings, check(node, format_)) == ([], [])


def declared_examples(type_: kinds.Type) -> list[tuple[kinds.Field, Any]]:
    match type_:
        case kinds.Mapping():
            own = [(field, field.example) for field in type_.fields if field.example is not None]
            return own + [pair for field in type_.fields for pair in declared_examples(field.type)]
        case kinds.ListOf():
            return declared_examples(type_.item)
        case kinds.Either():
            return [pair for choice in type_.choices for pair in declared_examples(choice)]
        case _:
            return []


@pytest.mark.parametrize("format_", fields.FORMATS, ids=lambda format_: format_.name)
def test_each_example_fits_its_own_field(format_: kinds.Format) -> None:
    pairs = declared_examples(format_.top)
    assert pairs
    for field, value in pairs:
        single = schema.json_schema(kinds.Format("x", 1, "", "", kinds.Mapping((field,))))
        assert Draft202012Validator(single).is_valid({field.key: value}), field.key


# --- the loader and a validator of somebody else agree ------------------------------------------------

MANIFEST = yaml.safe_load(reference.example(fields.MANIFEST))
KERNEL = yaml.safe_load(reference.example(fields.KERNEL))
MANIFEST["objects"]["vmlinux"]["functions"].append({"name": "f", "source": "a/b.c", "force_unsafe": True})

KEYS = [
    "schema",
    "name",
    "patch",
    "patches",
    "hooks",
    "ext4",
    "stdout",
    "contains",
    "absent",
    "status",
    "run",
    "x",
]
PATHS = ["a.c", "../a.c", "a/../b.c", "/a", "a//b", "a/", ".", "./a", "...", "a b", "a\\b"]
NAMES = ["", "a", "A_1", "foo.isra.0", "if", "f\n", "kernels", "p" * 48, "p" * 49, "6.1.0-1-a", "ü", "a\0"]
WORDS = st.sampled_from(["auto", "kpatch", "livepatch", "atomic", "x86_64", *PATHS, *NAMES])
ATOMS = WORDS | st.text(max_size=6) | st.integers(-2, 300) | st.booleans() | st.none()
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [path, *(place for key in keys for place in places(value[key], (*path, key)))]


@st.composite
def documents(draw: st.DrawFn, valid: Any) -> Any:
    """A valid document after one to three changes: a value replaced, removed, added or copied."""
    document = {"top": copy.deepcopy(valid)}
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([place for place in places(document) if place]))
        holder = document
        for step in path[:-1]:
            holder = holder[step]
        target = holder[path[-1]]
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "replace" or len(path) == 1:
            holder[path[-1]] = draw(VALUES)
        elif change == "remove":
            del holder[path[-1]]
        elif isinstance(target, dict):
            target[draw(st.sampled_from(KEYS))] = draw(VALUES)
        elif isinstance(target, list):
            target.append(draw(VALUES | st.sampled_from(target)) if target else draw(VALUES))
    return document["top"]


def agree(document: Any, format_: kinds.Format) -> None:
    text = "".join(  # JSON is YAML when what cannot be seen is escaped
        character if " " <= character <= "~" else f"\\U{ord(character):08x}"
        for character in json.dumps(document, ensure_ascii=False)
    )
    node, findings = parse(text.encode())
    assert (findings, data(node)) == ([], document)
    misfits = check(node, format_)
    assert (not misfits) == VALIDATORS[format_.name].is_valid(document), (text, misfits)
    assert all(misfit.finding.line == 1 and misfit.finding.cause for misfit in misfits)


@settings(max_examples=400, deadline=None)
@given(documents(MANIFEST))
def test_manifest_loader_agrees_with_the_committed_schema(document: Any) -> None:
    agree(document, fields.MANIFEST)


@settings(deadline=None)
@given(documents(KERNEL))
def test_kernel_loader_agrees_with_the_committed_schema(document: Any) -> None:
    agree(document, fields.KERNEL)
