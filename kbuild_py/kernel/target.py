# SPDX-License-Identifier: GPL-2.0-or-later
"""`TargetKernel`: the facts about one kernel that everything after its preparation relies on.

All paths point into the cache folder and are never written to once the kernel is prepared.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kbuild_py.errors import refuse
from kbuild_py.files import read_json, write_json

PATHS = ("boot_image", "vmlinux", "symbols", "config", "tree", "headers", "modules")


@dataclass(frozen=True, slots=True)
class TargetKernel:
    """A prepared kernel.

    name:       of its description, manifests/kernels/NAME.yaml
    release:    what `uname -r` prints on it, for example 6.1.0-50-amd64
    version:    the package's version, for example 6.1.176-1
    arch:       the kernel's name for the architecture, for example x86_64
    build_id:   GNU build ID of the image, in hex
    boot_image: the vmlinuz that a boot loader starts
    vmlinux:    the ELF image unpacked from it (sections, no symbol table)
    symbols:    its symbols, recovered from kallsyms: lines of `address type name` in kallsyms order
    config:     the configuration that the image was built with
    tree:       the prepared source tree (configured, `make prepare` done)
    headers:    the packaged headers, for `make -C` (has Module.symvers)
    modules:    the folder lib/modules/RELEASE of the image package
    compiler:   the program that compiles for it, for example gcc-12
    """

    name: str
    release: str
    version: str
    arch: str
    build_id: str
    boot_image: Path
    vmlinux: Path
    symbols: Path
    config: Path
    tree: Path
    headers: Path
    modules: Path
    compiler: str

    def save(self, path: Path) -> None:
        """Write the facts as JSON."""
        write_json(path, {key: str(value) for key, value in asdict(self).items()})

    @classmethod
    def load(cls, path: Path) -> TargetKernel:
        """Read what `save` wrote."""
        facts: Any = read_json(path)
        try:
            facts.update((key, Path(facts[key])) for key in PATHS)
            return cls(**facts)
        except (AttributeError, KeyError, TypeError) as error:
            raise refuse(path, "does not describe a kernel", "remove the file and build again") from error
