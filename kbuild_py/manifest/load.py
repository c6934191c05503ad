# SPDX-License-Identifier: GPL-2.0-or-later
"""Files -> `Manifest` and `KernelDescription` values, or every problem of every file at once.

A file goes through three checks, and each still looks at what the one before found sound, so that one
slip does not hide the others:

    text.py   is it YAML, with nothing in it that readers understand differently?
    check.py  has it the keys and kinds of values that `fields.py` declares?
    here      does it agree with the world: folder names, files that exist, kernels that are described?

Nothing is opened but the files themselves: whether a patch applies and a function exists is asked later,
by the stages that have the kernel.  Places in errors and values are relative to the project's top
folder, so that they are the same wherever the project lies.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from kbuild_py.errors import Problems, UserError
from kbuild_py.manifest import fields, hooks
from kbuild_py.manifest.check import Path as KeyPath
from kbuild_py.manifest.document import Document
from kbuild_py.manifest.model import (
    Backend,
    Check,
    Consistency,
    Function,
    KernelDescription,
    Manifest,
    PatchedObject,
    When,
)
from kbuild_py.manifest.text import short

MANIFEST_FOLDER = "manifests"
MANIFEST_FILE = "manifest.yaml"
KERNEL_FOLDER = "kernels"
NOT_MANIFESTS = (KERNEL_FOLDER, "schema")  # folders beside the manifests

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Project:
    """Everything that is declared below manifests/, both sorted by name."""

    manifests: tuple[Manifest, ...]
    kernels: tuple[KernelDescription, ...]


def load_project(root: Path) -> Project:
    """All manifests and kernel descriptions; `UserError` with every problem of all of them."""
    problems = Problems()
    manifests = _gather(problems, partial(load_manifests, root))
    kernels = _gather(problems, partial(load_kernels, root))
    problems.raise_if_any()
    return Project(manifests[0], kernels[0])


def load_manifests(root: Path) -> tuple[Manifest, ...]:
    """root/manifests/*/manifest.yaml, sorted by name; `UserError` with every problem of all of them.

    root: the project's top folder.
    """
    root = _absolute(root)
    problems = Problems()
    manifests: list[Manifest] = []
    for entry in _entries(root / MANIFEST_FOLDER, problems):
        shown = f"{MANIFEST_FOLDER}/{entry.name}"
        if _is(entry, stat.S_ISREG) and entry.suffix in (".yaml", ".yml"):
            remedy = f"move it to {MANIFEST_FOLDER}/{entry.stem}/{MANIFEST_FILE}"
            problems.add(shown, "a manifest lies in a folder of its own", remedy)
        if not _is(entry, stat.S_ISDIR) or entry.name in NOT_MANIFESTS:
            continue
        path = entry / MANIFEST_FILE
        if os.path.lexists(path):
            manifests += _gather(problems, partial(_load_manifest, path, root))
        else:
            for other in _entries(entry, problems):
                if other.name.lower() in ("manifest.yaml", "manifest.yml"):
                    remedy = f"rename it to {MANIFEST_FILE}"
                    problems.add(f"{shown}/{other.name}", "a manifest has another file name", remedy)
    _check_patch_names(manifests, root, problems)
    problems.raise_if_any()
    return tuple(manifests)


def _check_patch_names(manifests: Iterable[Manifest], root: Path, problems: Problems) -> None:
    """`fix-2` and version 2 of `fix` would be one name in the kernel."""
    known: dict[str, Manifest] = {}
    for manifest in manifests:
        other = known.setdefault(manifest.patch_name, manifest)
        if other is not manifest:
            cause = (
                f"its patch is called {manifest.patch_name} in the kernel, like version {other.version} of "
            )
            problems.add(
                manifest.path.relative_to(root), f"{cause}{other.name}", "rename one, or change its version"
            )


def load_manifest(path: Path) -> Manifest:
    """One manifest, root/manifests/NAME/manifest.yaml; `UserError` with all its problems."""
    absolute = _absolute(path)
    return _load_manifest(absolute, absolute.parent.parent.parent)


def load_kernels(root: Path) -> tuple[KernelDescription, ...]:
    """root/manifests/kernels/*.yaml, sorted by name; `UserError` with every problem of all of them."""
    root = _absolute(root)
    problems = Problems()
    kernels: list[KernelDescription] = []
    for entry in _entries(root / MANIFEST_FOLDER / KERNEL_FOLDER, problems):
        if entry.suffix == ".yaml":
            kernels += _gather(problems, partial(_load_kernel, entry, root))
        elif entry.suffix == ".yml":
            shown = f"{MANIFEST_FOLDER}/{KERNEL_FOLDER}/{entry.name}"
            problems.add(
                shown, "a kernel description's name ends with .yaml", f"rename it to {entry.stem}.yaml"
            )
    problems.raise_if_any()
    return tuple(kernels)


def load_kernel(path: Path) -> KernelDescription:
    """One kernel description, root/manifests/kernels/NAME.yaml; `UserError` with all its problems."""
    absolute = _absolute(path)
    return _load_kernel(absolute, absolute.parent.parent.parent)


def _absolute(path: Path) -> Path:
    """The path from the root, without `..`; links stay, since names count here."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (pathlib has no counterpart)


def _gather(problems: Problems, load: Callable[[], Value]) -> tuple[Value, ...]:
    """What `load` returns, alone in a tuple; or nothing, and its problems are added."""
    try:
        return (load(),)
    except UserError as error:
        problems.extend(error.problems)
        return ()


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(path.stat().st_mode)
    except OSError:
        return False


def _entries(folder: Path, problems: Problems) -> list[Path]:
    """What lies in a folder, sorted by name, hidden files left out; nothing where there is no folder."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.add(folder, f"cannot read the folder: {error.strerror}")
        return []


def _load_manifest(path: Path, root: Path) -> Manifest:
    document = Document(path, str(path.relative_to(root)), fields.MANIFEST)
    folder = path.parent
    if document.sound("name") and document.value("name") != folder.name:
        name = short(document.value("name"))
        cause = f"the name {name} is not the name of the manifest's folder, {folder.name!r}"
        document.wrong(("name",), cause, f"write name: {folder.name}, or rename the folder")
    patches = [("patch",), *(("patches", index) for index in range(document.count("patches")))]
    sources = [("sources", index) for index in range(document.count("sources"))]
    for file in (*patches, *sources):
        if document.sound(*file):
            _check_file(document, file, folder)
    _check_kernel_names(document, root)
    _check_version(document)
    _check_functions(document)
    _check_backends(document)
    hooks.check(document)
    document.raise_if_wrong()
    return _manifest(document, path)


def _check_version(document: Document) -> None:
    """The patch's name in the kernel has the version in it, and must fit."""
    if not (document.sound("name") and document.sound("version")) or document.value("version") == 1:
        return
    name = f"{document.value('name')}-{document.value('version')}"
    if len(name) > fields.NAME_LENGTH:
        cause = f"the patch's name in the kernel, {name!r}, has more than {fields.NAME_LENGTH} characters"
        document.wrong(("version",), cause, "give the manifest and its folder a shorter name")


def _check_file(document: Document, path: KeyPath, folder: Path) -> None:
    name = document.value(*path)
    target = Path(os.path.realpath(folder / name))
    if not target.is_relative_to(os.path.realpath(folder)):
        cause = f"{short(name)} leads out of the manifest's folder, to {target}"
        return document.wrong(path, cause, "put the file itself into the folder, not a link")
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        near = difflib.get_close_matches(name, _other_files(folder), 1, 0.5)
        remedy = f"did you mean {near[0]!r}?" if near else "paths start at the manifest's folder"
        return document.wrong(path, f"there is no file {short(name)}", remedy)
    except OSError as error:
        return document.wrong(path, f"cannot read {short(name)}: {error.strerror}", "")
    if not stat.S_ISREG(mode):
        document.wrong(path, f"{short(name)} is not a file", "name the file itself")
    elif not os.access(target, os.R_OK):
        document.wrong(path, f"cannot read {short(name)}: Permission denied", "")
    return None


def _other_files(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder, Problems()) if entry.name != MANIFEST_FILE]


def _check_kernel_names(document: Document, root: Path) -> None:
    folder = root / MANIFEST_FOLDER / KERNEL_FOLDER
    known = [entry.stem for entry in _entries(folder, Problems()) if entry.suffix == ".yaml"]
    for index in range(document.count("kernels")):
        if document.sound("kernels", index) and document.value("kernels", index) not in known:
            name = document.value("kernels", index)
            near = difflib.get_close_matches(name, known, 1, 0.6)
            remedy = f"did you mean {near[0]!r}?" if near else f"described are: {', '.join(known) or 'none'}"
            cause = f"no kernel {short(name)} is described in {MANIFEST_FOLDER}/{KERNEL_FOLDER}"
            document.wrong(("kernels", index), cause, remedy)


def _check_backends(document: Document) -> None:
    """What the kernel's livepatch cannot do for any patch."""
    if not document.sound("backend"):
        return
    if Backend.LIVEPATCH not in _backends(document.value("backend")):
        return
    said = document.has("consistency")
    path: KeyPath = ("consistency",) if said else ("backend",)
    if not said or (document.sound(*path) and document.value(*path) == Consistency.ATOMIC.value):
        cause = (
            f"consistency is atomic{'' if said else ' where nothing is said'}, and livepatch is per task: "
            "for a while some tasks run old functions and others new ones"
        )
        remedy = "write consistency: per-task if that is safe for this patch, else backend: kpatch"
        document.wrong(path, cause, remedy)
    if document.sound("name"):
        counted = document.sound("version") and document.value("version") != 1
        name = document.value("name") + (f"-{document.value('version')}" if counted else "")
        if len(name) > fields.LIVEPATCH_NAME_LENGTH:
            cause = f"the module would be livepatch-{name}, a name too long for the kernel"
            remedy = f"with livepatch a patch's name has at most {fields.LIVEPATCH_NAME_LENGTH} characters"
            document.wrong(("name",), cause, remedy)


def _check_functions(document: Document) -> None:
    """A function stands in a list once; the same name twice needs two different source files."""
    for name in document.value("objects") if document.sound("objects") else ():
        listed: dict[str, list[Function]] = {}
        for index in range(document.count("objects", name, "functions")):
            path = ("objects", name, "functions", index)
            if not document.sound(*path):
                continue
            function = _function(document, path)
            same = listed.setdefault(function.name, [])
            if clash := [other for other in same if _may_be_one(other, function)]:
                line = clash[0].place.split(":")[-2]
                cause = f"the function {short(function.name)} is listed twice, first in line {line}"
                remedy = "keep one of the two; two functions of one name need different `source` files"
                document.wrong(path, cause, remedy)
            else:
                same.append(function)


def _may_be_one(one: Function, other: Function) -> bool:
    return one.source is None or other.source is None or one.source == other.source


def _function(document: Document, path: KeyPath) -> Function:
    item = document.value(*path)
    default: Any = fields.FUNCTION.default("force_unsafe")
    entry = {"name": item} if isinstance(item, str) else item
    return Function(
        name=entry["name"],
        source=entry.get("source"),
        force_unsafe=entry.get("force_unsafe", default),
        place=document.place(*path),
    )


def _manifest(document: Document, path: Path) -> Manifest:
    """The value of a document in which everything is sound."""
    content = document.data
    patches = [content["patch"]] if "patch" in content else content.get("patches", ())
    folder = path.parent
    return Manifest(
        name=content["name"],
        description=content["description"],
        path=path,
        folder=folder,
        patches=tuple(folder / patch for patch in patches),
        kernels=tuple(content["kernels"]),
        backends=_backends(content.get("backend", fields.MANIFEST.top.default("backend"))),
        consistency=Consistency(content.get("consistency", fields.MANIFEST.top.default("consistency"))),
        objects=tuple(_object(document, name) for name in content["objects"]),
        checks=tuple(_checks(document)),
        sources=tuple(folder / source for source in content.get("sources", ())),
        version=content.get("version", fields.MANIFEST.top.default("version")),
    )


def _backends(given: str | list[str]) -> tuple[Backend, ...]:
    """The backends that are named, in the order of `Backend`."""
    names = [given] if isinstance(given, str) else given
    return tuple(backend for backend in Backend if backend.value in names)


def _object(document: Document, name: str) -> PatchedObject:
    path = ("objects", name, "functions")
    functions = None
    if document.value(*path) != "auto":
        functions = tuple(_function(document, (*path, index)) for index in range(document.count(*path)))
    return PatchedObject(name, functions, document.key_place("objects", name), hooks.hooks(document, name))


def _checks(document: Document) -> Iterable[Check]:
    for when in When:
        for index in range(document.count("checks", when.value)):
            entry = document.value("checks", when.value, index)
            yield Check(
                when=when,
                command=entry["run"],
                stdout=entry.get("stdout"),
                contains=entry.get("contains"),
                absent=entry.get("absent"),
                status=entry.get("status", fields.CHECK.default("status")),
                place=document.place("checks", when.value, index),
            )


def _load_kernel(path: Path, root: Path) -> KernelDescription:
    document = Document(path, str(path.relative_to(root)), fields.KERNEL)
    if document.sound("name") and document.value("name") != path.stem:
        cause = f"the name {short(document.value('name'))} is not the file's name, {path.stem!r}"
        document.wrong(("name",), cause, f"write name: {path.stem}, or rename the file")
    if document.sound("release") and document.sound("flavour"):
        release, flavour = document.value("release"), document.value("flavour")
        if not release.endswith(f"-{flavour}"):
            cause = f"the release {release!r} does not end with the flavour, '-{flavour}'"
            named = re.search(r"-([a-z][a-z0-9-]*)$", release)
            document.wrong(("flavour",), cause, f"did you mean {named[1]!r}?" if named else "")
    document.raise_if_wrong()
    content = document.data
    return KernelDescription(
        name=content["name"],
        description=content["description"],
        path=path,
        source=content["source"],
        arch=content["arch"],
        release=content["release"],
        version=content["version"],
        flavour=content["flavour"],
    )
