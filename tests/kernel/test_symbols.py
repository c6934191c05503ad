# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel.image import ImageSymbol, KernelImage
from kbuild_py.kernel.symbols import KernelSymbols, banner, recover
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import Outcome
from tests.kernel.images import elf

TEXT = """\
0000000000000000 A fixed_percpu_data
0000000000000000 A __per_cpu_start
0000000000001000 A current_task
0000000000002000 A __per_cpu_end
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000010 t show
ffffffff81000030 T other
ffffffff81000040 t show
ffffffff82000000 d show
ffffffff82000000 D shared
"""


def test_positions_count_all_symbols_of_a_name_in_order() -> None:
    symbols = KernelSymbols(TEXT, "symbols")
    assert len(symbols) == 11
    assert symbols.named("show") == (
        ImageSymbol(0xFFFFFFFF81000010, "t", "show"),
        ImageSymbol(0xFFFFFFFF81000040, "t", "show"),
        ImageSymbol(0xFFFFFFFF82000000, "d", "show"),
    )
    assert [symbols.sympos("show", symbol.address) for symbol in symbols.named("show")] == [1, 2, 3]
    assert symbols.sympos("other", 0xFFFFFFFF81000030) == 1
    with pytest.raises(LookupError):
        symbols.sympos("other", 0xFFFFFFFF81000010)
    with pytest.raises(LookupError):
        symbols.sympos("absent", 0)


def test_unique_names() -> None:
    symbols = KernelSymbols(TEXT, "symbols")
    assert symbols.unique("other") == ImageSymbol(0xFFFFFFFF81000030, "T", "other")
    assert symbols.unique("show") is None and symbols.unique("absent") is None
    assert "show" in symbols and "absent" not in symbols


def test_lookup_by_address() -> None:
    symbols = KernelSymbols(TEXT, "symbols")
    assert [symbol.name for symbol in symbols.at(0xFFFFFFFF81000000)] == ["_stext", "_text"]
    assert symbols.at(0xFFFFFFFF81000001) == ()
    assert [symbol.name for symbol in symbols.containing(0xFFFFFFFF8100003F)] == ["other"]
    assert symbols.size(0xFFFFFFFF81000000) == 0x10
    assert symbols.size(0xFFFFFFFF82000000) == 0


def test_percpu() -> None:
    symbols = KernelSymbols(TEXT, "symbols")
    assert symbols.percpu_range == range(0, 0x2000)


@pytest.mark.parametrize(
    "text", ["", "one two", "zzz t name\n", "ffffffff81000010 t b\nffffffff81000000 t a\n", "0 t a\n0 t\n"]
)
def test_what_is_no_list_of_symbols_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="symbols"):
        KernelSymbols(text, "symbols")


def test_an_image_without_kallsyms_is_refused_quietly(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for data in (elf(), elf() + b"Linux version 6.1.0 (a@b) (gcc) #1 SMP\n\0" * 3 + bytes(100_000)):
        with pytest.raises(UserError, match="cannot be recovered"):
            recover(data, "vmlinux")
    assert capfd.readouterr() == ("", "")
    assert not any(type(handler).__name__ == "_Chatter" for handler in logging.getLogger().handlers)


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["debian12", "debian12_cloud"])
def test_stock_symbols_lead_to_what_they_name(name: str, request: pytest.FixtureRequest) -> None:
    kernel: TargetKernel = request.getfixturevalue(name)
    symbols, image = KernelSymbols.load(kernel.symbols), KernelImage.load(kernel.vmlinux)
    assert len(symbols) > 50_000
    assert banner(symbols, image).startswith(f"Linux version {kernel.release} ")
    magic = symbols.unique("init_uts_ns")
    assert magic is not None and kernel.release.encode() in image.read(magic.address, 500)
    text = image.section(".text")
    assert text is not None
    for function in ("schedule", "vfs_read", "kallsyms_lookup_name", "meminfo_proc_show"):
        symbol = symbols.unique(function)
        assert symbol is not None and symbol.type in "Tt"
        assert text.address <= symbol.address < text.address + text.size
        assert symbol.address % 16 == 0 and symbols.size(symbol.address) > 16
        # Every traced function begins with the five bytes of its fentry call.
        assert image.read(symbol.address, 1) == b"\xe8"
    percpu = image.section(".data..percpu")
    assert percpu is not None and symbols.percpu_range == range(0, percpu.size)
    assert symbols.named("current_task")[0].address in symbols.percpu_range


@pytest.mark.boot
@pytest.mark.kernel
@pytest.mark.parametrize("name", ["debian12", "debian12_cloud"])
def test_every_symbol_is_as_the_running_kernel_says(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Addresses, type letters, names and order of all symbols, against /proc/kallsyms without KASLR."""
    kernel: TargetKernel = request.getfixturevalue(name)
    command = (
        "sed '/\\[/d' /proc/kallsyms >/tmp/running && cmp /tmp/running /recovered && wc -l </tmp/running"
    )
    guest = Guest(
        steps=(GuestStep("compare", command, stdout=f"{len(KernelSymbols.load(kernel.symbols))}"),),
        files={"/recovered": kernel.symbols},
        append="nokaslr",
    )
    report = boot(kernel.boot_image, guest, tmp_path)
    assert report.outcome is Outcome.PASSED, report


def test_a_file_of_random_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.kallsyms"
    path.write_bytes(bytes(range(256)) * 3)
    with pytest.raises(UserError, match="is not a list of symbols") as caught:
        KernelSymbols.load(path)
    assert caught.value.problems[0].place == str(path)


@pytest.mark.kernel
def test_a_file_that_was_cut_is_refused(debian12: TargetKernel, tmp_path: Path) -> None:
    """Also between two symbols: functions behind the cut would seem not to be in the image."""
    lines = debian12.symbols.read_text().splitlines(keepends=True)
    path = tmp_path / "kallsyms"
    path.write_text("".join(lines[: len(lines) // 2]))
    with pytest.raises(UserError, match="is cut off") as caught:
        KernelSymbols.load(path)
    assert caught.value.problems[0].remedy == "remove the file and build again"
