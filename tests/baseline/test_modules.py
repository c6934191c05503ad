# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof of modules' files, against the modules that Debian ships."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.baseline import Proof, State, prove
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.kernel.module_image import ModuleImage, ModuleSymbols, find_module, read_module
from kbuild_py.kernel.symbols import KernelSymbols
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.unit.command import CompileCommand, record
from kbuild_py.unit.compile import PAIR_FLAGS, compile_unit, lay_out, plain_object, proof_object

pytestmark = pytest.mark.kernel

FILES = {
    "drivers/block/loop.c": "loop",
    "drivers/net/virtio_net.c": "virtio_net",
    "fs/ext4/inode.c": "ext4",
    "fs/fat/inode.c": "fat",
    "net/netfilter/nf_tables_api.c": "nf_tables",
}


def shipped(kernel: TargetKernel, name: str) -> ObjectFile:
    return read_module(find_module(kernel.modules, name))


def against(kernel: TargetKernel, compiled: ObjectFile, module: ObjectFile, plain: ObjectFile) -> Proof:
    image = ModuleImage(module, KernelSymbols.load(kernel.symbols))
    return prove(compiled, image, ModuleSymbols(module, image), plain=plain, apart=True)


def compile_source(kernel: TargetKernel, source: str, folder: Path) -> tuple[ObjectFile, ObjectFile]:
    """The object for the proof, and the one without sections for each function."""
    command = record(kernel, [source])[source]
    assert isinstance(command, CompileCommand) and command.object == FILES[source]
    folder.mkdir()
    overlay = lay_out(kernel, (), folder / "trees").original
    compiled = compile_unit(command, overlay, folder / "original.o", PAIR_FLAGS)
    finished = proof_object(kernel, command, compiled, folder / "proof.o")
    return read_object(finished), read_object(plain_object(kernel, command, overlay, folder / "plain.o"))


@pytest.mark.parametrize("name", ["debian12", "debian12_newer"])
def test_every_function_is_proven(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Without branch tracking, and with it."""
    kernel: TargetKernel = request.getfixturevalue(name)

    def one(source: str) -> Proof:
        compiled, plain = compile_source(kernel, source, tmp_path / source.replace("/", "_"))
        return against(kernel, compiled, shipped(kernel, FILES[source]), plain)

    with ThreadPoolExecutor(2) as pool:
        proofs = list(pool.map(one, FILES))
    functions = [function for proof in proofs for function in proof.functions]
    assert len(functions) > 400
    wrong = [(item.name, item.state) for item in functions if item.state is not State.PROVEN]
    assert not wrong


def test_another_target_of_a_call_is_no_proof(debian12: TargetKernel, tmp_path: Path) -> None:
    """The bytes of a shipped module are zero where relocations are, so these are what is compared."""
    compiled, plain = compile_source(debian12, "fs/fat/inode.c", tmp_path / "fat")
    module = shipped(debian12, "fat")
    index = {symbol.name: symbol.index for symbol in module.symbols}
    text = next(section for section in module.sections if section.name == ".text")
    (sync,) = (one for one in module.symbols if one.name == "fat_sync_inode")
    inside = range(sync.value, sync.value + sync.size)
    calls = [item for item in text.relocations if item.offset in inside]
    assert calls
    moved = tuple(
        replace(item, symbol=index["kfree"]) if item is calls[0] else item for item in text.relocations
    )
    sections = tuple(
        replace(section, relocations=moved) if section is text else section for section in module.sections
    )
    proof = against(debian12, compiled, replace(module, sections=sections), plain)
    states = {item.name: item.state for item in proof.functions}
    assert states["fat_sync_inode"] is State.MISMATCH
    assert [name for name, state in states.items() if state is State.MISMATCH] == ["fat_sync_inode"]
