# SPDX-License-Identifier: GPL-2.0-or-later
"""What each section of a kernel object is for.

The diff treats a section by what the kernel does with it.  Code and data are cut into pieces, and the
pieces are compared.  Tables annotate code: `__bug_table` says which `ud2` is which warning,
`.altinstructions` what to write over which instruction.  A table's entry belongs to the function that it
points into, so it is compared and copied with that function.  Registries announce things to the kernel at
build, boot or load time (exports, parameters, initcalls): a live patch comes too late to change them.

A section that is not known here is a registry when it is loaded into memory, and not looked at otherwise:
what is unknown may stay as it is, and is refused when it changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import Section


class Role(Enum):
    """What a section's content is to the diff."""

    CODE = "code"
    INIT = "init"  # code and data that exist only at boot, load or unload time
    DATA = "data"  # writable, with content
    BSS = "bss"  # writable, zero
    RODATA = "rodata"
    STRINGS = "strings"  # mergeable, identified by content
    CONSTANTS = "constants"  # mergeable entries of one size, identified by content
    TABLE = "table"  # entries that annotate code
    REGISTRY = "registry"  # announces things to the kernel
    MARKER = "marker"  # tells whoever builds the patch something (markers.py)
    IGNORED = "ignored"


class Use(Enum):
    """What the diff does with a table's entries."""

    MEANING = "meaning"  # part of what the function does: compared and copied
    COPY = "copy"  # copied with the function, not compared
    OBJTOOL = "objtool"  # made from the code by objtool: left to the link of the module
    DROP = "drop"  # for people and tools only, and not attributable: left out, with a note


@dataclass(frozen=True, slots=True)
class Table:
    """A kind of table.

    sizes:  entry sizes that kernels have had, in bytes; empty where only the object can tell
    use:    what is done with its entries
    purpose: for notes and messages
    masks:  entry size -> byte ranges of an entry that are no meaning (line numbers)
    """

    sizes: tuple[int, ...]
    use: Use
    purpose: str
    masks: Mapping[int, tuple[tuple[int, int], ...]]


def _table(sizes: tuple[int, ...], use: Use, purpose: str, **masks: tuple[tuple[int, int], ...]) -> Table:
    return Table(sizes, use, purpose, {int(size[1:]): ranges for size, ranges in masks.items()})


# Sources: the structures of these names in the kernel (include/linux, arch/x86/include/asm), 4.x to 6.x.
TABLES: Mapping[str, Table] = {
    # struct bug_entry: with CONFIG_DEBUG_BUGVERBOSE a 16-bit line number stands before the flags.
    "__bug_table": _table((12, 8, 16), Use.MEANING, "BUG() and WARN()", s12=((8, 10),), s16=((12, 14),)),
    "__ex_table": _table((12, 8), Use.MEANING, "exception fixups"),
    ".altinstructions": _table((12, 14, 13), Use.MEANING, "alternatives"),
    ".smp_locks": _table((4,), Use.MEANING, "lock prefixes"),
    ".parainstructions": _table((16,), Use.MEANING, "paravirt calls"),
    "__jump_table": _table((16, 24), Use.MEANING, "jump labels"),
    ".kcfi_traps": _table((4,), Use.MEANING, "CFI traps"),
    "__mcount_loc": _table((8,), Use.COPY, "ftrace"),
    "__patchable_function_entries": _table((8,), Use.COPY, "ftrace"),
    ".static_call_sites": _table((8,), Use.OBJTOOL, "static calls"),
    ".retpoline_sites": _table((4,), Use.OBJTOOL, "retpolines"),
    ".return_sites": _table((4,), Use.OBJTOOL, "return thunks"),
    ".call_sites": _table((4,), Use.OBJTOOL, "call depth tracking"),
    ".ibt_endbr_seal": _table((4,), Use.OBJTOOL, "indirect branch targets"),
    ".cfi_sites": _table((4,), Use.OBJTOOL, "CFI"),
    ".orc_unwind": _table((6,), Use.OBJTOOL, "stack unwinding"),
    ".orc_unwind_ip": _table((4,), Use.OBJTOOL, "stack unwinding"),
    ".orc_lookup": _table((4,), Use.OBJTOOL, "stack unwinding"),
    ".orc_header": _table((), Use.OBJTOOL, "stack unwinding"),
    ".printk_index": _table((8,), Use.DROP, "the list of printk formats in debugfs"),
}
PATCHABLE = "__patchable_function_entries"
ALTERNATIVES = ".altinstructions"
# struct alt_instr: entry size -> where the length of the replacement stands. 0 is common, and then the
# entry's offset into .altinstr_replacement is that of whatever comes next.
REPLACEMENT_LENGTH = {12: 11, 13: 11, 14: 13}
DISCARDED = ".discard."  # objtool reads these, the link throws them away
ADDRESSABLE = ".discard.addressable"  # keeps symbols alive: belongs to who uses the symbol
_OBJTOOL_HINT = Table((), Use.COPY, "hints for objtool", {})
_MISC_HINT = re.compile(r"^\.llvm\.|^\.llvm_")

