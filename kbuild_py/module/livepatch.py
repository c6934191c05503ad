# SPDX-License-Identifier: GPL-2.0-or-later
"""Backend `livepatch`: the sources of a patch module for the kernel's own livepatch.

Compile, proof, diff and contract are those of the other backend, and so are the hooks; what differs is how
code reaches what is not exported (late.py) and what patch.c says.  Livepatch finds old functions by name and
position and looks at nothing else, so the module itself compares the kernel's build ID first.

Pure: what the earlier stages found out goes in, file names and their contents come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from kbuild_py.errors import Problems, refuse
from kbuild_py.module.kpatch import PatchedFunction, PatchedObject, kbuild_file
from kbuild_py.module.render import c_text, render
from kbuild_py.symbols import SymbolTable

# Of the core's interface (core/kpatch.h), what the kernel has as klp_shadow_*; patch.c defines these.
SHADOW = (
    "kpatch_shadow_get",
    "kpatch_shadow_alloc",
    "kpatch_shadow_get_or_alloc",
    "kpatch_shadow_free",
    "kpatch_shadow_free_all",
)


def module_sources(
    *,
    name: str,
    description: str,
    release: str,
    version: str,
    build_id: str,
    objects: Sequence[PatchedObject],
    shadow: Sequence[str] = (),
    files: Sequence[str],
) -> dict[str, str]:
    """File name -> content of everything that Kbuild needs next to the patch objects.

    build_id: of the image, in hex
    shadow:   what the patch objects use of `SHADOW`
    files:    names of the patch objects, unit.o (each lies there as unit.o_shipped)
    """
    source = render(
        "livepatch-module.c.j2",
        {
            "name": name,
            "description": c_text(description),
            "release": release,
            "version": version,
            "build_id": [f"0x{byte:02x}" for byte in bytes.fromhex(build_id)],
            "build_id_text": build_id,
            "objects": objects,
            "functions": [function for item in objects for function in item.functions],
            "shadow": shadow,
        },
    )
    return {"patch.c": source, "Kbuild": kbuild_file(f"livepatch-{name}", name, files)}


def check_kernel(options: Mapping[str, str], kernel: str) -> None:
    """`UserError` when the kernel, by its configuration, has no livepatch."""
    if options.get("LIVEPATCH") != "y":
        raise refuse(kernel, "this kernel was built without CONFIG_LIVEPATCH", "write backend: kpatch")


def check_positions(module: str, used: Iterable[str], shifting: Set[str]) -> None:
    """`UserError` for names that the kernel would look up wrongly in a module that is just starting.

    used:     names of the module's symbols that the patch replaces or reaches
    shifting: those whose position counts symbols of initialisation code, until the module has started
    """
    problems = Problems()
    for name in sorted(set(used) & shifting):
        problems.add(
            f"{module}: {name}",
            "livepatch finds it by its position among equal names, and one of them belongs to initialisation "
            "code, which counts only while the module starts",
            "write backend: kpatch",
        )
    problems.raise_if_any()


def reload_notes(modules: Iterable[str], symbols: SymbolTable) -> list[str]:
    """What to know of modules that late relocations belong to, on kernels that cannot write those twice.

    Since Linux 6.3 a kernel clears them when such a module is unloaded (clear_relocate_add).
    """
    if symbols.named("clear_relocate_add"):
        return []
    return [
        f"{module}: this kernel's livepatch can patch it once only; when it is unloaded, it cannot be loaded "
        "again before this patch is removed"
        for module in sorted(set(modules))
    ]


def notes(functions: Sequence[PatchedFunction]) -> list[str]:
    """What a reader of the build should know that livepatch does otherwise than the manifest may hope."""
    found = []
    for function in functions:
        if function.force_unsafe:
            found.append(
                f"{function.old_name}: force_unsafe has no counterpart in livepatch, which waits until no "
                "task is in the function; /sys/kernel/livepatch/*/force is for the administrator"
            )
        if function.parts:
            outside = ", ".join(part.name for part in function.parts)
            found.append(f"{function.old_name}: livepatch does not see a task that sleeps in {outside}")
    return found
