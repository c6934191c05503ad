# SPDX-License-Identifier: GPL-2.0-or-later
"""What a declaration of a file format is made of: the kinds of values, keys, and the format itself.

`fields.py` declares with these; the schemas, the reference page and the man page are made from them.

`must` completes the sentence "this value must ...": people read it in errors and in their editors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    """A string that matches `pattern`; `forbidden` are strings that match and are refused all the same."""

    pattern: str
    must: str
    max_length: int | None = None
    min_length: int | None = None
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """One of a few strings."""

    values: tuple[str, ...]
    must: str


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number, both limits included."""

    minimum: int
    maximum: int
    must: str


@dataclass(frozen=True, slots=True)
class Boolean:
    """true or false."""


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; `unique`: no two equal items; `may_be_empty`: else it has at least one."""

    item: Type
    unique: bool = False
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values, no other keys; at least one where there is `rest`.

    rest:         keys that match `rest_pattern` are allowed, too; this is what each of them is, and its
                  `key` is what stands for their names in the documentation
    at_most_one:  of these two keys one may be given, and not both
    at_least_one: of these keys one must be given
    excludes:     (key, others): where `key` is given none of the others may be
    unknown:      said of a key that is not declared; empty: "unknown key"
    """

    fields: tuple[Field, ...]
    at_most_one: tuple[str, ...] = ()
    at_least_one: tuple[str, ...] = ()
    excludes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unknown: str = ""
    rest: Field | None = None
    rest_pattern: str = ""

    def default(self, key: str) -> str | int | bool | None:
        """What a missing key means."""
        return next(field.default for field in self.fields if field.key == key)


@dataclass(frozen=True, slots=True)
class Either:
    """One of several types that differ in their kind (string, list, mapping)."""

    choices: tuple[Type, ...]
    must: str


Type: TypeAlias = Text | Word | Integer | Boolean | ListOf | Mapping | Either
Example: TypeAlias = str | int | bool | list["Example"] | dict[str, "Example"]


@dataclass(frozen=True, slots=True)
class Field:
    """A key.  `default` is what a missing key means (None: nothing); `example` is a value to show."""

    key: str
    type: Type
    description: str
    required: bool = False
    default: str | int | bool | None = None
    example: Example | None = None


@dataclass(frozen=True, slots=True, eq=False)  # compared and hashed by identity
class Format:
    """A kind of file: the name and version of its schema, and its top mapping.

    schema_folder: where the schemas are, seen from such a file's folder
    """

    name: str
    version: int
    title: str
    description: str
    top: Mapping
    schema_folder: str = "../schema"

    @property
    def schema_name(self) -> str:
        """The file name of the committed JSON Schema."""
        return f"{self.name}-{self.version}.schema.json"
