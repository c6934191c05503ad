# SPDX-License-Identifier: GPL-2.0-or-later
"""What each task does: read files, call one stage, write files whole.

An action gets a `Build` and leaves the files that `tasks.py` names as its targets.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from kbuild_py import baseline, bench, bench_core, contract, symbols
from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Options, Verdicts
from kbuild_py.elf.constants import STT_FUNC
from kbuild_py.elf.object import SHN_UNDEF, ObjectFile
from kbuild_py.elf.read import parse_object, read_object
from kbuild_py.elf.write import write_object
from kbuild_py.errors import Problems, UserError
from kbuild_py.files import read_json, write_atomic, write_json
from kbuild_py.kernel import config, facts, module_image
from kbuild_py.kernel.image import KernelImage
from kbuild_py.kernel.prepare import prepare
from kbuild_py.kernel.symbols import KernelSymbols
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.layout import Build, UnitFiles, facts_path
from kbuild_py.manifest.model import (
    Backend,
    BuildConfiguration,
    Hook,
    KernelDescription,
    PatchedObject,
    Signing,
)
from kbuild_py.module import build as module_build
from kbuild_py.module import dynrela, hooks, kpatch, livepatch, own
from kbuild_py.module.late import object_of, with_late_relocations
from kbuild_py.module.recipe import replay
from kbuild_py.package import deb, patch, runtime, sign
from kbuild_py.package.record import record
from kbuild_py.progress import say
from kbuild_py.run import show
from kbuild_py.unit import check, command, compile, patchfile
from kbuild_py.vm.livepatch import livepatch_guest
from kbuild_py.vm.modules import depends, module_files
from kbuild_py.vm.verify import verify, verify_guest


def _target(build: Build) -> TargetKernel:
    """The prepared kernel of a build."""
    return TargetKernel.load(facts_path(build.kernel))


def prepare_kernel(kernel: KernelDescription) -> None:
    """Fetch and prepare a kernel into the cache."""
    prepare(kernel)


def build_core(root: Path, kernel: KernelDescription, signing: Signing | None) -> None:
    """build/core/KERNEL/: kpatch.ko, signed where there is a key, and its Module.symvers."""
    target = TargetKernel.load(facts_path(kernel))
    options = config.parse(target.config.read_text())
    Problems(facts.missing(options, target.config, facts.KPATCH)).raise_if_any()
    folder = root / "build" / "core" / kernel.name
    module_build.build_core(target, root / "core", folder)
    if signing:
        sign.sign(target, signing, folder / "kpatch.ko")


def make_sources(build: Build) -> None:
    """01-sources: the kernel's tree without and with the patch, and kbuild's command for each file."""
    target = _target(build)
    if Backend.LIVEPATCH in build.manifest.backends:
        livepatch.check_kernel(config.parse(target.config.read_text()), build.kernel.name)
    units = check.check_patches(target, build.manifest.patches, build.manifest.objects)
    for unit in units:
        for note in unit.source.notes:
            say(note)
    compile.lay_out(target, units, build.trees)
    commands = {unit.source.path: command.as_json(unit.command) for unit in units}
    write_json(build.commands, commands)


def compile_unit(build: Build, source: str) -> None:
    """02-objects: the pair, and the original as the kernel's build finishes it, for the proof."""
    target, files = _target(build), build.unit(source)
    units = check.check_patches(target, build.manifest.patches, build.manifest.objects)
    unit = next(unit for unit in units if unit.source.path == source)
    layout = compile.Layout.within(build.trees)
    pair = compile.compile_pair(target, unit, layout, files.objects)
    if build.manifest.hooks:
        refuse_contradicted_hooks(build.manifest.hooks, unit.command, layout.patched, pair)
    compile.proof_object(target, unit.command, pair.original, files.proof_object)


def refuse_contradicted_hooks(
    named: Sequence[Hook], recorded: command.CompileCommand, overlay: Path, pair: compile.ObjectPair
) -> None:
    """`UserError` with every hook that the patch defines otherwise than it is called.

    Only functions that the patch adds are looked at: the file may use a hook's name for something else.
    """
    before, after = (
        {symbol.name for symbol in read_object(path).symbols if symbol.type == STT_FUNC}
        for path in (pair.original, pair.patched)
    )
    added = [hook for hook in named if hook.function in after - before]
    if not added:
        return
    problems = Problems()
    wrong = compile.contradicted(recorded, overlay, [f"{hook.prototype};" for hook in added])
    for hook in added:
        if words := wrong.get(f"{hook.prototype};"):
            problems.add(
                hook.place,
                f"{recorded.source} defines the {hook.kind.value} hook otherwise: {words}",
                f"write it as: {hook.prototype}",
            )
    problems.raise_if_any()