INIT_CONTENT = re.compile(r"^\.(init|exit|meminit|memexit|head)\.(text|data|rodata|bss)(\.|$)")
DATA_NAME = re.compile(r"^(\.data|\.bss|\.rodata|\.ref\.data|\.sdata|\.sbss|\.lbss|\.ldata)(\.|$)")
# Written by macros for data that modules may have, too (kernel/module/main.c finds them by these names).
ADOPTABLE = frozenset({"__dyndbg", "__tracepoint_str", "__verbose", "__trace_printk_fmt"})
# A compiler's own data, which every copy of a function has its own of (.data..Lubsan_data17).
COMPILER_DATA = re.compile(r"^\.(data|rodata|bss)\.\.L")
# Of kpatch and of the kernel's livepatch helpers (markers.py).
MARKERS = frozenset(
    {".kpatch.ignore.functions", ".kpatch.ignore.sections", ".kpatch.force"}
    | {f".kpatch.callbacks.{kind}" for kind in ("pre_patch", "post_patch", "pre_unpatch", "post_unpatch")}
    | {".kpatch.hooks.load", ".kpatch.hooks.unload"}
    | {".discard.klp_callback_ptrs", ".discard.klp_callbacks"}
)
NOINSTR = re.compile(r"^\.(noinstr\.text|entry\.text|entry_trampoline|idt\.text)(\.|$)|^\.cpuidle\.text$")
PERCPU = re.compile(r"^\.data\.\.percpu(\.|$)")


def table_of(name: str) -> Table | None:
    """The table kind of a section with this name; None when it is no table."""
    found = TABLES.get(name)
    if found is None and name.startswith(DISCARDED):
        return _OBJTOOL_HINT
    return found


def role_of(section: Section) -> Role:
    """What `section` is to the diff, from its name, type and flags."""
    name, flags = section.name, section.flags
    if section.type in (elf.SHT_NULL, elf.SHT_NOTE, elf.SHT_GROUP, elf.SHT_LLVM_ADDRSIG):
        return Role.IGNORED
    if name in MARKERS:
        return Role.MARKER
    if table_of(name) is not None and section.type != elf.SHT_NOBITS:
        return Role.TABLE
    if not flags & elf.SHF_ALLOC or name.startswith((".eh_frame", ".note")) or _MISC_HINT.match(name):
        return Role.IGNORED
    if INIT_CONTENT.match(name):
        return _merge_role(section) or Role.INIT
    if flags & elf.SHF_EXECINSTR:
        return Role.CODE
    mergeable = _merge_role(section)
    if mergeable is not None:
        return mergeable
    if not DATA_NAME.match(name) and name not in ADOPTABLE and not flags & elf.SHF_TLS:
        return Role.REGISTRY
    if section.type == elf.SHT_NOBITS:
        return Role.BSS
    return Role.DATA if flags & elf.SHF_WRITE else Role.RODATA


def _merge_role(section: Section) -> Role | None:
    """The role of a section whose entries the linker merges by content; None for other sections."""
    if not section.flags & elf.SHF_MERGE or section.flags & elf.SHF_EXECINSTR:
        return None
    if section.relocations or not section.data:
        return None
    if section.flags & elf.SHF_STRINGS:
        return Role.STRINGS if section.entsize in (1, 2, 4) else None
    return Role.CONSTANTS if 0 < section.entsize <= section.size else None


def is_init(name: str) -> bool:
    """The section exists only at boot, load or unload time."""
    return INIT_CONTENT.match(name) is not None
