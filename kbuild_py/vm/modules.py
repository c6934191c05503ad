# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own modules in a guest: those that a patch is for, and what they need to load.

They lie where `modprobe` looks for them, unpacked, with the list of their dependencies that depmod would make
(modules.dep: a file, a colon, the files that it needs).  Nothing loads them: whether a module is there before
the patch or comes after it is what the checks try.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kbuild_py.delta import modinfo
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import parse_object
from kbuild_py.kernel.module_image import find_module, unpacked


def module_files(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Guest path -> content for the modules and all that they depend on; nothing for no module.

    folder: lib/modules/RELEASE of the kernel's package
    """
    needs: dict[str, list[str]] = {}
    files: dict[str, bytes] = {}
    here = f"/lib/modules/{folder.name}"
    waiting = list(names)
    while waiting:
        name = waiting.pop().replace("-", "_")
        if name not in needs:
            path = find_module(folder, name)
            files[f"{here}/{name}.ko"] = data = unpacked(path)
            needs[name] = depends(parse_object(data, str(path)))
            waiting += needs[name]
    if files:
        lines = [f"{name}.ko: {' '.join(f'{one}.ko' for one in _all(name, needs))}" for name in sorted(needs)]
        files[f"{here}/modules.dep"] = "".join(f"{line.rstrip()}\n" for line in lines).encode()
    return files


def depends(obj: ObjectFile) -> list[str]:
    """What the module's .modinfo says that it depends on, with `_` as the kernel writes names."""
    found = [info.value for info in modinfo.strings(obj) if info.key == "depends"]
    return [name.replace("-", "_") for value in found for name in value.split(",") if name]


def _all(name: str, needs: dict[str, list[str]]) -> list[str]:
    """Everything that a module needs; what is needed by others comes after them, as depmod has it."""
    found: list[str] = []
    for one in needs[name]:
        found += [one, *_all(one, needs)]
    # Where something is needed twice, the last place counts.
    return [one for index, one in enumerate(found) if one not in found[index + 1 :]]
