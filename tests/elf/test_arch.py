# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from elftools.elf.enums import ENUM_RELOC_TYPE_x64

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import ARCHITECTURES, Semantic, architecture, relocation_name, relocation_type
from kbuild_py.errors import UserError


def test_x86_64_numbers_are_those_of_pyelftools() -> None:
    arch = architecture(elf.EM_X86_64)
    assert arch.complete
    for name, number in ENUM_RELOC_TYPE_x64.items():
        if isinstance(number, int) and number < 250:
            assert arch.names[number] == name


def test_semantics_agree_with_the_names() -> None:
    for kind in architecture(elf.EM_X86_64).relocations.values():
        short = kind.name.removeprefix("R_X86_64_")
        if short.startswith("PC"):
            assert (
                kind.pc_relative
                and kind.semantic is Semantic.PC_RELATIVE
                and kind.width * 8 == int(short[2:4].rstrip("_"))
            )
        if short.startswith("PLT32"):
            assert kind.pc_relative and kind.semantic is Semantic.PLT and kind.width == 4
        if short in ("64", "32", "32S", "16", "8"):
            assert (
                not kind.pc_relative
                and kind.semantic is Semantic.ABSOLUTE
                and kind.width * 8 == int(short.rstrip("S"))
            )


def test_every_architecture_has_an_own_number() -> None:
    assert len({arch.name for arch in ARCHITECTURES.values()}) == len(ARCHITECTURES)
    assert relocation_name(elf.EM_AARCH64, 257) == "R_AARCH64_ABS64"
    assert relocation_name(elf.EM_X86_64, 4) == "R_X86_64_PLT32"
    assert relocation_name(9999, 4) == "4"


def test_the_unknown_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"x\.o: machine 8 .*is not supported"):
        architecture(8, "x.o")
    with pytest.raises(UserError, match="R_AARCH64_TLSGD_ADR_PREL21 is not supported on arm64"):
        relocation_type(elf.EM_AARCH64, 512)
