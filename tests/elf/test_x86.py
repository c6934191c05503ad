# SPDX-License-Identifier: GPL-2.0-or-later
"""Branches and memory operands, assembled by hand (checked with objdump)."""

import pytest

from kbuild_py.elf.x86 import is_branch, is_call


@pytest.mark.parametrize(
    ("code", "field", "branch"),
    [
        ("e800000000", 1, True),  # call
        ("e900000000", 1, True),  # jmp
        ("2ee800000000", 2, True),  # cs call
        ("0f8400000000", 2, True),  # je
        ("0f8d00000000", 2, True),  # jge, whose opcode is lea's number
        ("488d0500000000", 3, False),  # lea 0(%rip), %rax
        ("4c8d3d00000000", 3, False),  # lea 0(%rip), %r15
        ("488b1d00000000", 3, False),  # mov 0(%rip), %rbx
        ("48833d0000000007", 3, False),  # cmpq $7, 0(%rip)
        ("ff1500000000", 2, False),  # call *0(%rip)
        ("65480335 00000000", 4, False),  # add %gs:0(%rip), %rsi
        ("00000000", 0, False),  # no code
    ],
)
def test_is_branch(code: str, field: int, branch: bool) -> None:
    assert is_branch(bytes.fromhex(code), field) is branch


@pytest.mark.parametrize(
    ("code", "field", "call"),
    [("e800000000", 1, True), ("e900000000", 1, False), ("0f8400000000", 2, False), ("00000000", 0, False)],
)
def test_is_call(code: str, field: int, call: bool) -> None:
    assert is_call(bytes.fromhex(code), field) is call
