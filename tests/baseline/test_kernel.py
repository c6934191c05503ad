# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof on the stock kernel: what was compiled right is proven, what was compiled wrong is caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kbuild_py.baseline import Proof, State, prove
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.kernel.image import KernelImage
from kbuild_py.kernel.symbols import KernelSymbols
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import PatchedObject
from kbuild_py.unit.check import check_patches
from kbuild_py.unit.command import CompileCommand, record
from kbuild_py.unit.compile import PAIR_FLAGS, compile_unit, lay_out, plain_object, proof_object
from kbuild_py.unit.overlay import make_overlay

pytestmark = pytest.mark.kernel

MANIFESTS = Path(__file__).parents[2] / "manifests"
# Folder of the kernel tree -> sources in it, without .c.
FILES = {
    "fs": (
        "proc/meminfo proc/array exec namei open read_write dcache pipe fcntl select eventpoll "
        "locks buffer splice"
    ),
    "kernel": (
        "fork exit signal sys sched/core sched/fair cred pid ptrace workqueue time/timer "
        "futex/core audit events/core rcu/tree"
    ),
    "mm": "mmap memory slub shmem filemap mprotect oom_kill page_alloc vmalloc",
    "net": (
        "ipv4/tcp ipv4/udp ipv4/route core/dev core/skbuff core/sock socket unix/af_unix "
        "ipv6/addrconf netlink/af_netlink"
    ),
    "drivers": "base/core base/dd tty/tty_io char/random pci/pci acpi/scan",
    "block": "bio",
    "crypto": "api",
    "lib": "vsprintf",
    "security": "selinux/hooks",
    "arch": "x86/kernel/cpu/common",
}
# Of these, what the other kernel is tried on each time; all of them with `pytest -m full`.
SOME = {
    "drivers/base/core.c",
    "fs/proc/meminfo.c",
    "kernel/pid.c",
    "mm/oom_kill.c",
    "mm/slub.c",
    "net/netlink/af_netlink.c",
    "net/socket.c",
}
SOURCES = [f"{folder}/{name}.c" for folder, names in FILES.items() for name in names.split()]


@pytest.fixture(scope="session")
def names(debian12: TargetKernel) -> KernelSymbols:
    """The stock kernel's symbols."""
    return KernelSymbols.load(debian12.symbols)


@pytest.fixture(scope="session")
def image(debian12: TargetKernel) -> KernelImage:
    """The stock kernel's bytes."""
    return KernelImage.load(debian12.vmlinux)


def commands(kernel: TargetKernel, sources: Sequence[str]) -> dict[str, CompileCommand]:
    found = record(kernel, sources)
    assert all(isinstance(one, CompileCommand) and one.object == "vmlinux" for one in found.values())
    return {name: one for name, one in found.items() if isinstance(one, CompileCommand)}


def overlay_of(kernel: TargetKernel, command: CompileCommand, folder: Path) -> Path:
    files: dict[str, bytes | Path] = {name: Path(file) for name, file in command.generated}
    return make_overlay(folder, kernel.tree, {**files, command.source: kernel.tree / command.source})


def prove_source(
    kernel: TargetKernel,
    image: KernelImage,
    names: KernelSymbols,
    command: CompileCommand,
    folder: Path,
    *,
    overlay: Path | None = None,
    flags: Sequence[str] = (),
    plain: bool = True,
) -> Proof:
    """Compile one source as a build does, with additional flags, and prove the object."""
    overlay = overlay or overlay_of(kernel, command, folder / "overlay")
    compiled = compile_unit(command, overlay, folder / "original.o", (*PAIR_FLAGS, *flags))
    original = proof_object(kernel, command, compiled, folder / "proof.o")

    def make() -> ObjectFile:
        return read_object(plain_object(kernel, command, overlay, folder / "plain.o"))

    return prove(read_object(original), image, names, plain=make if plain else None)


def prove_sources(kernel: TargetKernel, sources: Sequence[str], folder: Path) -> dict[str, Proof]:
    """The proofs of these sources, in `folder`."""
    image, names = KernelImage.load(kernel.vmlinux), KernelSymbols.load(kernel.symbols)

    def one(item: tuple[str, CompileCommand]) -> Proof:
        return prove_source(kernel, image, names, item[1], folder / item[0].replace("/", "_"))

    found = commands(kernel, sources)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(found, pool.map(one, found.items()), strict=True))


def nearly_all_are_proven(proofs: dict[str, Proof], least: int) -> None:
    """At least 99 % of the functions that the kernel uses, which are more than `least`; none is ambiguous."""
    total = Counter[State]()
    for proof in proofs.values():
        total.update(proof.counts())
    compared = sum(total.values()) - total[State.OVERRIDDEN_WEAK]
    wrong = "".join(proof.text() for proof in proofs.values())
    assert total[State.PROVEN] > least
    assert total[State.PROVEN] >= 0.99 * compared, wrong
    assert total[State.AMBIGUOUS] == 0, wrong


@pytest.fixture(scope="session")
def proofs(debian12: TargetKernel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Proof]:
    """The proofs of SOURCES."""
    return prove_sources(debian12, SOURCES, tmp_path_factory.mktemp("proofs"))


def test_nearly_all_functions_of_the_stock_kernel_are_proven(proofs: dict[str, Proof]) -> None:
    assert len(proofs) >= 50
    nearly_all_are_proven(proofs, 5000)


