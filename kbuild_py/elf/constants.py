# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of the ELF format that relocatable objects use, under the names that its manuals use.

Source: System V ABI, chapter 4; the GNU extensions as in binutils' `elf/common.h`.  Section indices of
symbols (SHN_*) are in `object.py`, relocation types in `arch.py`.
"""

from __future__ import annotations

# e_type, e_machine
ET_REL = 1
EM_PPC64 = 21
EM_S390 = 22
EM_X86_64 = 62
EM_AARCH64 = 183
EM_RISCV = 243
EM_LOONGARCH = 258

# Section types
SHT_NULL = 0
SHT_PROGBITS = 1
SHT_SYMTAB = 2
SHT_STRTAB = 3
SHT_RELA = 4
SHT_HASH = 5
SHT_DYNAMIC = 6
SHT_NOTE = 7
SHT_NOBITS = 8
SHT_REL = 9
SHT_DYNSYM = 11
SHT_INIT_ARRAY = 14
SHT_FINI_ARRAY = 15
SHT_GROUP = 17
SHT_SYMTAB_SHNDX = 18
SHT_RELR = 19
SHT_LLVM_ADDRSIG = 0x6FFF4C03
SHT_X86_64_UNWIND = 0x70000001

# Section flags
SHF_WRITE = 0x1
SHF_ALLOC = 0x2
SHF_EXECINSTR = 0x4
SHF_MERGE = 0x10
SHF_STRINGS = 0x20
SHF_INFO_LINK = 0x40
SHF_LINK_ORDER = 0x80
SHF_GROUP = 0x200
SHF_TLS = 0x400
SHF_COMPRESSED = 0x800
SHF_RELA_LIVEPATCH = 0x00100000  # Linux: relocations of a livepatch module that the kernel applies late
SHF_GNU_RETAIN = 0x00200000
SHF_GNU_MBIND = 0x01000000
SHF_EXCLUDE = 0x80000000

# First word of a section group
GRP_COMDAT = 0x1

# Symbol types, bindings, visibilities
STT_NOTYPE = 0
STT_OBJECT = 1
STT_FUNC = 2
STT_SECTION = 3
STT_FILE = 4
STT_COMMON = 5
STT_TLS = 6
STT_GNU_IFUNC = 10
STB_LOCAL = 0
STB_GLOBAL = 1
STB_WEAK = 2
STB_GNU_UNIQUE = 10
STV_DEFAULT = 0
STV_INTERNAL = 1
STV_HIDDEN = 2
STV_PROTECTED = 3
