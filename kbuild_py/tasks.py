# SPDX-License-Identifier: GPL-2.0-or-later
"""The task graph: the pipeline from manifests to patch modules, top to bottom.

The graph's shape depends on manifests and on the headers of patch files only.  What is learned later (changed
functions, addresses) travels in files between tasks.  Every task names all it reads: files, the kernel's
facts, what the manifest says, and a digest of this program, so that a second build does nothing and a changed
input redoes exactly what depends on it (`stamps.py`).  What each action does is in `actions.py`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.exceptions import TaskFailed
from doit.globals import Globals

from kbuild_py import stamps
from kbuild_py.errors import Problems, UserError, refuse
from kbuild_py.files import cache_folder, sha256
from kbuild_py.kernel.lock import lock_path
from kbuild_py.kernel.prepare import prepared
from kbuild_py.layout import Build, facts_path
from kbuild_py.manifest.configuration import load_configuration
from kbuild_py.manifest.load import load_project as load_declared
from kbuild_py.manifest.model import Backend, BuildConfiguration, KernelDescription, Manifest
from kbuild_py.module.build import core_sources
from kbuild_py.package.patch import file_name
from kbuild_py.package.runtime import FILE_NAME as RUNTIME_FILE
from kbuild_py.package.runtime import sources as runtime_sources
from kbuild_py.progress import say
from kbuild_py.reporter import Reporter

Task = dict[str, Any]

# make, the shell and the compiler all read paths, each with its own special characters.
UNFIT = re.compile(r"[^\w/.+@~-]")
# doit commands that change nothing.
READING = ("help", "info", "list", "tabcompletion")
# The tasks of a build that come before its modules, the same for every backend.
COMMON_STAGES = ("_sources", "_compile", "_proof", "_delta", "_source", "_contract")
# What goes wrong with files although the program is right.
MENDABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class Project:
    """Everything that the graph is made of.  `digest` changes when this program does."""

    root: Path
    manifests: tuple[Manifest, ...]
    kernels: tuple[KernelDescription, ...]
    digest: str
    configuration: BuildConfiguration

    def kernel(self, name: str) -> KernelDescription:
        """The description of that name (manifests name existing ones only)."""
        return next(kernel for kernel in self.kernels if kernel.name == name)

    def builds(self) -> Iterator[Build]:
        """Every manifest for every kernel that it names."""
        for manifest in self.manifests:
            for name in manifest.kernels:
                yield Build(self.root, manifest, self.kernel(name))


def configuration(root: Path) -> dict[str, Any]:
    """doit's own settings.  From here on until this process ends, no other one changes build/."""
    problems = Problems()
    for path, remedy in (
        (root, "move the project to another folder"),
        (cache_folder(), "set KBUILD_PY_CACHE to another folder"),
    ):
        if unfit := sorted(set(UNFIT.findall(str(path)))):
            cause = f"the kernel's build cannot work below a path with {' and '.join(map(repr, unfit))} in it"
            problems.add(path, cause, remedy)
    problems.raise_if_any()
    sys.excepthook = report_uncaught
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is signal.SIG_DFL:  # not under nohup
            # As Ctrl-C does: end the programs that were started, remove what is half written.
            signal.signal(ending, signal.default_int_handler)
    if set(sys.argv[1:2]) & set(READING):
        # `doit list | head`: doit knows no reader that leaves.  Where programs run, see progress.put.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    record = root / "build" / ".doit.json"
    try:
        (root / "build").mkdir(exist_ok=True)
        if not set(sys.argv[1:2]) & set(READING):
            hold(root / "build" / ".lock")
    except OSError as error:
        raise refuse(root / "build", f"cannot write: {error.strerror}") from error
    try:
        json.loads(record.read_bytes())
    except FileNotFoundError:
        pass
    except ValueError:
        record.unlink()  # half written by a process that was killed
    return {
        "default_tasks": ["build"],
        "reporter": Reporter,
        "dep_file": str(record),
        "backend": "json",
        "verbosity": 2,
        "continue": True,
    }


