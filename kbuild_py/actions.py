# SPDX-License-Identifier: GPL-2.0-or-later
"""What each task does: read files, call one stage, write files whole.

An action gets a `Build` and leaves the files that `tasks.py` names as its targets.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from kbuild_py import baseline, bench, contract, symbols
from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Options, Verdicts
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.elf.write import write_object
from kbuild_py.errors import Problems, UserError
from kbuild_py.files import read_json, write_atomic, write_json
from kbuild_py.kernel.image import KernelImage
from kbuild_py.kernel.prepare import prepare
from kbuild_py.kernel.symbols import KernelSymbols
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.layout import Build, UnitFiles, facts_path
from kbuild_py.manifest.model import KernelDescription
from kbuild_py.module import build as module_build
from kbuild_py.module.kpatch import Part, PatchedFunction, module_sources
from kbuild_py.module.recipe import replay
from kbuild_py.progress import say
from kbuild_py.run import show
from kbuild_py.unit import check, command, compile, patchfile
from kbuild_py.vm.verify import verify, verify_guest


def _target(build: Build) -> TargetKernel:
    """The prepared kernel of a build."""
    return TargetKernel.load(facts_path(build.kernel))


def prepare_kernel(kernel: KernelDescription) -> None:
    """Fetch and prepare a kernel into the cache."""
    prepare(kernel)


def build_core(root: Path, kernel: KernelDescription) -> None:
    """build/core/KERNEL/: kpatch.ko and its Module.symvers."""
    target = TargetKernel.load(facts_path(kernel))
    module_build.build_core(target, root / "core", root / "build" / "core" / kernel.name)


def make_sources(build: Build) -> None:
    """01-sources: the kernel's tree without and with the patch, and kbuild's command for each file."""
    target = _target(build)
    units = check.check_patches(target, build.manifest.patches)
    for unit in units:
        for note in unit.source.notes:
            say(note)
    compile.lay_out(target, units, build.trees)
    commands = {unit.source.path: command.as_json(unit.command) for unit in units}
    write_json(build.commands, commands)


def compile_unit(build: Build, source: str) -> None:
    """02-objects: the pair, and the original as the kernel's build finishes it, for the proof."""
    target, files = _target(build), build.unit(source)
    units = check.check_patches(target, build.manifest.patches)
    unit = next(unit for unit in units if unit.source.path == source)
    pair = compile.compile_pair(target, unit, compile.Layout.within(build.trees), files.objects)
    compile.proof_object(target, unit.command, pair.original, files.proof_object)


def prove_unit(build: Build, source: str) -> None:
    """03-proof: which functions of the original are the image's, and where its symbols are."""
    target, files = _target(build), build.unit(source)
    recorded = command.record(target, [source])[source]

    def plain() -> ObjectFile:
        assert isinstance(recorded, command.CompileCommand)  # what is not built was refused before
        overlay = compile.Layout.within(build.trees).original
        return read_object(compile.plain_object(target, recorded, overlay, files.objects / "plain.o"))

    image, names = KernelImage.load(target.vmlinux), KernelSymbols.load(target.symbols)
    # Called by its source's name, so that the proof says the same wherever the project lies.
    compiled = replace(read_object(files.proof_object), path=source)
    proof = baseline.prove(compiled, image, names, plain=plain)
    write_atomic(files.proof.with_suffix(".txt"), proof.text())
    write_json(files.proof, proof.to_json())
    say(proof.summary())


def diff_unit(build: Build, source: str) -> None:
    """04-delta: the patch object and the account of it; `UserError` with every verdict."""
    files = build.unit(source)
    original, patched = (
        replace(read_object(path), path=patchfile.shown(path)) for path in (files.original, files.patched)
    )
    options = Options(object=build.manifest.objects[0].name, exports=_exports(_target(build)))
    result = diff(original, patched, options)
    if isinstance(result, Verdicts):
        raise UserError(*(verdict.problem() for verdict in result.verdicts))
    refuse_callbacks(source, result)
    for note in result.notes:
        say(f"{source}: {note}")
    write_atomic(files.patch_object, write_object(result.object) if result.object else b"")
    write_json(files.delta, result.to_json())


def refuse_callbacks(source: str, delta: Delta) -> None:
    """`UserError` with every callback that the source registers: nothing in the module would call it."""
    problems = Problems()
    for callback in delta.callbacks:
        problems.add(
            source,
            f"the source registers '{callback.function}' as a callback ({callback.section})",
            "callbacks from the source are not called yet: make it a hook of the manifest",
        )
    problems.raise_if_any()


