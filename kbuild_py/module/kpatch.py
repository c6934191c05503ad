# SPDX-License-Identifier: GPL-2.0-or-later
"""Backend `kpatch`: the sources of a patch module for this project's core module.

Pure: what the earlier stages found out goes in, file names and their contents come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kbuild_py.module.dynrela import Dynrela
from kbuild_py.module.hooks import BoundHook
from kbuild_py.module.render import c_text, render
from kbuild_py.symbols import Reference


@dataclass(frozen=True, slots=True)
class Code:
    """What the core finds in memory: the image's bytes, and which of them (offset, bytes) may be others."""

    data: bytes
    spans: tuple[tuple[int, int], ...]

    def c_bytes(self) -> list[str]:
        """The bytes as elements of a C array."""
        return [f"0x{byte:02x}," for byte in self.data]

    def c_spans(self) -> list[str]:
        """The spans as elements of an array of struct kpatch_span."""
        return [f"{{ {offset:#x}, {size} }}," for offset, size in self.spans]


@dataclass(frozen=True, slots=True)
class Part:
    """Code of the old function outside its main symbol (.cold): name, position, address, size and bytes."""

    name: str
    sympos: int
    address: int
    size: int
    code: Code


@dataclass(frozen=True, slots=True)
class PatchedFunction:
    """One function that the module replaces.

    old_name, sympos, address, size: the old function in the image (address without KASLR, size in bytes)
    code:     its bytes there
    parts:    its code elsewhere in the image
    new_name: the new function in the patch object
    """

    old_name: str
    sympos: int
    address: int
    size: int
    code: Code
    parts: tuple[Part, ...]
    new_name: str
    force_unsafe: bool


@dataclass(frozen=True, slots=True)
class PatchedObject:
    """What the patch does to vmlinux or to one module.

    references: what patched code reaches in vmlinux without a dynrela; only vmlinux has such
    """

    name: str
    functions: tuple[PatchedFunction, ...]
    references: tuple[Reference, ...] = ()
    dynrelas: tuple[Dynrela, ...] = ()
    hooks: tuple[BoundHook, ...] = ()

    @property
    def listed(self) -> tuple[Reference, ...]:
        """The references that kallsyms lists, which the core compares."""
        return tuple(reference for reference in self.references if reference.sympos)


def module_sources(
    *,
    name: str,
    description: str,
    release: str,
    version: str,
    build_id: str,
    objects: Sequence[PatchedObject],
    files: Sequence[str],
) -> dict[str, str]:
    """File name -> content of everything that Kbuild needs next to the patch objects.

    build_id: of the image, in hex
    files:    names of the patch objects, unit.o (each lies there as unit.o_shipped)
    """
    source = render(
        "patch-module.c.j2",
        {
            "name": name,
            "description": c_text(description),
            "release": release,
            "version": version,
            "build_id_text": build_id,
            "build_id": [f"0x{byte:02x}" for byte in bytes.fromhex(build_id)],
            "objects": objects,
            "functions": [function for item in objects for function in item.functions],
            "anchors": sorted({reference.anchor for item in objects for reference in item.listed}),
        },
    )
    return {"patch.c": source, "Kbuild": kbuild_file(f"kpatch-{name}", name, files)}


def kbuild_file(module: str, name: str, files: Sequence[str]) -> str:
    """The Kbuild file for `module`, of the patch `name`."""
    return render("Kbuild.j2", {"module": module, "name": name, "objects": files})
