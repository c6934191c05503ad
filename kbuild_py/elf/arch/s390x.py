# SPDX-License-Identifier: GPL-2.0-or-later
"""Relocation types of s390x, the big-endian one.

Distances in instructions count halfwords (DBL) and from the instruction's first byte, while the field
begins two bytes later (four, three or one in rarer formats), so addends in code are larger by that.  A
12-bit displacement shares its two bytes with a base register; a 20-bit one has its upper eight bits last.

Source: ELF Application Binary Interface s390x Supplement, "Relocation".
"""

from __future__ import annotations

from kbuild_py.elf.arch.kinds import Row, Semantic

_NONE, _ABS, _PC, _PLT = Semantic.NONE, Semantic.ABSOLUTE, Semantic.PC_RELATIVE, Semantic.PLT
_GOT, _DYN = Semantic.GOT, Semantic.DYNAMIC

_D12 = 0x0FFF
_D20 = 0x0FFFFF00

S390X_ROWS: tuple[Row, ...] = (
    (0, "NONE", 0, _NONE, 0),
    (1, "8", 1, _ABS, 0),
    (2, "12", 2, _ABS, _D12),
    (3, "16", 2, _ABS, 0),
    (4, "32", 4, _ABS, 0),
    (5, "PC32", 4, _PC, 0),
    (6, "GOT12", 2, _GOT, _D12),
    (7, "GOT32", 4, _GOT, 0),
    (8, "PLT32", 4, _PLT, 0),
    (9, "COPY", 0, _DYN, 0),
    (10, "GLOB_DAT", 8, _DYN, 0),
    (11, "JMP_SLOT", 8, _DYN, 0),
    (12, "RELATIVE", 8, _DYN, 0),
    (13, "GOTOFF32", 4, _GOT, 0),
    (14, "GOTPC", 8, _GOT, 0),
    (15, "GOT16", 2, _GOT, 0),
    (16, "PC16", 2, _PC, 0),
    (17, "PC16DBL", 2, _PC, 0),
    (18, "PLT16DBL", 2, _PLT, 0),
    (19, "PC32DBL", 4, _PC, 0),
    (20, "PLT32DBL", 4, _PLT, 0),
    (21, "GOTPCDBL", 4, _GOT, 0),
    (22, "64", 8, _ABS, 0),
    (23, "PC64", 8, _PC, 0),
    (24, "GOT64", 8, _GOT, 0),
    (25, "PLT64", 8, _PLT, 0),
    (26, "GOTENT", 4, _GOT, 0),
    (27, "GOTOFF16", 2, _GOT, 0),
    (28, "GOTOFF64", 8, _GOT, 0),
    (29, "GOTPLT12", 2, _GOT, _D12),
    (30, "GOTPLT16", 2, _GOT, 0),
    (31, "GOTPLT32", 4, _GOT, 0),
    (32, "GOTPLT64", 8, _GOT, 0),
    (33, "GOTPLTENT", 4, _GOT, 0),
    (34, "PLTOFF16", 2, _GOT, 0),
    (35, "PLTOFF32", 4, _GOT, 0),
    (36, "PLTOFF64", 8, _GOT, 0),
    (57, "20", 4, _ABS, _D20),
    (58, "GOT20", 4, _GOT, _D20),
    (59, "GOTPLT20", 4, _GOT, _D20),
    (61, "IRELATIVE", 8, _DYN, 0),
    (62, "PC12DBL", 2, _PC, _D12),
    (63, "PLT12DBL", 2, _PLT, _D12),
    (64, "PC24DBL", 3, _PC, 0),
    (65, "PLT24DBL", 3, _PLT, 0),
    # Thread-local storage (37 to 56, 60) is known by name.
)
