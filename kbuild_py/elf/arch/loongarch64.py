# SPDX-License-Identifier: GPL-2.0-or-later
"""Relocation types of LoongArch: fields within 32-bit instructions, and sums in data.

The linker may shorten code (RELAX), so the assembler leaves it to compute distances between labels: a
field then has one relocation that adds the one label's address and one that subtracts the other's.  The
first assembler for this processor wrote a small program per field instead, for a stack of values (SOP).

Source: ELF for the LoongArch Architecture (laelf), "Relocations"; as of version 20231219.
"""

from __future__ import annotations

from kbuild_py.elf.arch.kinds import Row, Semantic

_NONE, _ABS, _PC, _PLT = Semantic.NONE, Semantic.ABSOLUTE, Semantic.PC_RELATIVE, Semantic.PLT
_GOT, _DIFF, _STACK = Semantic.GOT, Semantic.DIFFERENCE, Semantic.STACK

_IMM5 = 0x1F << 10
_IMM12 = 0xFFF << 10
_IMM16 = 0xFFFF << 10
_IMM20 = 0xFFFFF << 5
_IMM21 = _IMM16 | 0x1F
_IMM26 = _IMM16 | 0x3FF
_CALL36 = (_IMM16 << 32) | _IMM20  # pcaddu18i, then jirl

LOONGARCH64_ROWS: tuple[Row, ...] = (
    (0, "NONE", 0, _NONE, 0),
    (1, "32", 4, _ABS, 0),
    (2, "64", 8, _ABS, 0),
    (20, "MARK_LA", 0, _NONE, 0),
    (21, "MARK_PCREL", 0, _NONE, 0),
    *(
        (number, name, 0, _STACK, 0)
        for number, name in enumerate(
            (
                "SOP_PUSH_PCREL", "SOP_PUSH_ABSOLUTE", "SOP_PUSH_DUP", "SOP_PUSH_GPREL",
                "SOP_PUSH_TLS_TPREL", "SOP_PUSH_TLS_GOT", "SOP_PUSH_TLS_GD", "SOP_PUSH_PLT_PCREL",
                "SOP_ASSERT", "SOP_NOT", "SOP_SUB", "SOP_SL", "SOP_SR", "SOP_ADD", "SOP_AND",
                "SOP_IF_ELSE",
            ),
            22,
        )
    ),
    (38, "SOP_POP_32_S_10_5", 4, _STACK, _IMM5),
    (39, "SOP_POP_32_U_10_12", 4, _STACK, _IMM12),
    (40, "SOP_POP_32_S_10_12", 4, _STACK, _IMM12),
    (41, "SOP_POP_32_S_10_16", 4, _STACK, _IMM16),
    (42, "SOP_POP_32_S_10_16_S2", 4, _STACK, _IMM16),
    (43, "SOP_POP_32_S_5_20", 4, _STACK, _IMM20),
    (44, "SOP_POP_32_S_0_5_10_16_S2", 4, _STACK, _IMM21),
    (45, "SOP_POP_32_S_0_10_10_16_S2", 4, _STACK, _IMM26),
    (46, "SOP_POP_32_U", 4, _STACK, 0),
    (47, "ADD8", 1, _DIFF, 0),
    (48, "ADD16", 2, _DIFF, 0),
    (49, "ADD24", 3, _DIFF, 0),
    (50, "ADD32", 4, _DIFF, 0),
    (51, "ADD64", 8, _DIFF, 0),
    (52, "SUB8", 1, _DIFF, 0),
    (53, "SUB16", 2, _DIFF, 0),
    (54, "SUB24", 3, _DIFF, 0),
    (55, "SUB32", 4, _DIFF, 0),
    (56, "SUB64", 8, _DIFF, 0),
    (64, "B16", 4, _PLT, _IMM16),
    (65, "B21", 4, _PLT, _IMM21),
    (66, "B26", 4, _PLT, _IMM26),
    (67, "ABS_HI20", 4, _ABS, _IMM20),
    (68, "ABS_LO12", 4, _ABS, _IMM12),
    (69, "ABS64_LO20", 4, _ABS, _IMM20),
    (70, "ABS64_HI12", 4, _ABS, _IMM12),
    (71, "PCALA_HI20", 4, _PC, _IMM20),
    (72, "PCALA_LO12", 4, _ABS, _IMM12),
    (73, "PCALA64_LO20", 4, _PC, _IMM20),
    (74, "PCALA64_HI12", 4, _PC, _IMM12),
    (75, "GOT_PC_HI20", 4, _GOT, _IMM20),
    (76, "GOT_PC_LO12", 4, _GOT, _IMM12),
    (77, "GOT64_PC_LO20", 4, _GOT, _IMM20),
    (78, "GOT64_PC_HI12", 4, _GOT, _IMM12),
    (79, "GOT_HI20", 4, _GOT, _IMM20),
    (80, "GOT_LO12", 4, _GOT, _IMM12),
    (81, "GOT64_LO20", 4, _GOT, _IMM20),
    (82, "GOT64_HI12", 4, _GOT, _IMM12),
    (99, "32_PCREL", 4, _PC, 0),
    (100, "RELAX", 0, _NONE, 0),
    (102, "ALIGN", 0, _NONE, 0),
    (103, "PCREL20_S2", 4, _PC, _IMM20),
    (105, "ADD6", 1, _DIFF, 0x3F),
    (106, "SUB6", 1, _DIFF, 0x3F),
    (107, "ADD_ULEB128", 1, _DIFF, 0),  # as many bytes as the number has, at least one
    (108, "SUB_ULEB128", 1, _DIFF, 0),
    (109, "64_PCREL", 8, _PC, 0),
    (110, "CALL36", 8, _PLT, _CALL36),
    # Thread-local storage (6 to 14, 83 to 98, 111 and above) is known by name.
)  # fmt: skip
