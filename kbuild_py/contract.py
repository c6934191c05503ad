# SPDX-License-Identifier: GPL-2.0-or-later
"""The contract: what changed is what the manifest declares, and all of it is proven.

A function that changes and is not declared is an error, for its change may be one that nobody looked at:
a helper that got inlined, a clone that the compiler made anew.  A declared function that does not change
is an error too: the patch does not do what its author thinks.  The manifest names functions of the source;
a clone (`f.isra.0`) or an unlikely part (`f.cold`) counts as the function that it was made from.

A changed function must be proven: its code in the shipped image is the code that the diff started from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbuild_py.baseline import FunctionProof, Proof, State
from kbuild_py.errors import Problems
from kbuild_py.manifest.model import Function, Manifest, PatchedObject


@dataclass(frozen=True, slots=True)
class Replacement:
    """A function of the image, or of a module, that the patch replaces.

    object:       vmlinux or the module
    source:       file in the kernel tree
    name:         the symbol, in the image and in the patch object
    function:     the function of the source that it belongs to
    address, size: in the image
    parts:        other old code that it stands for (name, address, size): its unlikely parts, and functions
                  that cannot be redirected and only their callers reach (delta/carry.py)
    force_unsafe: as declared
    """

    object: str
    source: str
    name: str
    function: str
    address: int
    size: int
    parts: tuple[tuple[str, int, int], ...]
    force_unsafe: bool

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Replacement:
        """What `dataclasses.asdict` made, out of a file."""
        return cls(**{**value, "parts": tuple((name, at, size) for name, at, size in value["parts"])})


def check(
    manifest: Manifest,
    objects: Mapping[str, str],
    deltas: Mapping[str, dict[str, Any]],
    proofs: Mapping[str, Proof],
) -> tuple[Replacement, ...]:
    """The replaced functions of all units: object by object in the manifest's order, then unit by unit.

    objects, deltas, proofs: by source file: the object that it is part of, which the manifest declares; what
    `Delta.to_json` gives; the proof.
    Raises `UserError` with every breach.
    """
    problems = Problems()
    changed = any(function["replaces"] for delta in deltas.values() for function in delta["functions"])
    has_hooks = manifest.hooks or any(delta["callbacks"] for delta in deltas.values())
    if not changed and not has_hooks:
        cause = "the patch changes no function of this kernel"
        problems.add(manifest.objects[0].place, cause, "build a patch that changes code")
    results: list[Replacement] = []
    for item in manifest.objects:
        mine = {source: delta for source, delta in deltas.items() if objects[source] == item.name}
        results += _check_object(item, mine, proofs, problems)
    problems.raise_if_any()
    return tuple(results)


def _check_object(
    item: PatchedObject,
    deltas: Mapping[str, dict[str, Any]],
    proofs: Mapping[str, Proof],
    problems: Problems,
) -> Iterator[Replacement]:
    place, declared = str(item.place), item.functions
    changed = [
        (source, function)
        for source, delta in deltas.items()
        for function in delta["functions"]
        if function["replaces"]
    ]
    _compare(declared, changed, deltas, place, problems)
    carriers = _carriers(declared, changed)
    for source, function in changed:
        proven = _proven(proofs[source], source, function["original_name"], problems)
        if proven is None:
            continue
        entry, parts = proven
        for name in function.get("carries", ()):
            carried = _proven(proofs[source], source, name, problems)
            if carried is not None and carriers[source, name] == function["name"]:
                parts = [*parts, carried[0], *carried[1]]
        forced = _is_forced(declared, source, function)
        if function.get("force_unsafe") and not forced:
            problems.add(
                place,
                f"{source}: the source forces {function['source_name']}, and the manifest does not",
                "declare it with force_unsafe: true, or take KPATCH_FORCE_UNSAFE() out of the patch",
            )
        cold = tuple((part.name, part.address or 0, part.size) for part in parts)
        yield Replacement(
            item.name,
            source,
            function["name"],
            function["source_name"],
            entry.address or 0,
            entry.size,
            cold,
            forced,
        )


def _is_declared(item: Function, source: str, name: str) -> bool:
    return item.name == name and item.source in (None, source)


def _is_forced(declared: Sequence[Function] | None, source: str, function: dict[str, Any]) -> bool:
    found = [item for item in declared or () if _is_declared(item, source, function["source_name"])]
    return any(item.force_unsafe for item in found)


def _carriers(
    declared: Sequence[Function] | None, changed: Iterable[tuple[str, dict[str, Any]]]
) -> dict[tuple[str, str], str]:
    """(source, carried function) -> the one replaced function that answers for its old code.

    Nobody looks for the old code of a forced one, so another is taken where there is one.
    """
    found: dict[tuple[str, str], str] = {}
    for source, function in sorted(changed, key=lambda item: _is_forced(declared, *item)):
        for name in function.get("carries", ()):
            found.setdefault((source, name), function["name"])
    return found


def _compare(
    declared: Sequence[Function] | None,
    changed: Iterable[tuple[str, dict[str, Any]]],
    deltas: Mapping[str, dict[str, Any]],
    place: str,
    problems: Problems,
) -> None:
    """Both ways: changed but not declared, declared but not changed."""
    if declared is None:
        return
    by_function: dict[tuple[str, str], dict[str, Any]] = {}
    for source, function in changed:
        by_function.setdefault((source, function["source_name"]), function)
    for (source, name), function in by_function.items():
        if not any(_is_declared(item, source, name) for item in declared):
            problems.add(
                place,
                f"{source}: {name} changes and is not declared: {_reasons(function)}",
                f"add '- {name}' to functions, if this change is meant",
            )
    new = {
        function["source_name"]
        for delta in deltas.values()
        for function in delta["functions"]
        if function["status"] == "new"
    }
    for item in declared:
        found = [source for source, name in by_function if _is_declared(item, source, name)]
        if len(found) > 1:
            problems.add(
                item.place,
                f"{item.name} changes in {' and in '.join(found)}, and nothing says which is meant",
                "list both, each with its source",
            )
        elif not found and item.name in new:
            problems.add(item.place, f"{item.name} is new; only functions that the kernel has are listed",
                         "remove it from functions")  # fmt: skip
        elif not found:
            problems.add(
                item.place,
                f"{item.name} is declared and does not change",
                "remove it from functions, or correct its name or source; if the patch edits it, every "
                "caller has it inlined or it cannot be redirected, and the callers are what changes",
            )


def _reasons(function: dict[str, Any]) -> str:
    return "; ".join(why["text"] for why in function["why"]) or "it differs"


def _proven(
    proof: Proof, source: str, name: str, problems: Problems
) -> tuple[FunctionProof, list[FunctionProof]] | None:
    """The proofs of a changed function and of its unlikely parts; None with a problem when one is missing."""
    family = [item for item in proof.functions if item.name == name or _is_part(item.name, name)]
    missing = [item for item in family if item.state is not State.PROVEN]
    for item in missing:
        problems.add(
            f"{source}: {item.name}",
            f"changes, and is not proven to be the running kernel's ({item.state.value}): {_detail(item)}",
            item.cause or "; ".join(proof.causes) or "the report in 03-proof says more",
        )
    own = next((item for item in family if item.name == name), None)
    if own is None:
        problems.add(f"{source}: {name}", "changes, and the recompiled original does not have it")
    if own is None or missing:
        return None
    return own, [item for item in family if item is not own]


def _detail(item: FunctionProof) -> str:
    return item.reason + (f"; first difference {item.difference}" if item.difference else "")


def _is_part(name: str, parent: str) -> bool:
    """Whether `name` is the unlikely part of `parent`: f.cold, f.cold.3 (gcc), never f.isra.0.cold for f."""
    return name == f"{parent}.cold" or name.startswith(f"{parent}.cold.")