def forgiving(dump: Callable[[], None]) -> Callable[[], None]:
    """doit's way to write its record, harmless on a full disk: the next build then does more, not less."""

    def wrapper() -> None:
        try:
            dump()
        except (OSError, UnboundLocalError) as error:
            # doit's own clean-up stumbles over a file that it could not open.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            say(f"build/.doit.json: cannot write: {cause.strerror}")

    return wrapper


def report_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say one line when the user presses Ctrl-C (or ends this process); Python then ends by SIGINT."""
    if issubclass(kind, KeyboardInterrupt):
        say("interrupted; what is finished stays, and the next build goes on from there")
    else:
        sys.__excepthook__(kind, error, trace)


_held: list[TextIO] = []


def hold(path: Path) -> None:
    """Lock `path` until this process ends; wait for another one that has it."""
    stream = path.open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another doit is at work in this folder; waiting for it")
        fcntl.flock(stream, fcntl.LOCK_EX)
    _held.append(stream)


def load_tasks(root: Path) -> list[Task]:
    """All tasks of the project at `root`; `UserError` with all that is wrong with its files."""
    if Globals.dep_manager is not None:
        backend = Globals.dep_manager.backend
        backend.dump = forgiving(backend.dump)
    return list(project_tasks(load_project(root)))


def load_project(root: Path) -> Project:
    """Read all manifests and kernel descriptions; `UserError` with every problem of all of them."""
    declared = load_declared(root)
    code = sorted(path for path in (root / "kbuild_py").rglob("*") if path.suffix in (".py", ".mk"))
    digest = sha256(b"".join(path.read_bytes() for path in code))
    return Project(root, declared.manifests, declared.kernels, digest, load_configuration(root))


def run(root: Path, names: Sequence[str]) -> int:
    """Run tasks from outside of doit; what it prints goes to standard error.  Returns doit's exit status."""
    # Not doit's option --output-file: it would empty the file that standard error may be.
    settings = {**configuration(root), "outfile": sys.stderr}
    tasks = load_tasks(root)
    loader = ModuleTaskLoader({"DOIT_CONFIG": settings, "task_project": lambda: (task for task in tasks)})
    try:
        status: int = DoitMain(loader).run(["run", *names])
    except SystemExit:  # the reporter's, when something was refused
        return 1
    return status


def project_tasks(project: Project) -> Iterator[Task]:
    """All tasks, in the order of the pipeline."""
    yield from kernel_tasks(project)
    # From here on: packages fetched, tree prepared, image and symbols known.
    yield from core_tasks(project)
    yield runtime_task(project)
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
            "doc": f"fetch and prepare {kernel.release}",
            "title": titled(f"kernel {kernel.name}: fetch and prepare {kernel.release}"),
            "actions": [(refusing(action("prepare_kernel")), [kernel])],
            "uptodate": [(is_prepared, [kernel])],
        }


def core_tasks(project: Project) -> Iterator[Task]:
    """The core module, once for each kernel."""
    yield group("core", "build the core module (kpatch.ko) for each kernel")
    signing = project.configuration.signing
    for kernel in used_kernels(project):
        folder = project.root / "build" / "core" / kernel.name
        yield {
            "basename": "core",
            "name": kernel.name,
            "doc": f"build kpatch.ko for {kernel.name}",
            "title": titled(f"core module for {kernel.name}"),
            **stamped(
                project.root / "build" / "core" / ".done" / kernel.name,
                (project.digest, repr(signing)),
                action("build_core"),
                project.root,
                kernel,
                signing,
            ),
            "task_dep": [f"kernel:{kernel.name}"],
            "file_dep": [
                facts_path(kernel),
                *core_sources(project.root / "core"),
                *(signing.files if signing else ()),
            ],
            "targets": [folder / "kpatch.ko", folder / "Module.symvers"],
            "clean": [(remove, [folder])],
        }