def check_contract(build: Build) -> None:
    """04-delta/contract.json: the functions that the module will replace."""
    deltas = {unit.source: read_json(unit.delta) for unit in build.units}
    proofs = {unit.source: baseline.Proof.from_json(read_json(unit.proof)) for unit in build.units}
    replaced = contract.check(build.manifest, deltas, proofs)
    write_json(build.contract, [asdict(item) for item in replaced])


def build_patch_module(build: Build) -> None:
    """05-module and the module itself: objtool, references, sources, kbuild."""
    target = _target(build)
    functions = [contract.Replacement.from_json(item) for item in read_json(build.contract)]
    names = KernelSymbols.load(target.symbols)
    exports = _exports(target)
    units = [_linkable(target, unit, functions) for unit in build.units if unit.patch_object.stat().st_size]
    bound, references = symbols.resolve(units, exports, names, _init_range(names))
    new_names = {unit.source: unit.new_names for unit in bound}
    # Two files may have the same flat name: kernel/sched/clock.c and kernel/sched_clock.c.
    objects = {
        f"{number}_{_flat(unit.source)}.o": write_object(unit.object) for number, unit in enumerate(bound, 1)
    }

    def position(name: str, address: int) -> int:
        return names.sympos(name, address)

    texts = module_sources(
        name=build.manifest.name,
        description=build.manifest.description,
        release=target.release,
        version=target.version,
        build_id=target.build_id,
        functions=[
            PatchedFunction(
                item.name,
                position(item.name, item.address),
                item.address,
                item.size,
                tuple(Part(part, position(part, at), at, size) for part, at, size in item.parts),
                new_names[item.source][item.name],
                item.force_unsafe,
            )
            for item in functions
        ],
        references=references,
        objects=list(objects),
    )
    texts["kpatch.h"] = build.core_header.read_text()
    module_build.write_module(build.module_folder, texts.items(), objects.items())
    write_json(build.module_folder / "references.json", [asdict(item) for item in references])
    made = replay(target, build.module_folder, build.module_name, list(objects), build.core_symbols)
    write_atomic(build.module, made.read_bytes())
    say(f"{patchfile.shown(build.module)}: replaces {', '.join(item.name for item in functions)}")


def _exports(target: TargetKernel) -> Mapping[str, symbols.Export]:
    """What the kernel exports to modules."""
    return _read_exports(target.headers / "Module.symvers")


@cache
def _read_exports(path: Path) -> Mapping[str, symbols.Export]:
    """Every diff and every module of a kernel asks; a prepared kernel does not change."""
    return symbols.parse_symvers(path.read_text(), str(path))


def _linkable(target: TargetKernel, files: UnitFiles, functions: list[contract.Replacement]) -> symbols.Unit:
    """The patch object of one unit after objtool, with what is needed to bind it."""
    proof = baseline.Proof.from_json(read_json(files.proof))
    account = read_json(files.delta)
    finished = files.patch_object.with_suffix(".objtool.o")
    return symbols.Unit(
        source=files.source,
        object=read_object(compile.finished_object(target, files.patch_object, finished)),
        locals=frozenset(item["name"] for item in account["references"] if item["local"]),
        addresses=proof.addresses,
        changed=tuple(item.name for item in functions if item.source == files.source),
    )


def _flat(source: str) -> str:
    """A source's path as one file name: fs_proc_meminfo."""
    return source.removesuffix(".c").replace("/", "_")


def _init_range(names: KernelSymbols) -> tuple[int, int]:
    """The image's addresses that are freed after boot."""
    begin, end = names.unique("__init_begin"), names.unique("__init_end")
    return (begin.address, end.address) if begin and end else (0, 0)


def verify_module(build: Build) -> None:
    """06-vm: the manifest's checks in the stock kernel, before load, after load, after unload."""
    target = _target(build)
    guest = verify_guest(build.manifest.checks, build.core_module, build.module)
    verify(target.boot_image, guest, build.boot_report.parent, patchfile.shown(build.manifest.path))


def run_tests(root: Path) -> None:
    """Format, lint, types, tests; every step runs, and all that failed are named at the end."""
    python = [sys.executable, "-m"]
    steps = {
        "format": [*python, "ruff", "format", "--check", "."],
        "lint": [*python, "ruff", "check", "."],
        "types": [*python, "mypy"],
        "tests": [*python, "pytest"],
    }
    problems = Problems()
    for name, argv in steps.items():
        say(f"{name}: {' '.join(argv[2:])}")
        if show(argv, cwd=root) != 0:
            problems.add(name, f"{' '.join(argv[2:])} failed", "its output is above")
    problems.raise_if_any()


def run_bench(root: Path, build: Build) -> None:
    """Print the benchmark's table for the first source of a build."""
    print(bench.bench(root, build.manifest.name, build.sources[0], build.kernel), end="")
