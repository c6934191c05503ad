# SPDX-License-Identifier: GPL-2.0-or-later
"""What the diff answers: a `Delta` (what to ship, and why) or `Verdicts` (why not).

Both are plain data.  Text for people is made from them by `report.py`, JSON by `to_json`; nothing is decided
there any more.  These classes are also the declaration that the JSON Schema is made from (schema.py), and
their docstrings its descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, Protocol

from kbuild_py.delta.anatomy import Place
from kbuild_py.delta.rules import Rule
from kbuild_py.elf.object import ObjectFile
from kbuild_py.errors import Problem

FORMAT = 1  # of the JSON; a change that breaks readers makes it 2


class Status(Enum):
    """What an included function is."""

    CHANGED = "changed"
    NEW = "new"
    COPIED = "copied"  # unchanged


class Cause(Enum):
    """Why a function is included."""

    BODY = "body"  # its instructions differ
    SIZE = "size"  # it is longer or shorter
    REFERENCE = "reference"  # the same instructions reach something else
    TABLE = "table"  # what a table says about its instructions differs
    CONSTANT = "constant"  # it uses a read-only variable whose content changed
    COLD = "cold"  # its unlikely part changed
    PARENT = "parent"  # it is the unlikely part of a changed function
    NEW = "new"  # the original does not have it
    CLONE = "clone"  # the compiler made a clone that the original does not have
    DEAD_END = "dead-end"  # it is unchanged, and copied for the sake of objtool (deadend.py)
    NEARBY = "nearby"  # it is unchanged, and copied because it is called without room (toc.py)
    INLINE = "inline"  # what differs is code of a function that it inlines
    CALLS = "calls"  # it calls a changed function that cannot be redirected


@dataclass(frozen=True, slots=True)
class Why:
    """One reason: `offset` counts from the function's start (None where no place can be named)."""

    cause: Cause
    text: str
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The first instruction that differs between the two versions of a function.

    offset:   from the function's start, in the patched object
    original, patched: the instructions, with the names of what they reach; empty behind a function's end
    source, original_source: file and line of each, where debug information says it
    inlined:  functions whose inlined code one of them is in (the patched one first), outermost first
    """

    offset: int
    original: str
    patched: str
    source: str
    original_source: str
    inlined: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangedFunction:
    """A function in the output.

    name:          its symbol in the output object; for a changed function the name the kernel knows
    original_name: its name in the original object; empty for a new function
    patched_name:  its name in the patched object
    source_name:   the function in the source that a clone or an unlikely part was made from
    aliases:       other names of the same function (a system call has several)
    section:       its section's name
    local:         a static function, as the original object (or for a new one, the patched) has it
    replaces:      the kernel's function is to be redirected to this one; false for new and copied ones, for
                   unlikely parts (`.cold`), which only their parent reaches, and for functions that
                   their callers carry (carry.py)
    carries:       functions (names in the original) that cannot be redirected and that this one reaches
    size:          bytes of code in the output
    original_size: bytes of code in the original; 0 for a new function
    source:        file and line where its code begins, where debug information says it
    first:         the first instruction that differs; null where no instruction does
    force_unsafe:  the source says that the stacks need not be looked at (markers.py)
    """

    name: str
    original_name: str
    patched_name: str
    source_name: str
    aliases: tuple[str, ...]
    section: str
    status: Status
    local: bool
    replaces: bool
    size: int
    why: tuple[Why, ...]
    carries: tuple[str, ...] = ()
    force_unsafe: bool = False
    original_size: int = 0
    source: str = ""
    first: Difference | None = None


@dataclass(frozen=True, slots=True)
class NewData:
    """A variable or named constant that the output brings along."""

    name: str
    patched_name: str
    section: str
    size: int
    local: bool
    why: str


@dataclass(frozen=True, slots=True)
class Reference:
    """An undefined symbol of the output: something that stays where it is.

    local:    it is static in this translation unit, so that its name alone does not identify it
    kind:     "function", "object", or "unknown" for what neither object defines
    section:  where the original object defines it, and at which offset; empty and 0 elsewhere
    defined_in_original: the original object defines it
    """

    name: str
    local: bool
    kind: str
    section: str
    offset: int
    defined_in_original: bool


@dataclass(frozen=True, slots=True)
class PatchCallback:
    """A function that the source wants called when the patch is applied or taken back.

    kind:     "pre_patch", "post_patch", "pre_unpatch", "post_unpatch", "load" or "unload"
    function: its symbol in the output object
    section:  the marker's section in the output object, which holds the function's address
    """

    kind: str
    function: str
    section: str


@dataclass(frozen=True, slots=True)
class Delta:
    """The patch object and the account of it.

    object is None when nothing changed.  `functions` are in the order of the patched object.
    removed: functions and variables that the patched object lacks.
    notes: what a patch author should know; none of it stands in the way.
    imports: namespaces of exports that the output imports.
    """

    object: ObjectFile | None
    functions: tuple[ChangedFunction, ...]
    data: tuple[NewData, ...]
    references: tuple[Reference, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]
    callbacks: tuple[PatchCallback, ...] = ()
    imports: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """There is something to ship."""
        return self.object is not None

    @property
    def locals(self) -> frozenset[str]:
        """Undefined names that mean this translation unit's own, not another's or an export."""
        return frozenset(reference.name for reference in self.references if reference.local)

    def to_json(self) -> dict[str, Any]:
        """The account as JSON values; the object itself is not in it."""
        account = {name: plain(getattr(self, name)) for name in type(self).__slots__ if name != "object"}
        return {"format": FORMAT, "result": "changed" if self.changed else "unchanged", **account}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reason why this pair of objects cannot become a patch.

    place:  object, section and offset, `fork.o(.data.x+0x8)`, or the object alone
    cause:  what is wrong here, one sentence without a full stop
    source: file and line in the source, `kernel/fork.c:120`, where debug information says it
    """

    rule: Rule
    place: Place | str
    cause: str
    source: str = ""

    @property
    def anchor(self) -> str:
        """Where the rule is explained."""
        return f"docs/verdicts.md#{self.rule.name}"

    def problem(self) -> Problem:
        """The verdict as the error that a user sees."""
        place = f"{self.place}: {self.source}" if self.source else str(self.place)
        return Problem(place, f"{self.cause} [{self.rule.name}]", f"{self.rule.remedy} ({self.anchor})")

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {
            "rule": self.rule.name,
            "place": str(self.place),
            "source": self.source,
            "cause": self.cause,
            "remedy": self.rule.remedy,
            "anchor": self.anchor,
        }


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The refusal: every verdict there is, in the order of the objects."""

    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The refusal as JSON values."""
        return {
            "format": FORMAT,
            "result": "refused",
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "notes": list(self.notes),
        }


class Exported(Protocol):
    """Who exports a symbol: "vmlinux" or a module (path without suffix), and in which namespace."""

    @property
    def module(self) -> str: ...

    @property
    def namespace(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Options:
    """What the user may set, and what is known of the kernel around the object.

    entry_sizes: section name -> bytes of a table's entry
    object:      "vmlinux" or the name of the module that the object is linked into; empty when not known
    exports:     what Module.symvers lists, by symbol; None when not known
    known:       names of all symbols that the kernel has; None when not known
    archive:     the library (lib.a) that the object is a member of; empty when it is in none
    """

    entry_sizes: Mapping[str, int] = field(default_factory=dict)
    object: str = ""
    exports: Mapping[str, Exported] | None = None
    known: Set[str] | None = None
    archive: str = ""


def plain(value: Any) -> Any:
    """A dataclass, enum or tuple as JSON values."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    return value