def runtime_task(project: Project) -> Task:
    """The package of the `kpatch` command, which packages of patches need."""
    root = project.root
    output = root / "build" / "core" / RUNTIME_FILE
    stamp = root / "build" / "core" / ".done" / "runtime-package"
    values = (project.digest, repr(project.configuration))
    return {
        "basename": "_runtime",
        "title": titled("package of the kpatch command"),
        **stamped(stamp, values, action("make_runtime_package"), root, output, project.configuration),
        "file_dep": [*runtime_sources(root), *sorted((root / "templates" / "package").glob("*.j2"))],
        "targets": [output],
    }


def build_tasks(project: Project, build: Build) -> Iterator[Task]:
    """One manifest for one kernel: six stages, each a folder, then what leaves the build.

    The module and its boot are there once for each backend.
    """

    def stage(name: str, what: str, does: str, *arguments: Any, says: object = None, **keys: Any) -> Task:
        """says: what the action reads of the manifest."""
        stamp = build.folder / ".done" / name.replace(":", "/")
        return {
            "basename": f"_{name}",
            "title": titled(f"{build.manifest.name} for {build.kernel.name}: {what}"),
            **stamped(stamp, (project.digest, repr(says)), action(does), build, *arguments),
            **keys,
        }

    manifest, kernel_facts = build.manifest, facts_path(build.kernel)
    signing = project.configuration.signing
    templates = project.root / "templates"
    yield stage(
        f"sources:{build.label}",
        "apply the patch, record commands",
        "make_sources",
        says=(
            manifest.patches,
            manifest.backends,
            [(item.name, item.functions == ()) for item in manifest.objects],
        ),
        task_dep=[f"kernel:{build.kernel.name}"],
        file_dep=[kernel_facts, *manifest.patches],
        targets=[build.commands, *(build.patched_source(source) for source in build.sources)],
    )
    # From here on: the patch applies, every touched file is built into an object that the manifest names.
    for source in build.sources:
        unit = build.unit(source)
        yield stage(
            f"compile:{unit.label}",
            f"compile {source}",
            "compile_unit",
            source,
            says=[hook.prototype for hook in manifest.hooks],
            # All of them, for one file may include another.
            file_dep=[kernel_facts, build.commands, *(build.patched_source(name) for name in build.sources)],
            targets=[unit.original, unit.patched, unit.proof_object],
        )
        yield stage(
            f"proof:{unit.label}",
            f"prove {source} against the image",
            "prove_unit",
            source,
            file_dep=[kernel_facts, build.commands, unit.proof_object],
            targets=[unit.proof],
        )
        yield stage(
            f"delta:{unit.label}",
            f"diff {source}",
            "diff_unit",
            source,
            file_dep=[kernel_facts, build.commands, unit.original, unit.patched],
            targets=[unit.delta, unit.patch_object],
        )
    for path in build.c_sources:
        yield stage(
            f"source:{build.label}:{path.name}",
            f"compile {path.name}",
            "compile_own_source",
            path,
            says=[hook.prototype for hook in manifest.hooks],
            task_dep=[f"kernel:{build.kernel.name}"],
            file_dep=[kernel_facts, path, *build.headers],
            targets=[build.source_object(path)],
        )
    proofs = [build.unit(source).proof for source in build.sources]
    deltas = [build.unit(source).delta for source in build.sources]
    yield stage(
        f"contract:{build.label}",
        "compare what changed with what is declared",
        "check_contract",
        says=manifest.objects,
        file_dep=[kernel_facts, build.commands, *proofs, *deltas],
        targets=[build.contract],
    )
    # From here on: exactly the declared functions change, and each is proven to be the running kernel's.
    called = [(hook.kind, hook.function) for hook in manifest.hooks]
    objects = [build.unit(source).patch_object for source in build.sources]
    objects += [build.source_object(path) for path in build.c_sources]
    for backend in manifest.backends:
        files = build.on(backend)
        with_core = backend is Backend.KPATCH
        on = "" if with_core else f" ({backend.value})"
        yield stage(
            files.task("module"),
            f"build the patch module{on}",
            "build_patch_module",
            backend,
            signing,
            says=(manifest.patch_name, manifest.description, manifest.consistency, called, backend, signing),
            file_dep=[
                kernel_facts,
                build.commands,
                build.contract,
                *([build.core_symbols] if with_core else []),
                build.core_header,
                *sorted(templates.glob("*.j2")),
                *proofs,
                *deltas,
                *objects,
                *(signing.files if signing else ()),
            ],
            targets=[files.module],
        )
    yield stage(
        f"record:{build.label}",
        "write the build's record",
        "write_record",
        project.digest,
        file_dep=[
            kernel_facts,
            *(manifest.path, *manifest.patches, *manifest.sources),
            *proofs,
            build.contract,
            build.core_module,
            *build.modules,
        ],
        targets=[build.record],
    )
    # From here on: the modules are what machines will load, signed where there is a key.
    package = build.folder / file_name(manifest, build.kernel)
    yield stage(
        f"package:{build.label}",
        "make the Debian package",
        "make_package",
        package,
        project.configuration,
        says=(manifest.name, manifest.version, manifest.description, project.configuration),
        file_dep=[
            kernel_facts,
            lock_path(build.kernel),
            build.record,
            build.core_module,
            *build.modules,
            *sorted((templates / "package").glob("*.j2")),
        ],
        targets=[package],
    )
    for backend in manifest.backends:
        files = build.on(backend)
        on = "" if backend is Backend.KPATCH else f" ({backend.value})"
        yield stage(
            files.task("verify"),
            f"boot the kernel, load, check, unload{on}",
            "verify_module",
            backend,
            says=manifest.checks,
            file_dep=[
                kernel_facts,
                *([build.core_module] if backend is Backend.KPATCH else []),
                files.module,
                *sorted(templates.glob("*.sh")),
            ],
            targets=[files.boot_report],
        )


