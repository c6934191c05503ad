# SPDX-License-Identifier: GPL-2.0-or-later
"""The contract: every way to keep it and every way to break it, with the whole text of each breach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbuild_py.baseline import FunctionProof, Proof, State
from kbuild_py.baseline.proof import Difference
from kbuild_py.contract import Replacement
from kbuild_py.contract import check as check_objects
from kbuild_py.errors import UserError
from kbuild_py.manifest.model import (
    Backend,
    Consistency,
    Function,
    Hook,
    HookKind,
    Manifest,
    PatchedObject,
)

BASE = 0xFFFFFFFF81000000


def check(
    declared: Manifest, deltas: dict[str, dict[str, Any]], proofs: dict[str, Proof]
) -> tuple[Replacement, ...]:
    """The contract of a patch whose files are all part of vmlinux."""
    return check_objects(declared, dict.fromkeys(deltas, "vmlinux"), deltas, proofs)


def manifest(*functions: Function | str) -> Manifest:
    """A manifest that declares these; without any, `functions: auto`."""
    declared = tuple(
        item if isinstance(item, Function) else Function(item, None, False, f"m.yaml:{row}:9")
        for row, item in enumerate(functions, 10)
    )
    objects = (PatchedObject("vmlinux", declared if functions else None, "m.yaml:8:3"),)
    here = Path("/p/manifests/m")
    return Manifest("m", "d", here / "manifest.yaml", here, (here / "m.patch",), ("k",), (Backend.KPATCH,),
                    Consistency.ATOMIC, objects, ())  # fmt: skip


def function(
    name: str, source_name: str = "", *, status: str = "changed", why: str = "its code differs", **keys: Any
) -> dict[str, Any]:
    """One entry of a delta's list, as `Delta.to_json` gives it."""
    changed = status == "changed"
    return {
        "name": name,
        "original_name": name if changed else "",
        "patched_name": name,
        "source_name": source_name or name,
        "aliases": [],
        "section": f".text.{name}",
        "status": status,
        "local": True,
        "replaces": changed,
        "size": 10,
        "why": [{"cause": "body", "text": why, "offset": 0}] if why else [],
        **keys,
    }


def delta(*functions: dict[str, Any]) -> dict[str, Any]:
    result = "changed" if functions else "unchanged"
    return {"result": result, "functions": list(functions), "callbacks": []}


def proof(*functions: FunctionProof | str, causes: tuple[str, ...] = ()) -> Proof:
    """A proof; functions given by name are proven, 0x100 apart, 0x10 bytes long."""
    listed = tuple(
        item
        if isinstance(item, FunctionProof)
        else FunctionProof(item, f".text.{item}", State.PROVEN, BASE + number * 0x100, 0x10, 0)
        for number, item in enumerate(functions)
    )
    return Proof("x.o", listed, (), (), causes)


