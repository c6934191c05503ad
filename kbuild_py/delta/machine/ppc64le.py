# SPDX-License-Identifier: GPL-2.0-or-later
"""ppc64le (ELFv2): the table of contents, two entry points, feature fixups.

A function that others call from outside of its object starts with two instructions that compute r2, the
pointer to the object's table of contents; calls from inside skip them.  How many bytes that are stands in
the symbol's st_other.  A relocation names the symbol, and whoever applies it adds the distance; only where
the assembler has resolved a call is the distance already in the code.

A call from a patch module into the kernel changes r2.  The module loader restores it by an instruction
that it writes over the `nop` behind the call.  The compiler leaves that place free only where it thinks
that the callee is elsewhere, so a call of a function of the same file has none.  A jump in place of a call
(sibling call) cannot have one.  Both are fine while caller and callee are in one object (toc.py).

Feature fixups are this processor's alternatives: an entry has a mask and a value, then where the code
begins and ends and where its replacement does, all counted from the entry.
"""

from __future__ import annotations

import re
from functools import cache

import capstone

from kbuild_py.delta.machine.kinds import Lines, Machine
from kbuild_py.delta.machine.words import decoder, first_bytes, lister, signed, word_at, words
from kbuild_py.delta.tables import COMMON, Base, Table, Use
from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import architecture

_REL24, _REL14, _REL24_NOTOC = 10, 11, 116
# The module loader's list: arch/powerpc/kernel/module_64.c, apply_relocate_add(); with the types of
# POWER10's pc-relative code, which it has since 6.4.
_LOADABLE = frozenset({0, 1, 10, 26, 38, 44, 47, 48, 50, 51, 63, 64, 109, 116, 118, 132, 133, 250, 252})
_NOP = 0x60000000

_FEATURES = Table(
    (48,),
    Use.MEANING,
    "processor features",
    base=Base.ENTRY,
    first=16,
    ends=frozenset({24, 40}),
    fields=(4, 4),
    codes=4,
)
_PLACES = Table((8,), Use.MEANING, "instructions that the kernel rewrites at boot")
_TABLES = {
    **COMMON,
    "__ftr_fixup": _FEATURES,
    "__mmu_ftr_fixup": _FEATURES,
    "__fw_ftr_fixup": _FEATURES,
    **{
        f"__{name}_fixup": _PLACES
        for name in (
            "lwsync",
            "barrier_nospec",
            "spec_barrier",
            "rfi_flush",
            "entry_flush",
            "scv_entry_flush",
            "uaccess_flush",
            "stf_entry_barrier",
            "stf_exit_barrier",
            "btb_flush",
        )
    },
}


def _target(word: int, place: int) -> tuple[int, int] | None:
    if word & 2:  # an absolute address
        return None
    if word >> 26 == 18:
        return _REL24, place + signed(word & 0x03FFFFFC, 26)
    return _REL14, place + signed(word & 0xFFFC, 16)


_BRANCHES = first_bytes((0x40, 0x43), (0x48, 0x4B))


def _is_branch(code: bytes, field: int) -> bool:
    return bool(_BRANCHES[word_at(code, field) >> 24])


def _is_call(code: bytes, field: int) -> bool:
    return _is_branch(code, field) and bool(word_at(code, field) & 1)


def _may_return(code: bytes, start: int, end: int) -> bool:
    # Opcode 19: bclr, bcctr, bctar (without link), rfid, rfscv, hrfid.
    return any(
        word >> 26 == 19 and not word & 1 and word >> 1 & 0x3FF in (16, 528, 560, 18, 82, 274)
        for word in words(code, start, end)
    )


def _needs_toc(code: bytes, field: int) -> bool:
    """The branch with its field here leaves no room for restoring r2."""
    return _is_branch(code, field) and not (_is_call(code, field) and word_at(code, field + 4) == _NOP)


# `.TOC.` is the loader's word for r2; the functions that save and restore registers (crtsavres.S) are linked
# into every module.
_SUPPLIED = re.compile(r"\.TOC\.$|_(save|rest)(gpr|fpr|vr)[01]?_\d+(_x)?$")


def local_entry(other: int) -> int:
    """Bytes from a function's symbol to its local entry point, from st_other (ELFv2 ABI, 3.4.1)."""
    code = other >> 5 & 7
    return (1 << code) >> 2 << 2 if code < 7 else 0


@cache
def _engine() -> capstone.Cs:
    return capstone.Cs(capstone.CS_ARCH_PPC, capstone.CS_MODE_64 | capstone.CS_MODE_LITTLE_ENDIAN)


@cache
def ppc64le() -> Machine:
    """The processor."""
    return Machine(
        arch=architecture(elf.EM_PPC64),
        byteorder="little",
        loadable=_LOADABLE,
        same={},
        ignored=frozenset({0, 109, 118, 123}),
        fentry=frozenset({"_mcount"}),
        fentry_reach=32,  # addis, addi, mflr, std, bl; with pc-relative code less
        fill=_NOP.to_bytes(4, "little"),
        objtool=False,
        tables=_TABLES,
        lines=Lines(
            arguments=tuple(frozenset({f"r{number}"}) for number in range(3, 11)),
            loads=frozenset({"li", "lis"}),
            continued=frozenset({"ori"}),
            calls=frozenset({"bl", "bctrl", "blrl"}),
            jumps=frozenset({"b"}),
            returns=lambda mnemonic, operands: mnemonic == "blr",
            flow=lambda mnemonic: re.match(r"b(?!per)|sc$|rf|t[dw]", mnemonic) is not None,
        ),
        decode=decoder(_BRANCHES, _target),
        is_branch=_is_branch,
        is_call=_is_call,
        may_return=_may_return,
        instructions=lister(_engine),
        local_entry=local_entry,
        needs_toc=_needs_toc,
        supplied=lambda name: _SUPPLIED.match(name) is not None,
    )
