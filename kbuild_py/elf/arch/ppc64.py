# SPDX-License-Identifier: GPL-2.0-or-later
"""Relocation types of 64-bit POWER (ELFv2, little-endian in the kernels that have live patching).

Most fields have 16 bits, an instruction's lower half; the relocation's place is then that half's own
address, which for little-endian is the instruction's.  Data is reached through r2, the pointer to the
table of contents (TOC): `sym@toc@ha` and `sym@toc@l` are distances from there, and `.toc` holds pointers
to what is too far away or elsewhere.  Instructions of POWER10 have a prefix and eight bytes; read as one
little-endian number, the prefix is its lower half.

Source: Power Architecture 64-bit ELF V2 ABI specification, "Relocation Types".
"""

from __future__ import annotations

from kbuild_py.elf.arch.kinds import Row, Semantic

_NONE, _ABS, _PC, _PLT = Semantic.NONE, Semantic.ABSOLUTE, Semantic.PC_RELATIVE, Semantic.PLT
_GOT, _TOC = Semantic.GOT, Semantic.TOC

_LI = 0x03FFFFFC  # b, bl
_BD = 0x0000FFFC  # bc
_DS = 0xFFFC  # ld, std: the lowest two bits belong to the opcode
_D34 = 0xFFFF << 32 | 0x3FFFF

PPC64_ROWS: tuple[Row, ...] = (
    (0, "NONE", 0, _NONE, 0),
    (1, "ADDR32", 4, _ABS, 0),
    (2, "ADDR24", 4, _ABS, _LI),
    (3, "ADDR16", 2, _ABS, 0),
    (4, "ADDR16_LO", 2, _ABS, 0),
    (5, "ADDR16_HI", 2, _ABS, 0),
    (6, "ADDR16_HA", 2, _ABS, 0),
    (7, "ADDR14", 4, _ABS, _BD),
    (8, "ADDR14_BRTAKEN", 4, _ABS, _BD | 0x200000),
    (9, "ADDR14_BRNTAKEN", 4, _ABS, _BD | 0x200000),
    (10, "REL24", 4, _PLT, _LI),
    (11, "REL14", 4, _PLT, _BD),
    (12, "REL14_BRTAKEN", 4, _PLT, _BD | 0x200000),
    (13, "REL14_BRNTAKEN", 4, _PLT, _BD | 0x200000),
    (14, "GOT16", 2, _GOT, 0),
    (15, "GOT16_LO", 2, _GOT, 0),
    (16, "GOT16_HI", 2, _GOT, 0),
    (17, "GOT16_HA", 2, _GOT, 0),
    (24, "UADDR32", 4, _ABS, 0),
    (25, "UADDR16", 2, _ABS, 0),
    (26, "REL32", 4, _PC, 0),
    (37, "ADDR30", 4, _PC, 0xFFFFFFFC),
    (38, "ADDR64", 8, _ABS, 0),
    (39, "ADDR16_HIGHER", 2, _ABS, 0),
    (40, "ADDR16_HIGHERA", 2, _ABS, 0),
    (41, "ADDR16_HIGHEST", 2, _ABS, 0),
    (42, "ADDR16_HIGHESTA", 2, _ABS, 0),
    (43, "UADDR64", 8, _ABS, 0),
    (44, "REL64", 8, _PC, 0),
    (47, "TOC16", 2, _TOC, 0),
    (48, "TOC16_LO", 2, _TOC, 0),
    (49, "TOC16_HI", 2, _TOC, 0),
    (50, "TOC16_HA", 2, _TOC, 0),
    (51, "TOC", 8, _TOC, 0),
    (56, "ADDR16_DS", 2, _ABS, _DS),
    (57, "ADDR16_LO_DS", 2, _ABS, _DS),
    (58, "GOT16_DS", 2, _GOT, _DS),
    (59, "GOT16_LO_DS", 2, _GOT, _DS),
    (63, "TOC16_DS", 2, _TOC, _DS),
    (64, "TOC16_LO_DS", 2, _TOC, _DS),
    (109, "TOCSAVE", 0, _NONE, 0),  # marks a place for the linker's optimisation
    (110, "ADDR16_HIGH", 2, _ABS, 0),
    (111, "ADDR16_HIGHA", 2, _ABS, 0),
    (116, "REL24_NOTOC", 4, _PLT, _LI),
    (117, "ADDR64_LOCAL", 8, _ABS, 0),
    (118, "ENTRY", 0, _NONE, 0),
    (119, "PLTSEQ", 0, _NONE, 0),
    (120, "PLTCALL", 0, _NONE, 0),
    (121, "PLTSEQ_NOTOC", 0, _NONE, 0),
    (122, "PLTCALL_NOTOC", 0, _NONE, 0),
    (123, "PCREL_OPT", 0, _NONE, 0),
    (124, "REL24_P9NOTOC", 4, _PLT, _LI),
    (128, "D34", 8, _ABS, _D34),
    (129, "D34_LO", 8, _ABS, _D34),
    (130, "D34_HI30", 8, _ABS, _D34),
    (131, "D34_HA30", 8, _ABS, _D34),
    (132, "PCREL34", 8, _PC, _D34),
    (133, "GOT_PCREL34", 8, _GOT, _D34),
    (240, "REL16_HIGH", 2, _PC, 0),
    (241, "REL16_HIGHA", 2, _PC, 0),
    (242, "REL16_HIGHER", 2, _PC, 0),
    (243, "REL16_HIGHERA", 2, _PC, 0),
    (244, "REL16_HIGHEST", 2, _PC, 0),
    (245, "REL16_HIGHESTA", 2, _PC, 0),
    (246, "REL16DX_HA", 4, _PC, 0x1FFFC1),
    (249, "REL16", 2, _PC, 0),
    (250, "REL16_LO", 2, _PC, 0),
    (251, "REL16_HI", 2, _PC, 0),
    (252, "REL16_HA", 2, _PC, 0),
    # Thread-local storage, PLT and section-relative types are known by name.
)