def compile_own_source(build: Build, path: Path) -> None:
    """02-objects/manifest: a C file of the manifest, as a source of the patch module."""
    made = own.compile_source(
        _target(build), build.manifest, path, build.headers, build.source_object(path).parent
    )
    assert made == build.source_object(path)


def prove_unit(build: Build, source: str) -> None:
    """03-proof: which functions of the original are the image's, and where its symbols are."""
    target, files = _target(build), build.unit(source)
    recorded = command.record(target, [source])[source]

    def plain() -> ObjectFile:
        assert isinstance(recorded, command.CompileCommand)  # what is not built was refused before
        overlay = compile.Layout.within(build.trees).original
        return read_object(compile.plain_object(target, recorded, overlay, files.objects / "plain.o"))

    shipped = _shipped(target, _objects(build)[source])
    # Called by its source's name, so that the proof says the same wherever the project lies.
    compiled = replace(read_object(files.proof_object), path=source)
    proof = baseline.prove(
        compiled, shipped.image, shipped.names, plain=plain, apart=shipped.home is not None
    )
    write_atomic(files.proof.with_suffix(".txt"), proof.text())
    write_json(files.proof, proof.to_json())
    say(proof.summary())


def diff_unit(build: Build, source: str) -> None:
    """04-delta: the patch object and the account of it; `UserError` with every verdict."""
    files = build.unit(source)
    original, patched = (
        replace(read_object(path), path=patchfile.shown(path)) for path in (files.original, files.patched)
    )
    options = Options(object=_objects(build)[source], exports=_exports(_target(build)))
    result = diff(original, patched, options)
    if isinstance(result, Verdicts):
        raise UserError(*(verdict.problem() for verdict in result.verdicts))
    for note in result.notes:
        say(f"{source}: {note}")
    write_atomic(files.patch_object, write_object(result.object) if result.object else b"")
    write_json(files.delta, result.to_json())


def check_contract(build: Build) -> None:
    """04-delta/contract.json: the functions that the module will replace."""
    deltas = {unit.source: read_json(unit.delta) for unit in build.units}
    proofs = {unit.source: baseline.Proof.from_json(read_json(unit.proof)) for unit in build.units}
    replaced = contract.check(build.manifest, _objects(build), deltas, proofs)
    write_json(build.contract, [asdict(item) for item in replaced])


def build_patch_module(build: Build, backend: Backend, signing: Signing | None) -> None:
    """05-module and the module itself: objtool, references, sources, kbuild, signature."""
    target, files = _target(build), build.on(backend)
    for_core = backend is Backend.KPATCH
    functions = [contract.Replacement.from_json(item) for item in read_json(build.contract)]
    names = KernelSymbols.load(target.symbols)
    exports = {**_exports(target), **(_read_exports(build.core_symbols) if for_core else {})}
    own_objects = {own.shown_name(path): read_object(build.source_object(path)) for path in build.c_sources}
    hooks.check_names(own_objects, names)
    accounts = {unit.source: read_json(unit.delta) for unit in build.units}
    homes = _objects(build)
    called = hooks.bind(build.manifest, homes, accounts, own_objects)
    # From here on: each hook is a function of one of the objects, with the prototype that it needs.
    units = [
        _linkable(target, unit, _shipped(target, homes[unit.source]).home, functions, called)
        for unit in build.units
        if unit.patch_object.stat().st_size
    ]
    units += [
        symbols.Unit(name, obj, frozenset(), {}, (), _symbols(called, name), frozenset({"__this_module"}))
        for name, obj in own_objects.items()
    ]
    if not for_core:
        # Defined by patch.c.
        units = [replace(unit, linked=unit.linked | set(livepatch.SHADOW)) for unit in units]
    bound, references = symbols.resolve(units, exports, names, _init_range(names), late=not for_core)
    new_names = {unit.source: unit.new_names for unit in bound}
    late = {one.anchor: one for one in references if one.object != symbols.VMLINUX}
    tables: dict[str, list[dynrela.Dynrela]] = {}
    # Two files may have the same flat name: kernel/sched/clock.c and kernel/sched_clock.c.
    objects = {}
    for number, unit in enumerate(bound, 1):
        dynrela.check_places(unit.source, unit.object, late)
        obj = unit.object
        if for_core:
            obj, entries = dynrela.with_dynrelas(obj, late, str(number))
            tables.setdefault(homes.get(unit.source, symbols.VMLINUX), []).extend(entries)
        objects[f"{number}_{_flat(unit.source)}.o"] = write_object(obj)
    patched = [
        kpatch.PatchedObject(
            item.name,
            tuple(_patched_functions(build, target, item.name, functions, new_names)),
            tuple(one for one in references if one.object == item.name == symbols.VMLINUX),
            tuple(tables.get(item.name, ())),
            tuple(
                replace(hook, symbol=new_names[hook.source][hook.symbol])
                for hook in called
                if hook.object == item.name
            ),
        )
        for item in _in_order(build, references)
    ]
    about = {
        "name": build.manifest.patch_name,
        "description": build.manifest.description,
        "release": target.release,
        "version": target.version,
        "build_id": target.build_id,
    }
    if for_core:
        texts = kpatch.module_sources(**about, objects=patched, files=list(objects))
    else:
        used = {
            symbol.name for unit in bound for symbol in unit.object.symbols if symbol.section == SHN_UNDEF
        }
        shadow = [name for name in livepatch.SHADOW if name in used]
        texts = livepatch.module_sources(**about, objects=patched, shadow=shadow, files=list(objects))
        for name, used_names in _names_in_modules(patched, references).items():
            livepatch.check_positions(name, used_names, _shipped(target, name).shifting)
        notes = livepatch.notes([function for item in patched for function in item.functions])
        for note in [*notes, *livepatch.reload_notes(map(object_of, late), names)]:
            say(note)
    texts["kpatch.h"] = build.core_header.read_text()
    module_build.write_module(files.module_folder, texts.items(), objects.items())
    write_json(files.module_folder / "references.json", [asdict(item) for item in references])
    extra = build.core_symbols if for_core else files.module_folder / "no.symvers"
    if not for_core:
        write_atomic(extra, "")
    made = replay(target, files.module_folder, files.module_name, list(objects), extra).read_bytes()
    if not for_core:
        made = write_object(with_late_relocations(parse_object(made, files.module.name)))
    write_atomic(files.module, made)
    if signing:
        sign.sign(target, signing, files.module)
    does = [f"replaces {', '.join(item.name for item in functions)}"] if functions else []
    does += [f"{hook.kind.value} runs {hook.symbol}" for hook in called]
    say(f"{patchfile.shown(files.module)}: {'; '.join(does)}")


