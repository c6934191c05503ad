# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks in a manifest: what can be said of them before anything is compiled.

Whether a function of that name exists, and whether it has the right prototype, only the compiler knows.
But two things are plain from the manifest: a hook that runs while the machine is stopped needs a machine
that is stopped, and one function cannot return both an error and nothing.
"""

from __future__ import annotations

from kbuild_py.manifest import fields
from kbuild_py.manifest.document import Document
from kbuild_py.manifest.model import Consistency, Hook, HookKind


def check(document: Document) -> None:
    """Note everything that is wrong with hooks, and with sources that nothing would call."""
    found: list[Hook] = []
    per_task = document.sound("consistency") and document.value("consistency") == Consistency.PER_TASK.value
    for name in document.value("objects") if document.sound("objects") else ():
        for kind in HookKind:
            path = ("objects", name, "hooks", kind.value)
            if not document.sound(*path):
                continue
            hook = Hook(kind, document.value(*path), document.place(*path))
            if kind.in_stop and per_task:
                cause = f"{kind.value} runs while the machine is stopped, and consistency is per-task"
                document.wrong(path, cause, "write consistency: atomic, or use pre_patch or post_patch")
            other = next((item for item in found if item.function == hook.function), hook)
            if other.kind.result != kind.result:
                cause = f"{hook.function!r} must return {kind.result} here, and {other.kind.result} "
                document.wrong(path, f"{cause}as {other.kind.value}", "write a function for each of the two")
            found.append(hook)
    _check_sources(document, found)


def _check_sources(document: Document, found: list[Hook]) -> None:
    if not document.sound("sources"):
        return
    names = document.value("sources")
    if not any(name.endswith(".c") for name in names):
        document.wrong(("sources",), "there are headers only", "list the .c file that includes them")
    has_patch = document.has("patch") or document.has("patches")
    if not has_patch and not found and document.sound("objects"):
        cause = "nothing calls these: there is no patch, and no object has hooks"
        document.wrong(("sources",), cause, "name the function to run under hooks, or give a patch")
    for name in document.value("objects") if document.sound("objects") and not has_patch else ():
        path = ("objects", name, "functions")
        if document.count(*path):
            document.wrong(path, "functions are declared, and there is no patch", "write functions: []")


def hooks(document: Document, name: str) -> tuple[Hook, ...]:
    """The hooks of an object, in the order of `HookKind`; the document is sound."""
    path = ("objects", name, "hooks")
    given = document.value(*path) if document.has(*path) else {}
    kinds = [kind for kind in HookKind if kind.value in given]
    return tuple(Hook(kind, given[kind.value], document.place(*path, kind.value)) for kind in kinds)


assert tuple(field.key for field in fields.HOOKS.fields) == tuple(kind.value for kind in HookKind)
