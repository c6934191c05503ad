# SPDX-License-Identifier: GPL-2.0-or-later
"""`.modinfo`: strings by which a module introduces itself, `key=value`, and what they say of an object.

In an object that is linked into vmlinux each string has the name of the module that it would be as a prefix
(`tcp_cubic.license=GPL`), in one that is linked into a module it has none.  So the strings also tell which
of the two an object is for.

A patch module has a license and a name of its own, so nothing of the section is shipped but one thing: a
symbol that is exported in a namespace can be used only by a module that says so (`import_ns=CRYPTO`).  The
patch object gets the imports that its source declares and those that its references need.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kbuild_py.delta.model import Exported
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import SHN_UNDEF, ObjectFile, Section

SECTION = ".modinfo"
_STRING = re.compile(r"^(?:(?P<owner>[^.=]+)\.)?(?P<key>[a-z_]+)=(?P<value>.*)$", re.DOTALL)
# Symbols that only a module's objects have or use.
_MODULE_SYMBOLS = frozenset({"__this_module", "init_module", "cleanup_module"})


class Info(NamedTuple):
    """One string: where it is (section index, offset), the owner's name (vmlinux only), key and value."""

    section: int
    offset: int
    owner: str
    key: str
    value: str


def strings(obj: ObjectFile) -> Iterator[Info]:
    """The strings of an object's .modinfo sections."""
    for section in obj.sections:
        if section.name != SECTION:
            continue
        offset = 0
        for piece in section.data.split(b"\0"):
            text = piece.decode("utf-8", "backslashreplace")
            match = _STRING.match(text)
            if match:
                yield Info(section.index, offset, match["owner"] or "", match["key"], match["value"])
            elif text:
                yield Info(section.index, offset, "", text, "")
            offset += len(piece) + 1


def linked_into(obj: ObjectFile) -> str:
    """ "vmlinux" or "module", as far as the object itself says it; otherwise an empty string."""
    for info in strings(obj):
        return "vmlinux" if info.owner else "module"
    return "module" if any(symbol.name in _MODULE_SYMBOLS for symbol in obj.symbols) else ""


def imports(
    original: ObjectFile, patched: ObjectFile, needed: Iterable[str], exports: Mapping[str, Exported] | None
) -> tuple[str, ...]:
    """Namespaces that a patch object imports: what the source declares and what `needed` symbols are in.

    A namespace `module:NAME` belongs to single modules and cannot be imported by others.
    """
    found = {info.value for obj in (original, patched) for info in strings(obj) if info.key == "import_ns"}
    for name in needed:
        export = (exports or {}).get(name)
        if export is not None and export.namespace and not export.namespace.startswith("module:"):
            found.add(export.namespace)
    return tuple(sorted(found))


def section_of(namespaces: Iterable[str], index: int) -> Section:
    """The .modinfo section that imports these namespaces."""
    content = b"".join(b"import_ns=" + name.encode() + b"\0" for name in namespaces)
    return Section(index, SECTION, elf.SHT_PROGBITS, elf.SHF_ALLOC, content, len(content), 1)


def undefined(obj: ObjectFile) -> Iterator[str]:
    """Names of the undefined symbols of an object."""
    return (symbol.name for symbol in obj.symbols if symbol.section == SHN_UNDEF and symbol.name)