def _names_in_modules(
    patched: Iterable[kpatch.PatchedObject], references: Iterable[symbols.Reference]
) -> dict[str, list[str]]:
    """Module -> its symbols that the patch replaces or reaches."""
    found: dict[str, list[str]] = {}
    for item in patched:
        found.setdefault(item.name, []).extend(function.old_name for function in item.functions)
    for reference in references:
        if object_of(reference.anchor) == reference.object:
            found.setdefault(reference.object, []).append(reference.name)
    found.pop(symbols.VMLINUX, None)
    return found


def _in_order(build: Build, references: Iterable[symbols.Reference]) -> list[PatchedObject]:
    """The patch's objects; vmlinux first, also when patched code of modules only refers to it."""
    declared = build.manifest.objects
    image = [item for item in declared if item.name == symbols.VMLINUX]
    if not image and any(one.object == symbols.VMLINUX for one in references):
        image = [PatchedObject(symbols.VMLINUX, (), build.manifest.objects[0].place)]
    return [*image, *(item for item in declared if item.name != symbols.VMLINUX)]


def _patched_functions(
    build: Build,
    target: TargetKernel,
    name: str,
    functions: Iterable[contract.Replacement],
    new_names: Mapping[str, Mapping[str, str]],
) -> Iterator[kpatch.PatchedFunction]:
    """What the module says of each function that it replaces in vmlinux or in one module."""
    shipped, homes = _shipped(target, name), _objects(build)
    mine = [unit for unit in build.units if homes[unit.source] == name]
    proofs = [baseline.Proof.from_json(read_json(unit.proof)) for unit in mine]
    # What the proof compared, by address.
    proven = [one for proof in proofs for one in proof.functions if one.state is baseline.State.PROVEN]
    spans = {one.address: one.spans for one in proven}

    def place(symbol: str, address: int, size: int) -> tuple[int, int, int, kpatch.Code]:
        """Position, link-time address (a module has none), size, and code."""
        code = kpatch.Code(shipped.image.read(address, size), spans[address])
        return shipped.names.sympos(symbol, address), 0 if shipped.home else address, size, code

    for item in functions:
        if item.object == name:
            yield kpatch.PatchedFunction(
                item.name,
                *place(item.name, item.address, item.size),
                tuple(kpatch.Part(part, *place(part, at, size)) for part, at, size in item.parts),
                new_names[item.source][item.name],
                item.force_unsafe,
            )


@dataclass(frozen=True, slots=True)
class Shipped:
    """What was shipped of vmlinux or of a module, for the proof; and the module, for references.

    shifting: the module's names whose positions are others while it starts
    """

    image: baseline.Image
    names: baseline.ImageNames
    home: symbols.Home | None = None
    shifting: Set[str] = frozenset()


