# SPDX-License-Identifier: GPL-2.0-or-later
"""Applies a patch object in user space: the original object becomes a program that live.c patches as it runs.

What a kernel's loader does is done with names here: everything that the original defines becomes global, so
that the patch object's references find it, and what the patch object defines gets a prefix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kbuild_py.delta.model import Delta
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile, Symbol
from kbuild_py.elf.write import write_object
from kbuild_py.run import run
from tests.delta.programs import ENTRIES, Program, reference

HARNESS = Path(__file__).with_suffix(".c")
_NO_NAME = (elf.STT_SECTION, elf.STT_FILE)


def original_part(obj: ObjectFile) -> bytes:
    """The original with all its symbols global."""
    count = Counter(symbol.name for symbol in obj.symbols)

    def opened(symbol: Symbol) -> Symbol:
        alone = symbol.name and count[symbol.name] == 1 and symbol.type not in _NO_NAME
        local = symbol.bind == elf.STB_LOCAL and symbol.section != 0
        return replace(symbol, bind=elf.STB_GLOBAL) if alone and local else symbol

    return write_object(_readable(replace(obj, symbols=tuple(opened(symbol) for symbol in obj.symbols))))


def patch_part(delta: Delta) -> bytes:
    """The patch object, whose own functions are global and called `new.NAME`."""
    assert delta.object is not None

    def renamed(symbol: Symbol) -> Symbol:
        if symbol.section == 0 or symbol.type in _NO_NAME or not symbol.name:
            return symbol
        bind = elf.STB_GLOBAL if symbol.type == elf.STT_FUNC else symbol.bind
        return replace(symbol, name=f"new.{symbol.name}", bind=bind)

    symbols = tuple(renamed(symbol) for symbol in delta.object.symbols)
    return write_object(_readable(replace(delta.object, symbols=symbols)))


def run_patched(
    link: Sequence[str], harness: Path, folder: Path, original: ObjectFile, delta: Delta, old: Program
) -> str:
    """What the original program prints that gets the patch in the middle of its run.

    link: the command that compiles and links; harness: the folder with live.o
    """
    folder.mkdir()
    (folder / "entries.c").write_text(_entries(old))
    (folder / "replacements.s").write_text(_replacements(delta))
    (folder / "original.o").write_bytes(original_part(original))
    parts = [folder / "original.o"]
    if delta.object is not None:
        (folder / "patch.o").write_bytes(patch_part(delta))
        parts.append(folder / "patch.o")
    return _run(link, folder, *parts, folder / "replacements.s", folder / "entries.c", harness / "live.o")


def run_reference(link: Sequence[str], harness: Path, folder: Path, old: Program, new: Program) -> str:
    """What a program with both versions in it prints."""
    folder.mkdir()
    (folder / "entries.c").write_text(_entries(old))
    (folder / "both.c").write_text(reference(old, new))
    return _run(link, folder, "-DREFERENCE", folder / "both.c", folder / "entries.c", harness / "reference.o")


def _run(link: Sequence[str], folder: Path, *parts: Path | str) -> str:
    run([*link, *parts, "-o", folder / "program"])
    return run([folder / "program"], timeout=20).stdout


def _replacements(delta: Delta) -> str:
    """The assembly of live.c's list of functions to redirect."""
    pairs = [(function.original_name, function.name) for function in delta.functions if function.replaces]
    rows = "".join(f'\t.quad "{old}", "new.{new}"\n' for old, new in pairs)
    return f"\t.section .data\n\t.balign 8\n\t.globl replacements\nreplacements:\n{rows}\t.quad 0, 0\n"


def _entries(old: Program) -> str:
    """The C of live.c's list of functions to call."""
    names = [f"f{function.number}" for function in old.functions[-ENTRIES:]]
    declared = "".join(f"unsigned {name}(unsigned, unsigned);\n" for name in names)
    return f"{declared}void *entries[] = {{ {', '.join(names)}, (void *)0 }};\n"


def _readable(obj: ObjectFile) -> ObjectFile:
    """live.c finds a table by the linker's __start_NAME, which needs a name that C can say."""
    sections = tuple(
        replace(section, name="altinstructions") if section.name == ".altinstructions" else section
        for section in obj.sections
    )
    return replace(obj, sections=sections)
