# SPDX-License-Identifier: GPL-2.0-or-later
"""The processors whose objects can be compared: one file each, one `Machine` each.

An assembler resolves a branch within one section by itself.  Where several functions share a section
(`.sched.text`) such a branch between two of them has no relocation, yet its target moves when code is taken
out of the section.  The decoders report these branches; the diff treats them as relocations.

No other module of the diff knows one processor from another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kbuild_py.delta.machine.aarch64 import aarch64
from kbuild_py.delta.machine.kinds import Branch, Decoded, Machine
from kbuild_py.delta.machine.loongarch64 import loongarch64
from kbuild_py.delta.machine.ppc64le import ppc64le
from kbuild_py.delta.machine.s390x import s390x
from kbuild_py.delta.machine.x86_64 import x86_64
from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import architecture
from kbuild_py.elf.object import ObjectFile
from kbuild_py.errors import refuse

__all__ = ["MACHINES", "Branch", "Decoded", "Machine", "machine"]

MACHINES: Mapping[int, Callable[[], Machine]] = {
    elf.EM_X86_64: x86_64,
    elf.EM_AARCH64: aarch64,
    elf.EM_PPC64: ppc64le,
    elf.EM_S390: s390x,
    elf.EM_LOONGARCH: loongarch64,
}


def machine(obj: ObjectFile) -> Machine:
    """The processor that an object is for; a `UserError` for others, and for the wrong byte order."""
    make = MACHINES.get(obj.machine)
    order = "big" if obj.big_endian else "little"
    if make is None or make().byteorder != order:
        name = architecture(obj.machine, obj.path).name
        known = ", ".join(f"{one().name} ({one().byteorder}-endian)" for one in MACHINES.values())
        raise refuse(
            obj.path, f"{order}-endian objects for {name} are not supported", f"give objects for {known}"
        )
    return make()
