# SPDX-License-Identifier: GPL-2.0-or-later
"""What the proof says: a state for each function, an address for each symbol, and why not.

A `Proof` travels between tasks as JSON and is shown to people as text.  Addresses are those of the image
as it was linked (without KASLR).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

FORMAT = 2


class State(Enum):
    """What is known of a function."""

    PROVEN = "proven"  # its bytes and all that they refer to are in the image, at one certain address
    OVERRIDDEN_WEAK = "overridden weak"  # the kernel uses a definition in another file
    NOT_IN_IMAGE = "not in image"  # the image has no function of this name
    AMBIGUOUS = "ambiguous"  # equal functions at several places, none of them certain
    MISMATCH = "mismatch"  # the image has other code under this name


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where object and image differ.

    offset:  bytes from the start of the function (or variable)
    ours:    what the object has there: bytes in hex, an instruction, or what a relocation names
    theirs:  what the image has there
    """

    offset: int
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"at +{self.offset:#x} the object has {self.ours}, the image {self.theirs}"


@dataclass(frozen=True, slots=True)
class FunctionProof:
    """One function of the object.

    address: in the image; None where not certain.
    size:    bytes, of the code that was compared.
    sympos:  0 if the name is unique in kallsyms, else its position, from 1, among the symbols of this name.
    reason:  for a state other than PROVEN: why, one sentence without a full stop.
    cause:   for MISMATCH: the likely cause, empty where there is no evidence.
    plain:   the object compiled without -ffunction-sections has the image's bytes, the other one differs in
             the encoding of jumps.
    spans:   for PROVEN: what the running kernel may have changed of the code, as (offset, bytes), in order.
    """

    name: str
    section: str
    state: State
    address: int | None
    size: int
    sympos: int | None
    reason: str = ""
    cause: str = ""
    difference: Difference | None = None
    plain: bool = False
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Located:
    """A symbol of the object (defined or referenced) and its address in the image, with the evidence."""

    name: str
    address: int
    evidence: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The proof of one object.

    functions: every function of the object, in the object's order.
    located:   every symbol whose address is certain; a name that the object uses twice is left out.
    problems:  variables that differ from the image's, and references that contradict each other.
    causes:    likely causes for what is not proven, each with its evidence.
    """

    object: str
    functions: tuple[FunctionProof, ...]
    located: tuple[Located, ...]
    problems: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()

    @property
    def addresses(self) -> dict[str, int]:
        """Symbol name of the object -> address in the image."""
        return {one.name: one.address for one in self.located}

    def function(self, name: str) -> FunctionProof | None:
        """The function of that name, if the object has it."""
        return next((one for one in self.functions if one.name == name), None)

    def counts(self) -> dict[State, int]:
        """How many functions are in which state."""
        counted = Counter(one.state for one in self.functions)
        return {state: counted[state] for state in State}

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; `from_json` gives the proof again."""
        return {
            "format": FORMAT,
            "object": self.object,
            "functions": [{**asdict(one), "state": one.state.value} for one in self.functions],
            "located": [asdict(one) for one in self.located],
            "problems": list(self.problems),
            "causes": list(self.causes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Proof:
        """The proof that `to_json` wrote; ValueError when it is of another format."""
        if value.get("format") != FORMAT:
            raise ValueError(f"proof format {value.get('format')!r}, expected {FORMAT}")
        functions = tuple(
            FunctionProof(
                **{
                    **one,
                    "state": State(one["state"]),
                    "difference": Difference(**one["difference"]) if one["difference"] else None,
                    "spans": tuple((offset, size) for offset, size in one["spans"]),
                }
            )
            for one in value["functions"]
        )
        located = tuple(Located(**one) for one in value["located"])
        return cls(value["object"], functions, located, tuple(value["problems"]), tuple(value["causes"]))

    def summary(self) -> str:
        """How many functions are in which state, on one line."""
        shown = [f"{count} {state.value}" for state, count in self.counts().items() if count]
        return f"{self.object}: {len(self.functions)} functions: {', '.join(shown) or 'none'}"

    def text(self) -> str:
        """The report for people: the summary, then whatever is not proven with its reason."""
        lines = [self.summary()]
        if plain := sum(one.plain for one in self.functions):
            lines.append(f"  {plain} of them proven with the object compiled without -ffunction-sections")
        for one in self.functions:
            if one.state is State.PROVEN:
                continue
            where = f" at {one.address:#x}" if one.address is not None else ""
            lines.append(f"  {one.name}: {one.state.value}{where}: {one.reason}")
            if one.difference is not None:
                lines.append(f"    {one.difference}")
            if one.cause:
                lines.append(f"    likely cause: {one.cause}")
        lines += [f"  {problem}" for problem in self.problems]
        lines += [f"  likely cause: {cause}" for cause in self.causes]
        return "\n".join(lines) + "\n"
