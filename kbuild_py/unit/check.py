# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything about a patch that can be refused before anything is compiled.

The patch files parse, each file they name is in the kernel's tree, each hunk applies, the configuration
builds each file, each file's code is in the object that can be patched, and the compiler is the kernel's.
All of it is looked at before anything is reported, so that a user sees every problem at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbuild_py.errors import Problems, UserError
from kbuild_py.kernel import compiler, config
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import PatchedObject
from kbuild_py.unit.command import VMLINUX, CompileCommand, NotPatchable, nearest_source, record
from kbuild_py.unit.patchfile import FilePatch, decode, read_patches, shown
from kbuild_py.unit.source import PatchedSource, apply_patches


@dataclass(frozen=True, slots=True)
class TranslationUnit:
    """A source that the patch changes, and how the kernel compiles it."""

    source: PatchedSource
    command: CompileCommand


def check_patches(
    kernel: TargetKernel, patches: Sequence[Path], objects: Sequence[PatchedObject]
) -> tuple[TranslationUnit, ...]:
    """The translation units that the patch files change, in the order in which they first appear.

    objects: what the manifest declares; each file must be part of one of them
    """
    problems = Problems()
    try:
        check_compiler(kernel)
    except UserError as error:
        problems.extend(error.problems)
    try:
        parts = read_patches(patches)
    except UserError as error:
        problems.extend(error.problems)
        problems.raise_if_any()
        raise
    texts = _read_sources(kernel, parts, problems)
    sources, misfits = apply_patches(texts, parts)
    problems.extend(misfits)

    places = {part.path: shown(part.patch, part.number) for part in reversed(parts)}
    commands = record(kernel, tuple(texts)) if texts else {}
    units: list[TranslationUnit] = []
    for path, command in commands.items():
        if isinstance(command, NotPatchable):
            problems.add(places[path], f"{path} {command.cause}", command.remedy)
        elif command.object not in (item.name for item in objects):
            what = "the kernel image" if command.object == VMLINUX else f"the module {command.object}"
            problems.add(
                places[path],
                f"{path} is part of {what}, which the manifest does not declare",
                f"add '{command.object}:' with its functions to objects, or leave the file out of the patch",
            )
        else:
            units += [TranslationUnit(source, command) for source in sources if source.path == path]
    # Of a file that cannot be patched nobody knows whose it was meant to be.
    known = all(isinstance(command, CompileCommand) for command in commands.values())
    built = {command.object for command in commands.values() if isinstance(command, CompileCommand)}
    for item in objects if known else ():
        if item.name not in built and item.functions != ():
            near = difflib.get_close_matches(item.name, built, 1)
            remedy = (
                f"did you mean {near[0]!r}?" if near else "take it out, or write functions: [] for hooks only"
            )
            problems.add(item.place, f"no file that the patch changes is part of {item.name}", remedy)
    problems.raise_if_any()
    return tuple(units)


def check_compiler(kernel: TargetKernel) -> None:
    """Refuse a compiler that is not the very one that compiled the kernel."""
    text = decode(kernel.config.read_bytes())
    line = re.search(r"^CONFIG_CC_VERSION_TEXT=.*$", text, re.MULTILINE)
    compiler.require(config.string(config.parse(line[0] if line else ""), "CC_VERSION_TEXT"))


def _read_sources(kernel: TargetKernel, parts: Sequence[FilePatch], problems: Problems) -> dict[str, str]:
    """The texts of the files that the parts name; one that the tree does not have is a problem."""
    texts: dict[str, str] = {}
    for part in parts:
        file = kernel.tree / part.path
        if part.path in texts:
            continue
        if file.is_file():
            texts[part.path] = decode(file.read_bytes())
            continue
        near = nearest_source(kernel.tree, part.path)
        remedy = (
            f"did you mean {near!r}? The first folder of the patch's names is stripped (-p1)"
            if near
            else "make the patch against this kernel's source"
        )
        problems.add(shown(part.patch, part.number), f"{part.path!r} is not in the kernel tree", remedy)
    return texts
