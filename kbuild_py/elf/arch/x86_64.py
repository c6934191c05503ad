# SPDX-License-Identifier: GPL-2.0-or-later
"""Relocation types of x86-64: whole bytes, most of them pc-relative.

Source: System V ABI, AMD64 supplement, table 4.9 (version 1.0, with the APX types).  The table is complete.
"""

from __future__ import annotations

from types import MappingProxyType

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch.kinds import Architecture, RelocationType, Semantic


def x86_64() -> Architecture:
    """The processor."""
    none, absolute, pc = Semantic.NONE, Semantic.ABSOLUTE, Semantic.PC_RELATIVE
    plt, got, tls = Semantic.PLT, Semantic.GOT, Semantic.TLS
    size, dynamic = Semantic.SIZE, Semantic.DYNAMIC
    table: tuple[tuple[int, str, int, bool, bool, Semantic], ...] = (
        # number, name, width, pc-relative, signed, semantic
        (0, "NONE", 0, False, False, none),
        (1, "64", 8, False, False, absolute),
        (2, "PC32", 4, True, True, pc),
        (3, "GOT32", 4, False, True, got),
        (4, "PLT32", 4, True, True, plt),
        (5, "COPY", 0, False, False, dynamic),
        (6, "GLOB_DAT", 8, False, False, dynamic),
        (7, "JUMP_SLOT", 8, False, False, dynamic),
        (8, "RELATIVE", 8, False, False, dynamic),
        (9, "GOTPCREL", 4, True, True, got),
        (10, "32", 4, False, False, absolute),
        (11, "32S", 4, False, True, absolute),
        (12, "16", 2, False, False, absolute),
        (13, "PC16", 2, True, True, pc),
        (14, "8", 1, False, True, absolute),
        (15, "PC8", 1, True, True, pc),
        (16, "DTPMOD64", 8, False, False, tls),
        (17, "DTPOFF64", 8, False, True, tls),
        (18, "TPOFF64", 8, False, True, tls),
        (19, "TLSGD", 4, True, True, tls),
        (20, "TLSLD", 4, True, True, tls),
        (21, "DTPOFF32", 4, False, True, tls),
        (22, "GOTTPOFF", 4, True, True, tls),
        (23, "TPOFF32", 4, False, True, tls),
        (24, "PC64", 8, True, True, pc),
        (25, "GOTOFF64", 8, False, True, got),
        (26, "GOTPC32", 4, True, True, got),
        (27, "GOT64", 8, False, True, got),
        (28, "GOTPCREL64", 8, True, True, got),
        (29, "GOTPC64", 8, True, True, got),
        (30, "GOTPLT64", 8, False, True, got),
        (31, "PLTOFF64", 8, False, True, got),
        (32, "SIZE32", 4, False, False, size),
        (33, "SIZE64", 8, False, False, size),
        (34, "GOTPC32_TLSDESC", 4, True, True, tls),
        (35, "TLSDESC_CALL", 0, False, False, tls),
        (36, "TLSDESC", 16, False, False, tls),
        (37, "IRELATIVE", 8, False, False, dynamic),
        (38, "RELATIVE64", 8, False, False, dynamic),
        (39, "PC32_BND", 4, True, True, pc),
        (40, "PLT32_BND", 4, True, True, plt),
        (41, "GOTPCRELX", 4, True, True, got),
        (42, "REX_GOTPCRELX", 4, True, True, got),
        (43, "CODE_4_GOTPCRELX", 4, True, True, got),
        (44, "CODE_4_GOTTPOFF", 4, True, True, tls),
        (45, "CODE_4_GOTPC32_TLSDESC", 4, True, True, tls),
        (46, "CODE_5_GOTPCRELX", 4, True, True, got),
        (47, "CODE_5_GOTTPOFF", 4, True, True, tls),
        (48, "CODE_5_GOTPC32_TLSDESC", 4, True, True, tls),
        (49, "CODE_6_GOTPCRELX", 4, True, True, got),
        (50, "CODE_6_GOTTPOFF", 4, True, True, tls),
        (51, "CODE_6_GOTPC32_TLSDESC", 4, True, True, tls),
    )
    types = {row[0]: RelocationType(row[0], f"R_X86_64_{row[1]}", *row[2:]) for row in table}
    names = {number: kind.name for number, kind in types.items()}
    return Architecture(elf.EM_X86_64, "x86_64", MappingProxyType(types), MappingProxyType(names), True)
