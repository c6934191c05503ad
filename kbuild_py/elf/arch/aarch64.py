# SPDX-License-Identifier: GPL-2.0-or-later
"""Relocation types of arm64: fields within 32-bit instructions, and data.

An address takes two instructions, ADRP for its page and an ADD, load or store for the rest, with one
relocation each.  The symbol and addend of both are those of the target itself: nothing is taken off for
the distance between the two.

Source: ELF for the Arm 64-bit Architecture (AAELF64), "Relocation".
"""

from __future__ import annotations

from kbuild_py.elf.arch.kinds import Row, Semantic

_NONE, _ABS, _PC, _PLT = Semantic.NONE, Semantic.ABSOLUTE, Semantic.PC_RELATIVE, Semantic.PLT
_GOT = Semantic.GOT

# Instruction fields
_IMM16 = 0xFFFF << 5  # MOVZ, MOVK
_MOVW = _IMM16 | 0x3 << 29  # MOVN or MOVZ, by the value's sign
_IMM19 = 0x7FFFF << 5  # LDR (literal), B.cond
_IMM14 = 0x3FFF << 5  # TBZ
_IMM26 = 0x3FFFFFF  # B, BL
_ADR = 0x3 << 29 | 0x7FFFF << 5
_IMM12 = 0xFFF << 10  # ADD, LDR, STR

AARCH64_ROWS: tuple[Row, ...] = (
    (0, "NONE", 0, _NONE, 0),
    (256, "NONE", 0, _NONE, 0),  # the number that drafts of the ABI had
    (257, "ABS64", 8, _ABS, 0),
    (258, "ABS32", 4, _ABS, 0),
    (259, "ABS16", 2, _ABS, 0),
    (260, "PREL64", 8, _PC, 0),
    (261, "PREL32", 4, _PC, 0),
    (262, "PREL16", 2, _PC, 0),
    (263, "MOVW_UABS_G0", 4, _ABS, _IMM16),
    (264, "MOVW_UABS_G0_NC", 4, _ABS, _IMM16),
    (265, "MOVW_UABS_G1", 4, _ABS, _IMM16),
    (266, "MOVW_UABS_G1_NC", 4, _ABS, _IMM16),
    (267, "MOVW_UABS_G2", 4, _ABS, _IMM16),
    (268, "MOVW_UABS_G2_NC", 4, _ABS, _IMM16),
    (269, "MOVW_UABS_G3", 4, _ABS, _IMM16),
    (270, "MOVW_SABS_G0", 4, _ABS, _MOVW),
    (271, "MOVW_SABS_G1", 4, _ABS, _MOVW),
    (272, "MOVW_SABS_G2", 4, _ABS, _MOVW),
    (273, "LD_PREL_LO19", 4, _PC, _IMM19),
    (274, "ADR_PREL_LO21", 4, _PC, _ADR),
    (275, "ADR_PREL_PG_HI21", 4, _PC, _ADR),
    (276, "ADR_PREL_PG_HI21_NC", 4, _PC, _ADR),
    (277, "ADD_ABS_LO12_NC", 4, _ABS, _IMM12),
    (278, "LDST8_ABS_LO12_NC", 4, _ABS, _IMM12),
    (279, "TSTBR14", 4, _PLT, _IMM14),
    (280, "CONDBR19", 4, _PLT, _IMM19),
    (282, "JUMP26", 4, _PLT, _IMM26),
    (283, "CALL26", 4, _PLT, _IMM26),
    (284, "LDST16_ABS_LO12_NC", 4, _ABS, _IMM12),
    (285, "LDST32_ABS_LO12_NC", 4, _ABS, _IMM12),
    (286, "LDST64_ABS_LO12_NC", 4, _ABS, _IMM12),
    (287, "MOVW_PREL_G0", 4, _PC, _MOVW),
    (288, "MOVW_PREL_G0_NC", 4, _PC, _IMM16),
    (289, "MOVW_PREL_G1", 4, _PC, _MOVW),
    (290, "MOVW_PREL_G1_NC", 4, _PC, _IMM16),
    (291, "MOVW_PREL_G2", 4, _PC, _MOVW),
    (292, "MOVW_PREL_G2_NC", 4, _PC, _IMM16),
    (293, "MOVW_PREL_G3", 4, _PC, _MOVW),
    (299, "LDST128_ABS_LO12_NC", 4, _ABS, _IMM12),
    (307, "GOTREL64", 8, _GOT, 0),
    (308, "GOTREL32", 4, _GOT, 0),
    (309, "GOT_LD_PREL19", 4, _GOT, _IMM19),
    (310, "LD64_GOTOFF_LO15", 4, _GOT, _IMM12),
    (311, "ADR_GOT_PAGE", 4, _GOT, _ADR),
    (312, "LD64_GOT_LO12_NC", 4, _GOT, _IMM12),
    (313, "LD64_GOTPAGE_LO15", 4, _GOT, _IMM12),
    (314, "PLT32", 4, _PLT, 0),
    (315, "GOTPCREL32", 4, _GOT, 0),
    # Thread-local storage (512 to 573) and what only dynamic loaders know is known by name.
)
