# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules as images: files found and unpacked, code relocated as a loader does it, positions of names."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from kbuild_py.elf.read import read_object
from kbuild_py.errors import UserError
from kbuild_py.kernel.image import ImageSymbol, OutsideImage
from kbuild_py.kernel.module_image import (
    OTHERS,
    OWN,
    ModuleImage,
    ModuleSymbols,
    find_module,
    read_module,
    unpacked,
)
from kbuild_py.run import run

FLAGS = ["-O2", "-ffreestanding", "-fno-pic", "-mcmodel=kernel", "-mno-red-zone", "-fcf-protection=none"]
FLAGS += ["-fno-asynchronous-unwind-tables", "-fno-builtin", "-fno-stack-protector"]
# Two files with static things of the same names; initialisation code has one of them, too, and comes first.
FIRST = """\
int printk(const char *, ...);
int of_another_module(void);
__attribute__((section(".init.text"), noipa)) static int again(int x) { return printk("init %d", x); }
__attribute__((section(".init.text"))) int init_module(void) { return again(1); }
__attribute__((section(".exit.text"), noipa)) static int twice(int x) { return printk("exit %d", x); }
__attribute__((section(".exit.text"))) void cleanup_module(void) { twice(1); }
static int level = 3;
int *where = &level;
int first(void) { return of_another_module() + level++; }
"""
SECOND = """\
int printk(const char *, ...);
__attribute__((noipa)) static int again(int x) { return printk("again %d", x); }
__attribute__((noipa)) static int twice(int x) { return printk("twice %d", x); }
static int level = 4;
int second(int x) { return again(x) + twice(x) + level++; }
"""
PRINTK = ImageSymbol(0xFFFF_FFFF_8110_0000, "T", "printk")


class Vmlinux:
    """The symbols of an image that has only one."""

    def named(self, name: str) -> tuple[ImageSymbol, ...]:
        return (PRINTK,) if name == "printk" else ()


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module")
    objects = []
    for name, text in (("first", FIRST), ("second", SECOND)):
        source = folder / f"{name}.c"
        source.write_text(text)
        objects.append(folder / f"{name}.o")
        run(["gcc", *FLAGS, "-c", "-o", objects[-1], source])
    run(["ld", "-r", "-o", folder / "a-b.ko", *objects])
    return folder / "a-b.ko"


@pytest.fixture(scope="module")
def loaded(module: Path) -> tuple[ModuleImage, ModuleSymbols]:
    obj = read_object(module)
    image = ModuleImage(obj, Vmlinux())
    return image, ModuleSymbols(obj, image)


def field(image: ModuleImage, address: int) -> int:
    """Where the 32-bit distance at `address` leads to from its end."""
    return address + 4 + int.from_bytes(image.read(address, 4), "little", signed=True)


def test_calls_lead_where_the_symbols_are(loaded: tuple[ModuleImage, ModuleSymbols]) -> None:
    image, names = loaded
    (again,) = (one for one in names.named("again") if names.sympos("again", one.address) == 1)
    code = image.read(again.address, names.size(again.address))
    # Both are tail calls: e9, and the distance.
    assert field(image, again.address + code.index(b"\xe9") + 1) == PRINTK.address
    (first,) = names.named("first")
    code = image.read(first.address, names.size(first.address))
    (other,) = names.named("of_another_module")
    assert field(image, first.address + code.index(b"\xe8") + 1) == other.address
    assert other.address >= OTHERS and other.address not in OWN


def test_data_has_whole_addresses(loaded: tuple[ModuleImage, ModuleSymbols]) -> None:
    image, names = loaded
    (where,) = names.named("where")
    assert int.from_bytes(image.read(where.address, 8), "little") == names.named("level")[0].address
    assert [int.from_bytes(image.read(one.address, 4), "little") for one in names.named("level")] == [3, 4]


def test_positions_are_those_of_the_running_module(loaded: tuple[ModuleImage, ModuleSymbols]) -> None:
    """What is freed does not count (.init); what stays until the module goes does (.exit)."""
    image, names = loaded
    begin, end = image.init_range
    again, of_init = names.named("again")
    assert begin <= of_init.address < end and not begin <= again.address < end
    assert image.read(again.address, 4) and names.sympos("again", again.address) == 1
    leaving, staying = names.named("twice")
    assert leaving.address not in range(begin, end)
    assert names.sympos("twice", staying.address) == 2
    with pytest.raises(LookupError):
        names.sympos("again", again.address + 1)


def test_names_whose_position_changes_when_the_module_has_started(
    loaded: tuple[ModuleImage, ModuleSymbols],
) -> None:
    assert loaded[1].shifting == {"again"}


def test_what_no_section_has_is_not_read(loaded: tuple[ModuleImage, ModuleSymbols]) -> None:
    image, names = loaded
    (second,) = names.named("second")
    for address, size in ((second.address, 1 << 20), (OTHERS, 1), (OWN.start - 1, 1)):
        with pytest.raises(OutsideImage):
            image.read(address, size)


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("", bytes),
        (".xz", lzma.compress),
        (".gz", gzip.compress),
        (".zst", zstandard.ZstdCompressor().compress),
    ],
    ids=["plain", "xz", "gz", "zst"],
)
def test_compressed_files(module: Path, tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    """A name has _, its file may have -."""
    folder = tmp_path / "kernel" / "drivers"
    folder.mkdir(parents=True)
    path = folder / f"a-b.ko{suffix}"
    path.write_bytes(pack(module.read_bytes()))
    for name in ("a_b", "a-b"):
        assert find_module(tmp_path, name) == path
    assert unpacked(path) == module.read_bytes()
    assert read_module(path).symbols == read_object(module).symbols
    if suffix:
        path.write_bytes(b"not compressed")
        with pytest.raises(UserError, match="cannot be unpacked"):
            unpacked(path)


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "loop.ko.sig").write_text("")
    with pytest.raises(UserError, match="has no module loop"):
        find_module(tmp_path, "loop")