def public_tasks(project: Project) -> Iterator[Task]:
    """What users call; `doit list` shows these."""
    purposes = {
        "build": ("record", "build the patch module of every manifest, or build:NAME"),
        "verify": (
            "verify",
            "boot the stock kernel with each patch module and run its checks, or verify:NAME",
        ),
        "package": ("package", "make a Debian package of every manifest and kernel, or package:NAME"),
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
                "task_dep": [
                    *(f"_{task}" for build in builds for task in last_tasks(build, last)),
                    *(["_runtime"] if basename == "package" else []),
                ],
                "clean": [(remove, [build.folder]) for build in builds] if basename == "build" else [],
            }
    yield {
        "basename": "matrix",
        "doc": "say what has become of each manifest for each kernel, and write build/matrix.{json,md,html}",
        "actions": [(refusing(show_matrix), [project])],
    }
    yield {
        "basename": "test",
        "doc": "format, lint, types and all tests (fast ones first, boots last)",
        "actions": [(refusing(action("run_tests")), [project.root])],
    }
    small = min((build for build in project.builds() if build.sources), key=patch_size, default=None)
    if small:
        yield {
            "basename": "bench",
            "doc": "print how long builds take, and how long a switch stops the kernel",
            "actions": [(refusing(action("run_bench")), [project.root, small])],
        }


def last_tasks(build: Build, stage: str) -> Sequence[str]:
    """The tasks of a build's stage, one for each backend where each has its own."""
    if stage not in ("module", "verify"):
        return [f"{stage}:{build.label}"]
    return [build.on(backend).task(stage) for backend in build.manifest.backends]


