# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables that annotate code: what the kernels have in common.

A table is an array of a C structure, put together by macros in many places of a file.  Its entries say
something about single instructions, so each belongs to the function that it points into.  The structures
differ with the processor, the kernel's version and configuration; which sizes there have been is all that
is written down here, for entries.py finds out from the object which one it is.

`__ex_table` and the like have distances from the field itself.  Some tables count from the *entry's*
beginning instead, so that the addend of a field is larger by the field's place in the entry.  Kernels
before 5.19 wrote the file name in `__bug_table` so, later ones do not: the object must tell (`EITHER`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Use(Enum):
    """What the diff does with a table's entries."""

    MEANING = "meaning"  # part of what the function does: compared and copied
    COPY = "copy"  # copied with the function, not compared
    OBJTOOL = "objtool"  # made from the code by objtool: left to the link of the module


class Base(Enum):
    """Where the distances in a table's fields count from."""

    FIELD = "field"
    ENTRY = "entry"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Table:
    """A kind of table.

    sizes:   entry sizes that kernels have had, in bytes; empty where only the object can tell
    use:     what is done with its entries
    purpose: for notes and messages
    masks:   entry size -> byte ranges of an entry that are no meaning (line numbers)
    base:    what distances count from
    first:   where in an entry the first relocated field is
    ends:    fields (offsets within an entry) that name the end of a stretch of code, not a beginning
    lengths: entry size -> where the replacement's length in bytes stands (alternatives); it may be 0
    fields:  how many relocated fields an entry has, at least and at most
    codes:   how many of them reach code, at most
    """

    sizes: tuple[int, ...]
    use: Use
    purpose: str
    masks: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    base: Base = Base.FIELD
    first: int = 0
    ends: frozenset[int] = frozenset()
    lengths: Mapping[int, int] = field(default_factory=dict)
    fields: tuple[int, int] = (1, 1)
    codes: int = 1


PATCHABLE = "__patchable_function_entries"
ALTERNATIVES = ".altinstructions"
# Where replacements of alternatives are; `__ftr_alt_97` and the like on ppc64 lack the flag of code.
REPLACEMENTS = (".altinstr_replacement", "__ftr_alt_")

# struct bug_entry: relative pointers to instruction and file, line, flags; 7.0 puts a format before the
# line.  With absolute pointers (ppc64 until 6.0) it has 24 bytes, without CONFIG_DEBUG_BUGVERBOSE 8 or 16.
_BUG_LINES = {12: ((8, 10),), 16: ((12, 14),), 24: ((16, 18),)}

# Sources: the structures of these names in the kernel (include/linux, arch/*/include/asm), 4.x to 7.x.
COMMON: Mapping[str, Table] = {
    "__bug_table": Table(
        (12, 8, 16, 24), Use.MEANING, "BUG() and WARN()", _BUG_LINES, Base.EITHER, fields=(1, 3)
    ),
    # struct exception_table_entry: instruction, fixup, and later a type and data.
    "__ex_table": Table((12, 8, 16), Use.MEANING, "exception fixups", fields=(2, 3), codes=3),
    # struct alt_instr: instruction, replacement, feature, lengths.
    ALTERNATIVES: Table(
        (12, 14, 13), Use.MEANING, "alternatives", lengths={12: 11, 13: 11, 14: 13}, fields=(2, 2), codes=2
    ),
    # struct jump_entry: code, target, key; 24 bytes with absolute addresses.
    "__jump_table": Table((16, 24), Use.MEANING, "jump labels", fields=(3, 3), codes=2),
    ".kcfi_traps": Table((4,), Use.MEANING, "CFI traps"),
    "__mcount_loc": Table((8,), Use.COPY, "ftrace"),
    PATCHABLE: Table((8,), Use.COPY, "ftrace"),
    ".printk_index": Table((8,), Use.COPY, "the list of printk formats in debugfs"),
}

# Made by objtool from the code, which runs again on the patch module.
OBJTOOL: Mapping[str, Table] = {
    ".static_call_sites": Table((8,), Use.OBJTOOL, "static calls", fields=(2, 2)),
    ".retpoline_sites": Table((4,), Use.OBJTOOL, "retpolines"),
    ".return_sites": Table((4,), Use.OBJTOOL, "return thunks"),
    ".call_sites": Table((4,), Use.OBJTOOL, "call depth tracking"),
    ".ibt_endbr_seal": Table((4,), Use.OBJTOOL, "indirect branch targets"),
    ".cfi_sites": Table((4,), Use.OBJTOOL, "CFI"),
    ".orc_unwind": Table((6,), Use.OBJTOOL, "stack unwinding", fields=(0, 0)),
    ".orc_unwind_ip": Table((4,), Use.OBJTOOL, "stack unwinding"),
    ".orc_lookup": Table((4,), Use.OBJTOOL, "stack unwinding"),
    ".orc_header": Table((), Use.OBJTOOL, "stack unwinding", fields=(0, 0)),
}

DISCARDED = ".discard."  # objtool reads these, the link throws them away
_OBJTOOL_HINT = Table((), Use.COPY, "hints for objtool", fields=(0, 4), codes=4)


def find_table(tables: Mapping[str, Table], name: str) -> Table | None:
    """The table kind of a section with this name; None when it is no table."""
    found = tables.get(name)
    if found is None and name.startswith(DISCARDED):
        return _OBJTOOL_HINT
    return found
