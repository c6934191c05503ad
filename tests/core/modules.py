# SPDX-License-Identifier: GPL-2.0-or-later
"""The core module and the tests' own modules, built against the stock headers; where functions are."""

from __future__ import annotations

import bisect
import shutil
from dataclasses import dataclass
from pathlib import Path

from kbuild_py import run
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.module.build import build_core, kbuild

HERE = Path(__file__).parent
CORE = HERE.parent.parent / "core"


@dataclass(frozen=True, slots=True)
class Modules:
    """Built modules: `core` is kpatch.ko, `folder` has those of tests/core/modules."""

    core: Path
    folder: Path

    def files(self) -> dict[str, bytes | Path]:
        """All of them, as the guest has them under /modules."""
        return {f"/modules/{path.name}": path for path in (self.core, *sorted(self.folder.glob("*.ko")))}

    def sizes(self, module: str, function: str) -> list[int]:
        """Sizes of all functions of that name in one of the modules, in the order of its symbol table."""
        listing = run.run(["nm", "-p", "-S", self.folder / f"{module}.ko"]).stdout
        rows = [line.split() for line in listing.splitlines()]
        return [int(row[1], 16) for row in rows if len(row) == 4 and row[3] == function]


def build_modules(kernel: TargetKernel, folder: Path) -> Modules:
    """Build everything below `folder`, the core as the product builds it."""
    core = folder / "core"
    build_core(kernel, CORE, core)
    modules = Path(shutil.copytree(HERE / "modules", folder / "modules"))
    shutil.copy(CORE / "kpatch.h", modules)
    kbuild(kernel, modules, extra_symbols=core / "Module.symvers")
    return Modules(core / "kpatch.ko", modules)


class Symbols:
    """The functions and variables of the image, by name in kallsyms order."""

    def __init__(self, kernel: TargetKernel) -> None:
        lines = [line.split() for line in kernel.symbols.read_text().splitlines()]
        self._symbols = [(int(address, 16), name) for address, _, name in lines]
        self._addresses = sorted({address for address, _ in self._symbols})

    def all(self, name: str) -> list[tuple[int, int]]:
        """Address and size (up to the next symbol) of all symbols of that name."""
        found = [address for address, other in self._symbols if other == name]
        return [(address, self._next(address) - address) for address in found]

    def one(self, name: str) -> tuple[int, int]:
        """Address and size of the only symbol of that name."""
        (found,) = self.all(name)
        return found

    def _next(self, address: int) -> int:
        return self._addresses[bisect.bisect_right(self._addresses, address)]