def show_matrix(project: Project) -> None:
    """Print and write the matrix; `UserError` when something in it is refused or has failed."""
    from kbuild_py import matrix

    core = {task["name"]: stage_of(task) for task in core_tasks(project) if "meta" in task}
    cells = []
    for build in project.builds():
        tasks = {task["basename"]: stage_of(task) for task in build_tasks(project, build)}
        common = [one for name, one in tasks.items() if name.partition(":")[0] in COMMON_STAGES]
        for backend in build.manifest.backends:
            files = build.on(backend)
            first = [core[build.kernel.name]] if backend is Backend.KPATCH else []
            cells.append(
                matrix.cell(
                    build.manifest.name,
                    build.kernel.name,
                    backend.value,
                    [*first, *common, tasks[f"_{files.task('module')}"]],
                    tasks[f"_{files.task('verify')}"],
                    files.module,
                    [unit.proof for unit in build.units],
                )
            )
    print(matrix.text(cells), end="", flush=True)
    matrix.write(project.root / "build", cells)
    if bad := sum(one.outcome in matrix.BAD for one in cells):
        raise refuse("", f"{bad} of {len(cells)} are refused or have failed")


def stage_of(task: Task) -> Any:
    """What the matrix wants to know of a task."""
    from kbuild_py.matrix import Stage

    about = task["meta"]
    name = task["basename"].removeprefix("_").partition(":")[0]
    return Stage(name, about["stamp"], about["values"], task["file_dep"])


def used_kernels(project: Project) -> list[KernelDescription]:
    """The kernels that manifests name, each once, in their order in manifests/kernels/."""
    names = {name for manifest in project.manifests for name in manifest.kernels}
    return [kernel for kernel in project.kernels if kernel.name in names]


def patch_size(build: Build) -> tuple[int, int, str]:
    """Sorts builds by how little they change; a manifest's kernels stay in its order."""
    size = sum(path.stat().st_size for path in build.manifest.patches)
    return len(build.sources), size, build.manifest.name


def is_prepared(kernel: KernelDescription) -> bool:
    """Whether the kernel is in the cache, as its lock has it now."""
    return prepared(kernel) is not None


def group(basename: str, purpose: str) -> Task:
    """A task that stands for all tasks of its basename; `purpose` is its line in `doit list`."""
    return {"basename": basename, "name": None, "doc": purpose}


def titled(text: str) -> Callable[[Any], str]:
    """doit wants a function for a task's title."""
    return lambda _task: text


def stamped(stamp: Path, values: Sequence[str], does: Callable[..., None], *arguments: Any) -> Task:
    """The parts of a task that do something, and that know whether it is due.

    values: what it depends on beside files
    """

    def run(*arguments: Any, task: Any) -> None:
        inputs = stamps.fingerprint(values, task.file_dep)
        stamps.clear(stamp)
        try:
            does(*arguments)
        except UserError as error:
            stamps.put_refusal(stamp, inputs, error)
            raise
        stamps.put(stamp, inputs)

    def is_current(task: Any) -> bool:
        return stamps.is_current(stamp, values, task.file_dep)

    about = {"stamp": stamp, "values": values}
    return {"actions": [(refusing(run), arguments)], "uptodate": [is_current], "meta": about}


def remove(folder: Path) -> None:
    """Remove what was built there (for `doit clean`), and the folder above when nothing else is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def action(name: str) -> Callable[..., None]:
    """The action of that name.

    The stages are imported when the first one runs: a build with nothing to do needs none of them.
    """

    def wrapper(*arguments: Any) -> None:
        from kbuild_py import actions

        getattr(actions, name)(*arguments)

    return wrapper


def refusing(does: Callable[..., None]) -> Callable[..., TaskFailed | None]:
    """`does` with errors that users can mend turned into doit's kind; others keep their traceback."""

    @functools.wraps(does)
    def wrapper(*arguments: Any, **keys: Any) -> TaskFailed | None:
        try:
            does(*arguments, **keys)
        except UserError as error:
            return TaskFailed(str(error))
        except OSError as error:
            if error.errno not in MENDABLE:
                raise
            return TaskFailed(f"{error.filename2 or error.filename or 'a file'}: {error.strerror}")
        return None

    return wrapper
