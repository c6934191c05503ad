# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules through the kernel's own external module build (Documentation/kbuild/modules.rst).

The folder that is built in holds everything: sources, Kbuild, patch objects.  Nothing of where it lies
may reach the module: no debug information, and paths are mapped away.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from kbuild_py.files import folder_atomic, write_atomic
from kbuild_py.kernel.kbuild import ENVIRONMENT
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.run import find, run
from kbuild_py.unit.check import check_compiler


def kbuild(kernel: TargetKernel, folder: Path, *, extra_symbols: Path | None = None) -> None:
    """Build what the Kbuild in `folder` says; the log is `folder`/build.log.

    extra_symbols: a Module.symvers with exports of other modules that this one uses.
    Raises `UserError` for a compiler that is not the kernel's, for a missing tool, and with kbuild's output
    when it fails or leaves a symbol unresolved.
    """
    check_compiler(kernel)
    for tool in ("make", "ld"):
        find(tool)
    for shipped in folder.glob("*.o_shipped"):
        # modpost wants the record of how each object was made; these were made before.
        (folder / f".{shipped.name.removesuffix('_shipped')}.cmd").touch()
    argv = [
        "make",
        f"-j{os.cpu_count() or 1}",
        "-C",
        str(kernel.headers),
        f"M={folder}",
        f"KCFLAGS=-g0 -ffile-prefix-map={folder}/=",
        # BPF's types come from debug information; headers that have a vmlinux (6.12) would ask for them.
        "CONFIG_DEBUG_INFO_BTF_MODULES=",
        *([f"KBUILD_EXTRA_SYMBOLS={extra_symbols}"] if extra_symbols else []),
        "modules",
    ]
    run(argv, log=folder / "build.log", env=ENVIRONMENT)


def build_core(kernel: TargetKernel, sources: Path, output: Path) -> None:
    """Build the core module for `kernel`; `output` becomes a folder with kpatch.ko and Module.symvers.

    sources: the project's core/ folder
    """
    for left in output.parent.glob(f".{output.name}.{'[a-z0-9_]' * 8}"):  # by a build that was killed
        shutil.rmtree(left)
    with folder_atomic(output) as folder:
        for source in core_sources(sources):
            shutil.copy(source, folder)
        kbuild(kernel, folder)
        # Only the name behind the last slash counts, and the folder is a temporary one.
        exports = folder / "Module.symvers"
        write_atomic(exports, exports.read_text().replace(f"\t{folder}/", "\t"))


def core_sources(folder: Path) -> list[Path]:
    """The files of the core module, in a fixed order."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h") or path.name == "Kbuild")


def write_module(
    folder: Path, texts: Iterable[tuple[str, str]], objects: Iterable[tuple[str, bytes]]
) -> None:
    """Fill the folder that a patch module is built in, from nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in texts:
        write_atomic(folder / name, text)
    for name, data in objects:
        write_atomic(folder / f"{name}_shipped", data)
