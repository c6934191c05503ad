# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be read off x86-64 code at a relocation without decoding it.

A relocation's type does not say whether code goes to a function or takes its address: the assembler writes
R_X86_64_PLT32 for the call of a global function, but R_X86_64_PC32 for that of a static one, and the latter
is what `lea` has, too.  The byte before the field tells.
"""

from __future__ import annotations


def is_branch(code: bytes, field: int) -> bool:
    """Whether the pc-relative field at `field` belongs to a call or jump, and not to a memory operand.

    Before the displacement of an operand stands its ModRM byte with mod 00 and r/m 101 (Intel SDM, volume
    2A, 2.2.1.6); no opcode of a branch (e8, e9, 0f 80 to 0f 8f) looks like one.
    """
    return field > 0 and code[field - 1] & 0xC7 != 0x05


def is_call(code: bytes, field: int) -> bool:
    """Whether the branch with its distance at `field` comes back: `call`, not `jmp` or a condition."""
    return field > 0 and code[field - 1] == 0xE8
