# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel.image import KernelImage, OutsideImage, decompressed
from kbuild_py.kernel.target import TargetKernel
from tests.kernel.images import BUILD_ID, COMPRESSORS, PARTS, Part, boot_image, elf


@pytest.mark.parametrize("method", COMPRESSORS)
def test_each_compression_gives_the_image_back(method: str) -> None:
    image = elf(
        (*PARTS, Part(".data", 0xFFFFFFFF84000000, bytes(range(256)) * 40_000))
    )  # more than one lz4 block
    assert decompressed(boot_image(image, method), "vmlinuz") == image


@pytest.mark.parametrize("method", COMPRESSORS)
def test_truncated_anywhere_is_refused(method: str) -> None:
    image = boot_image(elf(), method)
    for length in (0, 1, 511, 0x24F, 0x250, 2048, 2148, 2160, len(image) - 80, len(image) - 65):
        with pytest.raises(UserError, match="vmlinuz"):
            decompressed(image[:length], "vmlinuz")


@pytest.mark.parametrize("method", sorted(set(COMPRESSORS) - {"lz4"}))  # lz4 blocks have no checksum
def test_a_flipped_bit_is_refused(method: str) -> None:
    image = bytearray(boot_image(elf(), method))
    image[2148 + 40] ^= 0x10
    with pytest.raises(UserError):
        decompressed(bytes(image), "vmlinuz")


@pytest.mark.parametrize("method", sorted(set(COMPRESSORS) - {"gzip"}))
def test_a_payload_of_another_size_than_it_says_is_refused(method: str) -> None:
    with pytest.raises(UserError, match=r"not to what its end says|damaged"):
        decompressed(boot_image(elf(), method, size=17), "vmlinuz")


def test_what_is_no_boot_image_is_refused() -> None:
    for data in (b"", b"\0" * 4096, b"\x7fELF" + b"\0" * 4096):
        with pytest.raises(UserError, match="not an x86 boot image"):
            decompressed(data, "vmlinuz")
    with pytest.raises(UserError, match=r"2\.07 is older"):
        decompressed(boot_image(elf(), "xz", protocol=0x207), "vmlinuz")
    with pytest.raises(UserError, match="not an ELF image"):
        decompressed(boot_image(b"something else" * 100, "xz"), "vmlinuz")
    unknown = boot_image(elf(), "xz").replace(b"\xfd7zXZ", b"\xfe7zXZ")
    with pytest.raises(UserError, match="unknown format"):
        decompressed(unknown, "vmlinuz")
    lzo = boot_image(elf(), "xz").replace(b"\xfd7zXZ", b"\x89LZO\0")
    with pytest.raises(UserError, match="lzo, which is not supported"):
        decompressed(lzo, "vmlinuz")


def test_reads_by_address_within_a_section_only() -> None:
    image = KernelImage(elf(), "vmlinux")
    assert image.read(0xFFFFFFFF81000000 + 63, 2) == b"\x90\xc3"
    assert image.read(0xFFFFFFFF81000000, 0) == b""
    assert image.read(5, 3) == b"\x05\x06\x07"  # per-CPU data is at 0, and .comment is not in memory at all
    for address, size in ((0xFFFFFFFF81000000 + 63, 3), (0xFFFFFFFF80FFFFFF, 1), (64, 1), (-1, 1), (0, -1)):
        with pytest.raises(OutsideImage):
            image.read(address, size)
    with pytest.raises(OutsideImage, match=r"\.bss"):
        image.read(0xFFFFFFFF83000000, 1)


def test_sections_by_name_and_address() -> None:
    image = KernelImage(elf(), "vmlinux")
    assert [section.name for section in image.sections] == [part.name for part in PARTS if part.flags]
    bss = image.section_at(0xFFFFFFFF83000FFF)
    assert bss is not None and (bss.name, bss.nobits, bss.size) == (".bss", True, 4096)
    assert image.section_at(0xFFFFFFFF83001000) is None
    assert image.section(".comment") is None


def test_build_id_is_found_behind_other_notes() -> None:
    assert KernelImage(elf(), "vmlinux").build_id == BUILD_ID
    without = tuple(part for part in PARTS if part.name != ".notes")
    with pytest.raises(UserError, match="no GNU build ID"):
        _ = KernelImage(elf(without), "vmlinux").build_id


def test_damaged_elf_is_refused(tmp_path: Path) -> None:
    image = elf()
    for length in (0, 3, 40, 63, 64, 100, len(image) - 1):
        path = tmp_path / f"vmlinux-{length}"
        path.write_bytes(image[:length])
        with pytest.raises(UserError, match="vmlinux"):
            KernelImage.load(path)
    wrong = bytearray(image)
    struct.pack_into("<H", wrong, 0x3E, 200)  # names in a section that is not there
    with pytest.raises(UserError, match="section table"):
        KernelImage(bytes(wrong), "vmlinux")
    with pytest.raises(UserError, match="64-bit little-endian"):
        KernelImage(image[:4] + b"\x01" + image[5:], "vmlinux")


@pytest.mark.kernel
def test_the_stock_image_has_what_readelf_says(debian12: TargetKernel) -> None:
    image = KernelImage.load(debian12.vmlinux)
    notes = subprocess.run(
        ["readelf", "-n", debian12.vmlinux], capture_output=True, text=True, check=True
    ).stdout
    assert f"Build ID: {image.build_id}\n" in notes
    assert image.build_id == debian12.build_id
    table = subprocess.run(
        ["readelf", "-SW", debian12.vmlinux], capture_output=True, text=True, check=True
    ).stdout
    rows = [
        line.split("]", 1)[1].split()
        for line in table.splitlines()
        if line.startswith("  [") and "NULL" not in line
    ]
    expected = [
        (row[0], int(row[2], 16), int(row[4], 16), row[1] == "NOBITS") for row in rows[1:] if "A" in row[6]
    ]
    assert [(s.name, s.address, s.size, s.nobits) for s in image.sections] == expected


@pytest.mark.kernel
def test_the_cloud_image_is_compressed_otherwise_and_unpacks_too(debian12_cloud: TargetKernel) -> None:
    assert KernelImage.load(debian12_cloud.vmlinux).build_id == debian12_cloud.build_id
    assert debian12_cloud.vmlinux.read_bytes() == decompressed(
        debian12_cloud.boot_image.read_bytes(), "vmlinuz"
    )


@pytest.mark.kernel
def test_a_truncated_stock_image_is_refused(debian12: TargetKernel) -> None:
    data = debian12.boot_image.read_bytes()
    for length in (4096, len(data) // 2, len(data) - 200_000):
        with pytest.raises(UserError, match="ends before its payload"):
            decompressed(data[:length], "vmlinuz")