def refusal(*arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        check(*arguments)
    return str(caught.value)


# --- kept -----------------------------------------------------------------------------------------------


def test_declared_and_changed() -> None:
    deltas = {"fs/a.c": delta(function("f"), function("helper", status="new"))}
    assert check(manifest("f"), deltas, {"fs/a.c": proof("e", "f")}) == (
        Replacement("vmlinux", "fs/a.c", "f", "f", BASE + 0x100, 0x10, (), False),
    )


def test_auto_takes_what_changed() -> None:
    deltas = {"fs/a.c": delta(function("f"), function("g")), "fs/b.c": delta(function("f"))}
    proofs = {"fs/a.c": proof("f", "g"), "fs/b.c": proof("f")}
    found = check(manifest(), deltas, proofs)
    assert [(item.source, item.name) for item in found] == [
        ("fs/a.c", "f"),
        ("fs/a.c", "g"),
        ("fs/b.c", "f"),
    ]


def test_a_clone_counts_as_its_function() -> None:
    deltas = {"fs/a.c": delta(function("f.isra.0", "f"), function("f.constprop.1", "f"))}
    found = check(manifest("f"), deltas, {"fs/a.c": proof("f.isra.0", "f.constprop.1", "f")})
    assert [(item.name, item.function) for item in found] == [("f.isra.0", "f"), ("f.constprop.1", "f")]


def test_unlikely_parts_come_with_their_function_only() -> None:
    changed = delta(function("f"), function("f.cold", "f", replaces=False, original_name="f.cold"))
    proven = proof("f", "f.cold", "f.cold.3", "f.isra.0", "f.isra.0.cold", "f.colder", "f.part.0")
    (found,) = check(manifest("f"), {"fs/a.c": changed}, {"fs/a.c": proven})
    assert found.parts == (("f.cold", BASE + 0x100, 0x10), ("f.cold.3", BASE + 0x200, 0x10))
    changed = delta(function("f.isra.0", "f"))
    (found,) = check(manifest("f"), {"fs/a.c": changed}, {"fs/a.c": proven})
    assert found.parts == (("f.isra.0.cold", BASE + 0x400, 0x10),)


def test_one_caller_that_is_not_forced_stands_for_the_old_code_of_what_cannot_be_redirected() -> None:
    changed = delta(
        function("body", replaces=False), function("e", carries=["body"]), function("g", carries=["body"])
    )
    proven = {"fs/a.c": proof("body", "body.cold", "e", "g")}
    first, second = check(manifest("e", "g"), {"fs/a.c": changed}, proven)
    assert first.parts == (("body", BASE, 0x10), ("body.cold", BASE + 0x100, 0x10))
    assert second.parts == ()
    declared = manifest(Function("e", None, True, "m.yaml:10:9"), Function("g", None, False, "m.yaml:11:9"))
    first, second = check(declared, {"fs/a.c": changed}, proven)
    assert first.parts == () and [name for name, _, _ in second.parts] == ["body", "body.cold"]


def test_a_part_of_the_original_counts_although_the_patched_has_none() -> None:
    (found,) = check(manifest("f"), {"fs/a.c": delta(function("f"))}, {"fs/a.c": proof("f", "f.cold")})
    assert [name for name, _, _ in found.parts] == ["f.cold"]


def test_the_name_in_the_original_is_the_one_that_is_proven() -> None:
    changed = delta(
        function("f.constprop.0", "f", original_name="f.constprop.0", patched_name="f.constprop.1")
    )
    (found,) = check(manifest("f"), {"fs/a.c": changed}, {"fs/a.c": proof("f.constprop.1", "f.constprop.0")})
    assert (found.name, found.address) == ("f.constprop.0", BASE + 0x100)


def test_force_unsafe_is_of_the_declared_function_and_all_its_clones() -> None:
    declared = manifest(Function("f", None, True, "m.yaml:10:9"), Function("g", None, False, "m.yaml:11:9"))
    deltas = {"fs/a.c": delta(function("f"), function("f.isra.0", "f"), function("g"))}
    found = check(declared, deltas, {"fs/a.c": proof("f", "f.isra.0", "g")})
    assert [item.force_unsafe for item in found] == [True, True, False]


def test_what_the_source_forces_must_be_declared() -> None:
    deltas = {"fs/a.c": delta(function("f", force_unsafe=True))}
    assert "fs/a.c: the source forces f" in refusal(manifest("f"), deltas, {"fs/a.c": proof("f")})
    declared = manifest(Function("f", None, True, "m.yaml:10:9"))
    (found,) = check(declared, deltas, {"fs/a.c": proof("f")})
    assert found.force_unsafe


def test_functions_with_a_source() -> None:
    declared = manifest(
        Function("f", "fs/a.c", False, "m.yaml:10:9"), Function("f", "fs/b.c", True, "m.yaml:11:9")
    )
    deltas = {"fs/a.c": delta(function("f")), "fs/b.c": delta(function("f"))}
    found = check(declared, deltas, {"fs/a.c": proof("f"), "fs/b.c": proof("e", "f")})
    assert [(item.source, item.force_unsafe) for item in found] == [("fs/a.c", False), ("fs/b.c", True)]


def test_what_is_not_proven_elsewhere_does_not_matter() -> None:
    other = FunctionProof("other", ".text.other", State.MISMATCH, None, 9, None, "differs")
    check(manifest("f"), {"fs/a.c": delta(function("f"))}, {"fs/a.c": proof("f", other)})


def test_a_unit_without_changes_beside_one_with() -> None:
    deltas = {"fs/a.c": delta(), "fs/b.c": delta(function("f"))}
    (found,) = check(manifest("f"), deltas, {"fs/a.c": proof("g"), "fs/b.c": proof("f")})
    assert found.source == "fs/b.c"


def test_json_and_back() -> None:
    import json
    from dataclasses import asdict

    (found,) = check(manifest("f"), {"fs/a.c": delta(function("f"))}, {"fs/a.c": proof("f", "f.cold")})
    assert Replacement.from_json(json.loads(json.dumps(asdict(found)))) == found


# --- broken ---------------------------------------------------------------------------------------------


def test_nothing_changes() -> None:
    text = refusal(manifest(), {"fs/a.c": delta()}, {"fs/a.c": proof("f")})
    assert text.startswith("m.yaml:8:3: the patch changes no function of this kernel\n  hint: ")


def test_only_new_functions() -> None:
    deltas = {"fs/a.c": delta(function("f", status="new"))}
    assert "changes no function of this kernel" in refusal(manifest(), deltas, {"fs/a.c": proof("e")})


def test_changed_and_not_declared() -> None:
    deltas = {"fs/a.c": delta(function("f"), function("g", why="inlines helper"))}
    assert refusal(manifest("f"), deltas, {"fs/a.c": proof("f", "g")}) == (
        "m.yaml:8:3: fs/a.c: g changes and is not declared: inlines helper\n"
        "  hint: add '- g' to functions, if this change is meant"
    )


def test_an_undeclared_clone_is_named_by_its_function_once() -> None:
    deltas = {"fs/a.c": delta(function("f"), function("g.isra.0", "g"), function("g.part.0", "g"))}
    text = refusal(manifest("f"), deltas, {"fs/a.c": proof("f", "g.isra.0", "g.part.0")})
    assert text.count("is not declared") == 1 and "fs/a.c: g changes" in text


def test_declared_for_another_source() -> None:
    declared = manifest(Function("f", "fs/b.c", False, "m.yaml:10:9"))
    text = refusal(declared, {"fs/a.c": delta(function("f"))}, {"fs/a.c": proof("f")})
    assert "m.yaml:8:3: fs/a.c: f changes and is not declared" in text
    assert "m.yaml:10:9: f is declared and does not change" in text


def test_declared_and_not_changed() -> None:
    text = refusal(manifest("f", "g"), {"fs/a.c": delta(function("f"))}, {"fs/a.c": proof("f", "g")})
    assert text.startswith("m.yaml:11:9: g is declared and does not change\n  hint: remove it from functions")


def test_declared_and_new() -> None:
    deltas = {"fs/a.c": delta(function("f"), function("g", status="new"))}
    text = refusal(manifest("f", "g"), deltas, {"fs/a.c": proof("f")})
    assert text.startswith("m.yaml:11:9: g is new; only functions that the kernel has are listed\n")


def test_one_name_that_changes_in_two_files() -> None:
    deltas = {"fs/a.c": delta(function("f")), "fs/b.c": delta(function("f"))}
    text = refusal(manifest("f"), deltas, {"fs/a.c": proof("f"), "fs/b.c": proof("f")})
    assert text.startswith(
        "m.yaml:10:9: f changes in fs/a.c and in fs/b.c, and nothing says which is meant\n"
    )


@pytest.mark.parametrize("state", [state for state in State if state is not State.PROVEN])
def test_changed_and_not_proven(state: State) -> None:
    bad = FunctionProof("f", ".text.f", state, None, 9, None, "there is a reason", "the compiler is another")
    text = refusal(manifest("f"), {"fs/a.c": delta(function("f"))}, {"fs/a.c": proof(bad)})
    assert text == (
        "fs/a.c: f: changes, and is not proven to be the running kernel's "
        f"({state.value}): there is a reason\n  hint: the compiler is another"
    )


def test_the_first_difference_is_named_and_the_objects_causes_stand_in() -> None:
    bad = FunctionProof(
        "f", ".text.f", State.MISMATCH, BASE, 9, 0, "other code", "", Difference(4, "90", "cc")
    )
    text = refusal(
        manifest("f"),
        {"fs/a.c": delta(function("f"))},
        {"fs/a.c": proof(bad, causes=("one cause", "another"))},
    )
    assert "other code; first difference at +0x4 the object has 90, the image cc\n" in text
    assert text.endswith("  hint: one cause; another")


def test_an_unlikely_part_that_is_not_proven() -> None:
    cold = FunctionProof("f.cold", ".text.unlikely.f", State.MISMATCH, None, 9, None, "differs")
    text = refusal(manifest("f"), {"fs/a.c": delta(function("f"))}, {"fs/a.c": proof("f", cold)})
    assert text.startswith("fs/a.c: f.cold: changes, and is not proven")


def test_a_changed_function_that_the_proof_does_not_have() -> None:
    text = refusal(manifest("f"), {"fs/a.c": delta(function("f"))}, {"fs/a.c": proof("g")})
    assert text == "fs/a.c: f: changes, and the recompiled original does not have it"


def test_every_breach_at_once() -> None:
    bad = FunctionProof("f", ".text.f", State.NOT_IN_IMAGE, None, 9, None, "no such name")
    deltas = {"fs/a.c": delta(function("f"), function("g")), "fs/b.c": delta(function("h"))}
    text = refusal(manifest("f", "x"), deltas, {"fs/a.c": proof(bad, "g"), "fs/b.c": proof()})
    places = [line.split(":")[0] for line in text.splitlines() if not line.startswith("  ")]
    # g and h undeclared, x unchanged, f and h unproven.
    assert len(places) == 5


def test_hooks_are_enough() -> None:
    """A patch that replaces nothing is refused, but where hooks of the manifest or of the source run."""
    nothing = manifest()
    with pytest.raises(UserError, match="changes no function"):
        check(nothing, {}, {})
    hook = Hook(HookKind.LOAD, "go", "m.yaml:9:5")
    (vmlinux,) = nothing.objects
    assert check(replace(nothing, objects=(replace(vmlinux, functions=(), hooks=(hook,)),)), {}, {}) == ()
    callback = {"kind": "load", "function": "go", "section": ".kpatch.hooks.load"}
    marked = {**delta(function("go", status="new")), "callbacks": [callback]}
    assert check(nothing, {"fs/a.c": marked}, {"fs/a.c": proof()}) == ()
