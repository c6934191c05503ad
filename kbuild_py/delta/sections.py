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
from enum import Enum

from kbuild_py.delta.tables import REPLACEMENTS, Table, find_table
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


CHECKSUMS = ".discard.sym_checksum"  # of what objtool saw, for its own comparison of objects (6.19)
ADDRESSABLE = ".discard.addressable"  # keeps symbols alive: belongs to who uses the symbol
TOC = ".toc"  # ppc64: pointers to what code uses, each identified by what it points to
TOC_ENTRY = 8  # bytes
# The kernel writes the values of variables into instructions that these sections list, once, at boot (6.11).
BOOT_CONSTANT = re.compile(r"^\.?runtime_(ptr|shift|mask)_")
_MISC_HINT = re.compile(r"^\.llvm\.|^\.llvm_")

INIT_CONTENT = re.compile(r"^\.(init|exit|meminit|memexit|head)\.(text|data|rodata|bss)(\.|$)")
DATA_NAME = re.compile(r"^(\.data|\.bss|\.rodata|\.ref\.data|\.sdata|\.sbss|\.lbss|\.ldata)(\.|$)")
# Written by macros for data that modules may have, too (kernel/module/main.c finds them by these names).
ADOPTABLE = frozenset(
    {"__dyndbg", "__tracepoint_str", "__verbose", "__trace_printk_fmt"}
    | {"alloc_tags", ".codetag.alloc_tags"}  # memory allocation profiling: before 6.14, and since
)
# Position-independent kernels (s390x, loongarch64) have constants with addresses in sections that are written
# to once, when the kernel's own relocations are applied.
RELOCATED_CONSTANT = re.compile(r"^\.data\.rel\.ro(\.|$)")
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
PERCPU = ".data..percpu"
# .data..read_mostly, .data..ro_after_init, .data..percpu..shared_aligned: an attribute in the source.  The
# rest of .data.NAME, .data.rel.local.NAME and the like is the compiler's.
_ATTRIBUTE = re.compile(r"^\.(data|bss|rodata)\.\.(?!L)(.*)")
# The linker script puts such variables where memory is not encrypted; that of modules does not.
_DECRYPTED = re.compile(r"^\.(data|bss)\.\.(percpu\.\.)?decrypted")


def role_of(section: Section, tables: Mapping[str, Table]) -> Role:
    """What `section` is to the diff, from its name, type and flags; `tables` are those of its processor."""
    name, flags = section.name, section.flags
    if section.type in (elf.SHT_NULL, elf.SHT_NOTE, elf.SHT_GROUP, elf.SHT_LLVM_ADDRSIG) or name == CHECKSUMS:
        return Role.IGNORED
    if name in MARKERS:
        return Role.MARKER
    if find_table(tables, name) is not None and section.type != elf.SHT_NOBITS:
        return Role.TABLE
    if (
        not flags & elf.SHF_ALLOC
        or name.startswith((".eh_frame", ".sframe", ".note"))
        or _MISC_HINT.match(name)
    ):
        return Role.IGNORED
    if INIT_CONTENT.match(name):
        return _merge_role(section) or Role.INIT
    if flags & elf.SHF_EXECINSTR or name.startswith(REPLACEMENTS):
        return Role.CODE
    if name == TOC:
        return Role.CONSTANTS
    mergeable = _merge_role(section)
    if mergeable is not None:
        return mergeable
    known = DATA_NAME.match(name) or name in ADOPTABLE or flags & elf.SHF_TLS
    if name and (not known or _DECRYPTED.match(name)):
        return Role.REGISTRY
    if section.type == elf.SHT_NOBITS:
        return Role.BSS
    return Role.DATA if flags & elf.SHF_WRITE and not RELOCATED_CONSTANT.match(name) else Role.RODATA


def _merge_role(section: Section) -> Role | None:
    """The role of a section whose entries the linker merges by content; None for other sections."""
    if not section.flags & elf.SHF_MERGE or section.flags & elf.SHF_EXECINSTR:
        return None
    if section.relocations or not section.data:
        return None
    if section.flags & elf.SHF_STRINGS:
        return Role.STRINGS if section.entsize in (1, 2, 4) else None
    return Role.CONSTANTS if 0 < section.entsize <= section.size else None


def has_code(section: Section) -> bool:
    """The section holds instructions, so that a reference to it is exact."""
    return bool(section.flags & elf.SHF_EXECINSTR) or section.name.startswith(REPLACEMENTS)


def is_init(name: str) -> bool:
    """The section exists only at boot, load or unload time."""
    return INIT_CONTENT.match(name) is not None


def attribute(name: str) -> str:
    """What the source says of where a variable is to lie: `read_mostly`, `percpu`; empty for most."""
    found = _ATTRIBUTE.match(name)
    return found[2] if found else ""


def module_section(name: str) -> str:
    """The section that a module has for what the kernel has in this one.

    The kernel's linker script joins all sections of per-CPU variables. A module's does not, and the module
    loader knows one.
    """
    return PERCPU if name.startswith(f"{PERCPU}..") else name