@pytest.mark.parametrize(
    ("sources", "least"),
    [
        pytest.param(sorted(SOME), 500, id="some"),
        pytest.param(SOURCES, 5000, id="all", marks=pytest.mark.full),
    ],
)
def test_nearly_all_functions_of_a_kernel_with_branch_tracking_are_proven(
    sources: list[str], least: int, debian12_newer: TargetKernel, tmp_path: Path
) -> None:
    """There objtool ran on the whole image only, and functions have padding in front of them."""
    proofs = prove_sources(debian12_newer, sources, tmp_path)
    nearly_all_are_proven(proofs, least)
    names = [one.name for proof in proofs.values() for one in proof.functions]
    assert not [name for name in names if name.startswith("__pfx_")]


def test_only_functions_with_the_version_in_them_may_differ(proofs: dict[str, Proof]) -> None:
    for source, proof in proofs.items():
        for one in proof.functions:
            if one.state in (State.PROVEN, State.OVERRIDDEN_WEAK):
                continue
            assert one.difference is not None and "6.1." in one.difference.ours, f"{source}\n{proof.text()}"


def test_addresses_are_those_of_the_images_symbols(proofs: dict[str, Proof], names: KernelSymbols) -> None:
    """Whatever has an address bears its name there, but for the compiler's own labels."""
    for proof in proofs.values():
        for name, address in proof.addresses.items():
            if not name.startswith(".L") and name in names:
                assert name in [one.name for one in names.at(address)], f"{proof.object}: {name}"


def test_static_variables_have_addresses(proofs: dict[str, Proof], names: KernelSymbols) -> None:
    for source, name in (
        ("kernel/fork.c", "nr_threads"),
        ("kernel/fork.c", "max_threads"),
        ("kernel/workqueue.c", "wq_pool_mutex"),
        ("net/ipv4/tcp.c", "tcp_orphan_count"),
    ):
        if len(names.named(name)) == 1:
            assert proofs[source].addresses.get(name) == names.named(name)[0].address, name


@pytest.mark.parametrize(
    ("source", "flags", "cause"),
    [
        ("fs/exec.c", ["-fno-stack-protector"], "the compiler flag -fstack-protector-strong"),
        ("fs/pipe.c", ["-mfunction-return=keep"], "the compiler flag -mfunction-return"),
        ("fs/pipe.c", ["-mindirect-branch=keep"], "the compiler flag -mindirect-branch"),
        ("fs/pipe.c", ["-fcf-protection=branch"], "the compiler flag -fcf-protection=branch"),
        ("fs/pipe.c", ["-march=haswell"], "the compiler flag -march"),
        ("fs/pipe.c", ["-Os"], "a compiler flag (optimisation, -march)"),
        ("fs/pipe.c", ["-O3"], "other optimisation"),
    ],
)
def test_wrong_compiler_flag_is_caught(
    source: str,
    flags: list[str],
    cause: str,
    debian12: TargetKernel,
    image: KernelImage,
    names: KernelSymbols,
    tmp_path: Path,
) -> None:
    command = commands(debian12, [source])[source]
    proof = prove_source(debian12, image, names, command, tmp_path, flags=flags, plain=False)
    assert proof.counts()[State.MISMATCH] > 0, proof.text()
    assert cause in proof.text(), proof.text()


@pytest.mark.parametrize(
    ("source", "option", "cause"),
    [
        ("kernel/fork.c", "CONFIG_FUNCTION_GRAPH_TRACER", "changes a structure"),
        ("mm/slub.c", "CONFIG_SLUB_DEBUG", "another configuration"),
    ],
)
def test_wrong_configuration_option_is_caught(
    source: str,
    option: str,
    cause: str,
    debian12: TargetKernel,
    image: KernelImage,
    names: KernelSymbols,
    tmp_path: Path,
) -> None:
    (tmp_path / "flip.h").write_text(f"#undef {option}\n")
    command = commands(debian12, [source])[source]
    configured = list(command.compiler).index("./include/linux/kconfig.h") + 1
    words = (
        *command.compiler[:configured],
        "-include",
        str(tmp_path / "flip.h"),
        *command.compiler[configured:],
    )
    flipped = CompileCommand(
        command.source,
        command.object,
        command.recorded,
        words,
        command.objtool,
        command.delayed,
        command.generated,
    )
    proof = prove_source(debian12, image, names, flipped, tmp_path / "out", plain=False)
    assert proof.counts()[State.MISMATCH] > 0, proof.text()
    assert cause in proof.text(), proof.text()


def test_wrong_source_version_is_caught(
    debian12: TargetKernel, image: KernelImage, names: KernelSymbols, tmp_path: Path
) -> None:
    """A file with a fix from a later version of the kernel, taken from an example manifest."""
    patches = sorted((MANIFESTS / "ipv6-sysctl-errors").glob("*.patch"))
    units = check_patches(debian12, patches, [PatchedObject("vmlinux", None, "")])
    layout = lay_out(debian12, units, tmp_path / "layout")
    for unit in units:
        command = unit.command
        right = prove_source(debian12, image, names, command, tmp_path / "right", overlay=layout.original)
        wrong = prove_source(debian12, image, names, command, tmp_path / "wrong", overlay=layout.patched)
        assert right.counts()[State.MISMATCH] == 0, right.text()
        different = [one for one in wrong.functions if one.state is State.MISMATCH]
        assert 0 < len(different) < 0.1 * len(wrong.functions), wrong.text()
        assert all(one.difference is not None or one.reason for one in different)
        assert "another revision of the source" in wrong.text(), wrong.text()


def test_objtool_is_part_of_the_proof(
    debian12: TargetKernel, image: KernelImage, names: KernelSymbols, tmp_path: Path
) -> None:
    command = commands(debian12, ["mm/slub.c"])["mm/slub.c"]
    compiled = compile_unit(
        command, overlay_of(debian12, command, tmp_path / "o"), tmp_path / "x.o", PAIR_FLAGS
    )
    proof = prove(read_object(compiled), image, names)
    assert "objtool" in proof.text()
