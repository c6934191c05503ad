# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of a kernel tree whose code is not in the running kernel, and how to tell.

A folder's name alone is not enough: `arch/x86/entry/vdso` also has `vma.c`, which maps the vDSO and is kernel
code.  What is not the kernel's is compiled without ftrace, as a whole.  So a file is outside when it lies in
such a folder (or defines what only such a file defines) and none of its functions can be traced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from kbuild_py.delta.anatomy import Anatomy, Kind
from kbuild_py.delta.carry import has_fentry
from kbuild_py.elf import constants as elf

_FOLDERS = (
    (r"/vdso(32|64|x32)?/|/vdso[^/]*\.o$", "the vDSO, which runs in user space"),
    (r"/realmode/", "code for real mode, which runs before the kernel"),
    (r"/boot/compressed/|/arch/[^/]+/boot/", "boot code, which runs before the kernel"),
    (r"/libstub/", "the EFI stub, which runs before the kernel"),
    (r"/purgatory/", "the purgatory, which runs between two kernels"),
    (r"/hyp/nvhe/|\.nvhe\.o$", "code of the hypervisor, which runs beside the kernel"),
)
_SYMBOLS = (
    (
        r"^__(s390_)?vdso_|^__(c_)?kernel_(clock_gettime|clock_getres|gettimeofday|getcpu|time)(32|64)?$",
        _FOLDERS[0][1],
    ),
    (r"^(extract_kernel|decompress_kernel)$", _FOLDERS[2][1]),
    (r"^efi_(pe_entry|stub_entry|main)$", _FOLDERS[3][1]),
    (r"^__kvm_nvhe_", _FOLDERS[5][1]),
)


def is_traced(anatomy: Anatomy) -> bool:
    """At least one function of the object can be redirected by ftrace."""
    return any(piece.kind is Kind.FUNCTION and has_fentry(anatomy, piece) for piece in anatomy.pieces)


def outside(anatomy: Anatomy, sources: Callable[[], Iterable[str]]) -> str:
    """What the file is when it is no part of the running kernel, in words; empty when it may be one.

    sources: gives the paths of what was compiled, as debug information has them; asked only when needed
    """
    if is_traced(anatomy):
        return ""
    files = [symbol.name for symbol in anatomy.object.symbols if symbol.type == elf.STT_FILE]
    defined = [
        symbol.name
        for symbol in anatomy.object.symbols
        if symbol.section > 0 and symbol.bind != elf.STB_LOCAL
    ]
    found = [
        what
        for pattern, what in _FOLDERS
        for path in (anatomy.object.path, *sources(), *files)
        if re.search(pattern, "/" + path.replace("\\", "/"))
    ]
    found += [what for pattern, what in _SYMBOLS for name in defined if re.search(pattern, name)]
    return found[0] if found else ""
