# SPDX-License-Identifier: GPL-2.0-or-later
"""The task graph: the pipeline from manifests to patch modules, top to bottom.

The graph's shape depends on manifests and on the headers of patch files only.  What is learned later (changed
functions, addresses) travels in files between tasks.  Every task names all it reads: files, the kernel's
facts, and a digest of this program, so that a second build does nothing and a changed input redoes exactly
what depends on it.  What each action does is in `actions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.exceptions import TaskFailed
from doit.tools import config_changed

from kbuild_py import actions
from kbuild_py.actions import Build, facts_path
from kbuild_py.errors import UserError
from kbuild_py.files import sha256
from kbuild_py.kernel.prepare import prepared
from kbuild_py.manifest.load import load_project as load_declared
from kbuild_py.manifest.model import KernelDescription, Manifest
from kbuild_py.module.build import core_sources
from kbuild_py.reporter import Reporter

Task = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Project:
    """Everything that the graph is made of.  `digest` changes when this program does."""

    root: Path
    manifests: tuple[Manifest, ...]
    kernels: tuple[KernelDescription, ...]
    digest: str

    def kernel(self, name: str) -> KernelDescription:
        """The description of that name (manifests name existing ones only)."""
        return next(kernel for kernel in self.kernels if kernel.name == name)

    def builds(self) -> Iterator[Build]:
        """Every manifest for every kernel that it names."""
        for manifest in self.manifests:
            for name in manifest.kernels:
                yield Build(self.root, manifest, self.kernel(name))


def configuration(root: Path) -> dict[str, Any]:
    """doit's own settings."""
    (root / "build").mkdir(exist_ok=True)
    return {
        "default_tasks": ["build"],
        "reporter": Reporter,
        "dep_file": str(root / "build" / ".doit.json"),
        "backend": "json",
        "verbosity": 2,
        "continue": True,
    }


def load_project(root: Path) -> Project:
    """Read all manifests and kernel descriptions; `UserError` with every problem of all of them."""
    declared = load_declared(root)
    code = sorted(
        path
        for folder in ("kbuild_py", "templates")
        for path in (root / folder).rglob("*")
        if path.suffix in (".py", ".mk", ".j2", ".sh")
    )
    return Project(
        root, declared.manifests, declared.kernels, sha256(b"".join(path.read_bytes() for path in code))
    )


def run(root: Path, names: Sequence[str]) -> int:
    """Run tasks from outside of doit; what it prints goes to standard error.  Returns doit's exit status."""
    loader = ModuleTaskLoader(
        {"DOIT_CONFIG": configuration(root), "task_project": lambda: project_tasks(load_project(root))}
    )
    status: int = DoitMain(loader).run(["run", "--output-file", "/dev/stderr", *names])
    return status


def project_tasks(project: Project) -> Iterator[Task]:
    """All tasks, in the order of the pipeline."""
    yield from kernel_tasks(project)
    # From here on: packages fetched, tree prepared, image and symbols known.
    yield from core_tasks(project)
    for build in project.builds():
        yield from build_tasks(project, build)
    yield from public_tasks(project)


def kernel_tasks(project: Project) -> Iterator[Task]:
    """Fetch, unpack and prepare each kernel that a manifest names, once for all manifests."""
    yield group("kernel", "fetch and prepare the kernels that manifests name")
    for kernel in used_kernels(project):
        yield {
            "basename": "kernel",
            "name": kernel.name,
            "title": titled(f"kernel {kernel.name}: fetch and prepare {kernel.release}"),
            "actions": [(checked(actions.prepare_kernel), [kernel])],
            "uptodate": [(is_prepared, [kernel])],
        }


def core_tasks(project: Project) -> Iterator[Task]:
    """The core module, once for each kernel."""
    yield group("core", "build the core module (kpatch.ko) for each kernel")
    for kernel in used_kernels(project):
        folder = project.root / "build" / "core" / kernel.name
        yield {
            "basename": "core",
            "name": kernel.name,
            "title": titled(f"core module for {kernel.name}"),
            "actions": [(checked(actions.build_core), [project.root, kernel])],
            "task_dep": [f"kernel:{kernel.name}"],
            "file_dep": [facts_path(kernel), *core_sources(project.root / "core")],
            "targets": [folder / "kpatch.ko", folder / "Module.symvers"],
            "uptodate": [config_changed(project.digest)],
            "clean": [(actions.remove, [folder])],
        }