@cache
def _shipped(target: TargetKernel, name: str) -> Shipped:
    """vmlinux or a module, by its name."""
    vmlinux = KernelSymbols.load(target.symbols)
    if name == symbols.VMLINUX:
        return Shipped(KernelImage.load(target.vmlinux), vmlinux)
    obj = module_image.read_module(module_image.find_module(target.modules, name))
    image = module_image.ModuleImage(obj, vmlinux)
    names = module_image.ModuleSymbols(obj, image)
    uses = frozenset(depends(obj))
    return Shipped(
        image, names, symbols.Home(name, names, module_image.OWN, image.init_range, uses), names.shifting
    )


def _objects(build: Build) -> dict[str, str]:
    """Each file that the patch touches, and what it is part of: vmlinux or a module."""
    return {source: command["object"] for source, command in read_json(build.commands).items()}


def _exports(target: TargetKernel) -> Mapping[str, symbols.Export]:
    """What the kernel exports to modules."""
    return _read_exports(target.headers / "Module.symvers")


@cache
def _read_exports(path: Path) -> Mapping[str, symbols.Export]:
    """Every diff and every module of a kernel asks; nothing changes these files while modules are built."""
    return symbols.parse_symvers(path.read_text(), str(path))


def _symbols(called: Iterable[hooks.BoundHook], name: str) -> tuple[str, ...]:
    """The functions of a file that are hooks."""
    return tuple(hook.symbol for hook in called if hook.source == name)


def _linkable(
    target: TargetKernel,
    files: UnitFiles,
    home: symbols.Home | None,
    functions: list[contract.Replacement],
    called: Iterable[hooks.BoundHook],
) -> symbols.Unit:
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
        hooks=_symbols(called, files.source),
        home=home,
    )


def _flat(source: str) -> str:
    """A source's path as one file name: fs_proc_meminfo."""
    return re.sub(r"\W", "_", source.removesuffix(".c"))


def _init_range(names: KernelSymbols) -> tuple[int, int]:
    """The image's addresses that are freed after boot."""
    begin, end = names.unique("__init_begin"), names.unique("__init_end")
    return (begin.address, end.address) if begin and end else (0, 0)


def write_record(build: Build, program: str) -> None:
    """record.json: what the modules were made from; `program` is this program's digest."""
    write_json(build.record, record(build, _target(build), program))


def make_package(build: Build, output: Path, configuration: BuildConfiguration) -> None:
    """The Debian package; `UserError` when its kernel would not take the modules."""
    target = _target(build)
    reason = sign.enforcement(config.parse(target.config.read_text()), configuration)
    sign.refuse_unsigned((build.core_module, *build.modules), reason)
    for old in output.parent.glob("*.deb"):  # of another version
        old.unlink()
    deb.build(patch.patch_package(build, target, configuration), output)
    say(patchfile.shown(output))


def make_runtime_package(root: Path, output: Path, configuration: BuildConfiguration) -> None:
    """The Debian package of the `kpatch` command."""
    for old in output.parent.glob("*.deb"):
        old.unlink()
    deb.build(runtime.runtime_package(root, configuration), output)
    say(patchfile.shown(output))


def verify_module(build: Build, backend: Backend) -> None:
    """06-vm: the manifest's checks in the stock kernel, before load, after load, after unload."""
    target, files, checks = _target(build), build.on(backend), build.manifest.checks
    names = [item.name for item in build.manifest.objects if item.name != symbols.VMLINUX]
    there = module_files(target.modules, names)
    if backend is Backend.KPATCH:
        guest = verify_guest(checks, build.core_module, files.module, files=there)
    else:
        guest = livepatch_guest(checks, files.module, files=there)
    verify(target.boot_image, guest, files.boot_report.parent, patchfile.shown(build.manifest.path))


def run_tests(root: Path) -> None:
    """Format, lint, types, tests; every step runs, and all that failed are named at the end."""
    python = [sys.executable, "-m"]
    steps = {
        "format": [*python, "ruff", "format", "--check", "."],
        "lint": [*python, "ruff", "check", "."],
        "types": [*python, "mypy"],
        # Two at a time, so at most two boots; the tests of one file share what they have built and booted.
        "tests": [*python, "pytest", "--numprocesses=2", "--dist=loadfile"],
    }
    problems = Problems()
    for name, argv in steps.items():
        say(f"{name}: {' '.join(argv[2:])}")
        if show(argv, cwd=root) != 0:
            problems.add(name, f"{' '.join(argv[2:])} failed", "its output is above")
    problems.raise_if_any()


def run_bench(root: Path, build: Build) -> None:
    """Print the tables: building the first source of a build, and stopping its kernel."""
    print(bench.bench(root, build.manifest.name, build.sources[0], build.kernel), end="")
    print(bench_core.bench_core(root, _target(build)), end="")
