# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks: which function of which object is called when, from the three places where one may be named.

- The manifest names a function that one of its own sources defines.
- The manifest names a function that the patch adds to a file of the kernel.
- The patched source names one itself, with a marker (delta/markers.py).

The manifest's hooks take no argument, for each backend of the kernel would pass another one; a wrapper in
the patch module takes what the backend passes.  A marker's callbacks take a `struct klp_object *`, but
for the old kind (`.kpatch.hooks`).

Pure.  Everything that is wrong is found here or was by the compiler, since the linker asks for a name only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kbuild_py.delta.model import Status
from kbuild_py.elf.constants import STB_LOCAL, STT_FUNC
from kbuild_py.elf.object import SHN_UNDEF, ObjectFile
from kbuild_py.errors import Problems
from kbuild_py.manifest.model import Consistency, Hook, HookKind, Manifest
from kbuild_py.symbols import OF_PATCH_C, SymbolTable

# What EXPORT_SYMBOL() leaves, before and since Linux 6.4.
EXPORTS = ("__ksymtab_", "__export_symbol_")
# Sections that the kernel frees, or does not load, although hooks may still have to run.
PASSING = (".init", ".exit", ".meminit", ".memexit")


@dataclass(frozen=True, slots=True)
class BoundHook:
    """A hook and its function: `symbol` in the object of the file `source`.

    object:       vmlinux or the module whose hook it is
    takes_object: it is called with an object, as the kernel's livepatch calls its callbacks
    """

    object: str
    kind: HookKind
    source: str
    symbol: str
    takes_object: bool


def bind(
    manifest: Manifest,
    homes: Mapping[str, str],
    accounts: Mapping[str, dict[str, Any]],
    objects: Mapping[str, ObjectFile],
) -> tuple[BoundHook, ...]:
    """The hooks of the patch, object by object, in the order of `HookKind`.

    homes:    of each patched file of the kernel, vmlinux or the module that it is part of
    accounts: of the same files, as `Delta.to_json` gives them
    objects:  of each of the manifest's own sources
    Raises `UserError` with all that is wrong.
    """
    problems = Problems()
    found = list(_marked(manifest, homes, accounts, problems))
    for home, hook in ((item.name, hook) for item in manifest.objects for hook in item.hooks):
        candidates = [
            replace(one, object=home) for one in (*_in_sources(hook, objects), *_in_patch(hook, accounts))
        ]
        passing = next((section for item in candidates if (section := _passing(item, objects))), "")
        if passing:
            cause = (
                f"the {hook.kind.value} hook {hook.function!r} is in {passing}, which does not stay in memory"
            )
            problems.add(hook.place, cause, "remove __init or __exit")
        elif OF_PATCH_C.fullmatch(hook.function):
            cause = (
                f"{hook.function!r}, the {hook.kind.value} hook, is a name that the patch module has already"
            )
            problems.add(hook.place, cause, "give it another name")
        elif len(candidates) == 1 and candidates[0].symbol:
            found += candidates
        else:
            problems.add(hook.place, *_unfit(hook, candidates))
    ordered = [
        (item, kind, [hook for hook in found if hook.object == item.name and hook.kind is kind])
        for item in manifest.objects
        for kind in HookKind
    ]
    for item, kind, same in ordered:
        if len(same) > 1:
            names = " and ".join(f"{hook.symbol} ({hook.source})" for hook in same)
            cause = f"{names} are to be the {kind.value} hook, and an object has one of a kind"
            problems.add(item.place, cause, "keep one, and call the others from it")
    problems.raise_if_any()
    return tuple(hook for _, _, same in ordered for hook in same)


def _in_sources(hook: Hook, objects: Mapping[str, ObjectFile]) -> Iterator[BoundHook]:
    for source, obj in objects.items():
        if hook.function in _functions(obj):
            yield BoundHook("", hook.kind, source, hook.function, False)


def _in_patch(hook: Hook, accounts: Mapping[str, dict[str, Any]]) -> Iterator[BoundHook]:
    """The function that the patch adds; without a symbol one that the kernel has, which will not do."""
    for source, account in accounts.items():
        for function in account["functions"]:
            if function["patched_name"] == hook.function:
                new = function["status"] == Status.NEW.value
                yield BoundHook("", hook.kind, source, function["name"] if new else "", False)


def _unfit(hook: Hook, candidates: Sequence[BoundHook]) -> tuple[str, str]:
    """Cause and remedy for a hook that names no function, several, or one of the kernel's."""
    what, places = f"the {hook.kind.value} hook {hook.function!r}", [item.source for item in candidates]
    if not candidates:
        return f"no source defines {what}", (
            f"write '{hook.prototype}' in a file of sources, or add it in the patch; one that is static and "
            "that nothing calls is not compiled"
        )
    if len(candidates) > 1:
        return f"{what} is defined in {' and in '.join(places)}", "give all but one another name"
    return f"{what} is a function of the kernel ({places[0]})", "write a new function"


def _marked(
    manifest: Manifest,
    homes: Mapping[str, str],
    accounts: Mapping[str, dict[str, Any]],
    problems: Problems,
) -> Iterator[BoundHook]:
    """The hooks that the patched files name with markers."""
    for source, account in accounts.items():
        new = {item["name"] for item in account["functions"] if item["status"] == Status.NEW.value}
        for callback in account["callbacks"]:
            kind, name, section = HookKind(callback["kind"]), callback["function"], callback["section"]
            registers = f"the source registers {name!r} as {kind.value} ({section})"
            if name not in new:
                cause = f"{registers}, a function of the kernel"
                problems.add(source, cause, "register a new function")
            elif kind.in_stop and manifest.consistency is Consistency.PER_TASK:
                cause = f"{registers}, which runs while the machine is stopped, and consistency is per-task"
                problems.add(source, cause, "write consistency: atomic, or register pre_patch or post_patch")
            else:
                yield BoundHook(homes[source], kind, source, name, not kind.in_stop)


def check_names(objects: Mapping[str, ObjectFile], symbols: SymbolTable) -> None:
    """Refuse global names of the manifest's own sources that somebody else has, and exports.

    The linker would let patched code that means the kernel's have this one.
    """
    problems = Problems()
    for source, obj in objects.items():
        for symbol in obj.symbols:
            if symbol.section == SHN_UNDEF:
                continue
            if symbol.name.startswith(EXPORTS):
                cause = f"has an EXPORT_SYMBOL() ({symbol.name})"
                problems.add(source, cause, "remove it: a patch has nothing for other modules")
            elif symbol.bind == STB_LOCAL:
                continue
            elif symbol.name in ("init_module", "cleanup_module"):
                cause = f"defines {symbol.name!r}, which is the patch module's own (module_init, module_exit)"
                problems.add(source, cause, "make it a hook of the manifest")
            elif any(found.type.isupper() for found in symbols.named(symbol.name)):
                cause = f"defines {symbol.name!r}, and the kernel has a global symbol of that name"
                problems.add(source, cause, "make it static, or give it another name")
    problems.raise_if_any()


def _passing(hook: BoundHook, objects: Mapping[str, ObjectFile]) -> str:
    """The function's section, when it is one that does not stay; the diff refuses such a one in the patch."""
    obj = objects.get(hook.source)
    homes = [item.section for item in obj.symbols if item.name == hook.symbol] if obj else []
    names = [obj.sections[home].name for home in homes] if obj else []
    return next((name for name in names if name.startswith(PASSING)), "")


def _functions(obj: ObjectFile) -> set[str]:
    return {item.name for item in obj.symbols if item.type == STT_FUNC and item.section != SHN_UNDEF}