def build_tasks(project: Project, build: Build) -> Iterator[Task]:
    """One manifest for one kernel: six stages, each a folder."""

    def stage(name: str, what: str, action: Callable[..., None], *arguments: Any, **keys: Any) -> Task:
        return {
            "basename": f"_{name}",
            "title": titled(f"{build.manifest.name} for {build.kernel.name}: {what}"),
            "actions": [(checked(action), [build, *arguments])],
            "uptodate": [config_changed(project.digest)],
            **keys,
        }

    kernel_facts = facts_path(build.kernel)
    manifest_files = [build.manifest.path, *build.manifest.patches]
    yield stage(
        f"sources:{build.label}",
        "apply the patch, record commands",
        actions.make_sources,
        task_dep=[f"kernel:{build.kernel.name}"],
        file_dep=[kernel_facts, *manifest_files],
        targets=[build.commands, *(build.patched_source(source) for source in build.sources)],
    )
    # From here on: the patch applies, every touched file is built into an object that the manifest names.
    for source in build.sources:
        unit = build.unit(source)
        yield stage(
            f"compile:{unit.label}",
            f"compile {source}",
            actions.compile_unit,
            source,
            file_dep=[kernel_facts, build.commands, build.patched_source(source)],
            targets=[unit.original, unit.patched, unit.proof_object],
        )
        yield stage(
            f"proof:{unit.label}",
            f"prove {source} against the image",
            actions.prove_unit,
            source,
            file_dep=[kernel_facts, build.commands, unit.proof_object],
            targets=[unit.proof],
        )
        yield stage(
            f"delta:{unit.label}",
            f"diff {source}",
            actions.diff_unit,
            source,
            file_dep=[kernel_facts, unit.original, unit.patched],
            targets=[unit.delta, unit.patch_object],
        )
    proofs = [build.unit(source).proof for source in build.sources]
    deltas = [build.unit(source).delta for source in build.sources]
    yield stage(
        f"contract:{build.label}",
        "compare what changed with what is declared",
        actions.check_contract,
        file_dep=[kernel_facts, build.manifest.path, *proofs, *deltas],
        targets=[build.contract],
    )
    # From here on: exactly the declared functions change, and each is proven to be the running kernel's.
    objects = [build.unit(source).patch_object for source in build.sources]
    yield stage(
        f"module:{build.label}",
        "build the patch module",
        actions.build_patch_module,
        file_dep=[kernel_facts, build.contract, build.core_symbols, *proofs, *deltas, *objects],
        targets=[build.module],
    )
    yield stage(
        f"verify:{build.label}",
        "boot the kernel, load, check, unload",
        actions.verify_module,
        file_dep=[kernel_facts, build.manifest.path, build.core_module, build.module],
        targets=[build.boot_report],
    )


def public_tasks(project: Project) -> Iterator[Task]:
    """What users call; `doit list` shows these."""
    purposes = {
        "build": ("module", "build the patch module of every manifest, or build:NAME"),
        "verify": (
            "verify",
            "boot the stock kernel with each patch module and run its checks, or verify:NAME",
        ),
        "check": ("sources", "refuse what can be refused before compiling, or check:NAME"),
    }
    for basename, (last, purpose) in purposes.items():
        yield group(basename, purpose)
        for manifest in project.manifests:
            builds = [build for build in project.builds() if build.manifest is manifest]
            yield {
                "basename": basename,
                "name": manifest.name,
                "doc": manifest.description,
                "actions": None,
                "task_dep": [f"_{last}:{build.label}" for build in builds],
                "clean": [(actions.remove, [build.folder]) for build in builds]
                if basename == "build"
                else [],
            }
    yield {
        "basename": "test",
        "doc": "format, lint, types and all tests (fast ones first, boots last)",
        "actions": [(checked(actions.run_tests), [project.root])],
    }
    small = min(project.builds(), key=patch_size, default=None)
    if small:
        yield {
            "basename": "bench",
            "doc": "print how long builds take, against the bare tools",
            "actions": [(checked(actions.run_bench), [project.root, small])],
        }


def used_kernels(project: Project) -> list[KernelDescription]:
    """The kernels that manifests name, each once, in their order in manifests/kernels/."""
    names = {name for manifest in project.manifests for name in manifest.kernels}
    return [kernel for kernel in project.kernels if kernel.name in names]


def patch_size(build: Build) -> tuple[int, int, str]:
    """Sorts builds by how little they change."""
    return len(build.sources), sum(path.stat().st_size for path in build.manifest.patches), build.label


def is_prepared(kernel: KernelDescription) -> bool:
    """Whether the kernel is in the cache, as its lock has it now."""
    return prepared(kernel) is not None


def group(basename: str, purpose: str) -> Task:
    """A task that stands for all tasks of its basename; `purpose` is its line in `doit list`."""
    return {"basename": basename, "name": None, "doc": purpose}


def titled(text: str) -> Callable[[Any], str]:
    """doit wants a function for a task's title."""
    return lambda _task: text


def checked(action: Callable[..., None]) -> Callable[..., TaskFailed | None]:
    """`action` with errors that users can mend turned into doit's kind; others keep their traceback."""

    def wrapper(*arguments: Any) -> TaskFailed | None:
        try:
            action(*arguments)
        except UserError as error:
            return TaskFailed(str(error))
        return None

    return wrapper
