# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the files of a build lie.

`Build` is one manifest for one kernel, `UnitFiles` one source file of it.  The graph (`tasks.py`) and the
actions share these names.  This module imports little, for it is read at every start of doit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kbuild_py.kernel.prepare import workshop
from kbuild_py.manifest.model import Backend, KernelDescription, Manifest
from kbuild_py.unit import patchfile


@dataclass(frozen=True)
class UnitFiles:
    """Where the files of one translation unit lie."""

    build: Build
    source: str

    @property
    def label(self) -> str:
        return f"{self.build.label}:{self.source}"

    def _in(self, stage: str, suffix: str) -> Path:
        return self.build.folder / stage / f"{self.source.removesuffix('.c')}{suffix}"

    @property
    def objects(self) -> Path:
        """The folder of original.o, patched.o, proof.o and their logs."""
        return self._in("02-objects", "")

    @property
    def original(self) -> Path:
        return self.objects / "original.o"

    @property
    def patched(self) -> Path:
        return self.objects / "patched.o"

    @property
    def proof_object(self) -> Path:
        return self.objects / "proof.o"

    @property
    def proof(self) -> Path:
        return self._in("03-proof", ".json")

    @property
    def delta(self) -> Path:
        return self._in("04-delta", ".json")

    @property
    def patch_object(self) -> Path:
        return self._in("04-delta", ".o")


@dataclass(frozen=True)
class Build:
    """One manifest for one kernel."""

    root: Path
    manifest: Manifest
    kernel: KernelDescription

    @property
    def label(self) -> str:
        return f"{self.manifest.name}:{self.kernel.name}"

    @property
    def folder(self) -> Path:
        return self.root / "build" / self.manifest.name / self.kernel.name

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The files of the kernel tree that the patches touch."""
        return patchfile.touched_files(self.manifest.patches)

    @property
    def c_sources(self) -> tuple[Path, ...]:
        """The C files that the manifest brings along."""
        return tuple(path for path in self.manifest.sources if path.suffix == ".c")

    @property
    def headers(self) -> tuple[Path, ...]:
        """The headers that those may include by their names."""
        own = tuple(path for path in self.manifest.sources if path.suffix == ".h")
        return (self.core_header, *own)

    @property
    def commands(self) -> Path:
        return self.folder / "01-sources" / "commands.json"

    @property
    def trees(self) -> Path:
        """The folder of the two trees that files are compiled in: `original` and `patched`."""
        return self.folder / "01-sources"

    def patched_source(self, source: str) -> Path:
        return self.trees / "patched" / source

    def unit(self, source: str) -> UnitFiles:
        return UnitFiles(self, source)

    @property
    def units(self) -> tuple[UnitFiles, ...]:
        return tuple(self.unit(source) for source in self.sources)

    def source_object(self, source: Path) -> Path:
        """The object of a C source of the manifest; its folder is for nothing else."""
        return self.folder / "02-objects" / "manifest" / source.stem / f"{source.stem}.o"

    @property
    def contract(self) -> Path:
        return self.folder / "04-delta" / "contract.json"

    def on(self, backend: Backend) -> BackendFiles:
        return BackendFiles(self, backend)

    @property
    def modules(self) -> tuple[Path, ...]:
        """The patch modules, one for each backend."""
        return tuple(self.on(backend).module for backend in self.manifest.backends)

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    @property
    def core_folder(self) -> Path:
        return self.root / "build" / "core" / self.kernel.name

    @property
    def core_module(self) -> Path:
        return self.core_folder / "kpatch.ko"

    @property
    def core_symbols(self) -> Path:
        return self.core_folder / "Module.symvers"

    @property
    def core_header(self) -> Path:
        return self.root / "core" / "kpatch.h"


@dataclass(frozen=True)
class BackendFiles:
    """Where the files of one backend's module lie; all stages before are the same for every backend."""

    build: Build
    backend: Backend

    @property
    def suffix(self) -> str:
        """What stages and their folders are called after, for all but the default backend."""
        return "" if self.backend is Backend.KPATCH else f"-{self.backend.value}"

    def task(self, stage: str) -> str:
        """The name of a stage's task, without the underscore."""
        return f"{stage}{self.suffix}:{self.build.label}"

    def _stage(self, name: str) -> Path:
        return self.build.folder / f"{name}{self.suffix}"

    @property
    def module_folder(self) -> Path:
        return self._stage("05-module")

    @property
    def module_name(self) -> str:
        return f"{self.backend.value}-{self.build.manifest.patch_name}"

    @property
    def module(self) -> Path:
        return self.build.folder / f"{self.module_name}.ko"

    @property
    def boot_report(self) -> Path:
        return self._stage("06-vm") / "report.json"


def facts_path(kernel: KernelDescription) -> Path:
    """The file with the facts of a prepared kernel."""
    return workshop(kernel).result
