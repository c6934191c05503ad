# SPDX-License-Identifier: GPL-2.0-or-later
"""`.printk_index`: the list of printk formats in debugfs (CONFIG_PRINTK_INDEX, since 5.15).

Each printk() leaves a structure (format, function, file, line, level) and a pointer to it in this section.
No instruction refers to either, so which function an entry belongs to is said by the structure only: its
second field points to the function's name.  A printk in an inlined function has that function's name and
belongs to no shipped function as far as can be told; it is left out.

A module may have such a section, and its formats then appear under the module's name.
"""

from __future__ import annotations

from collections import defaultdict

from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Link

SECTION = ".printk_index"
_FUNCTION_FIELD = 8  # struct pi_entry: const char *fmt, *func, *file; unsigned int line; ...


def printk_entries(anatomy: Anatomy) -> dict[str, list[int]]:
    """Function of the source -> the entries (pieces) of its printk() calls."""
    found: dict[str, list[int]] = defaultdict(list)
    for section in anatomy.object.sections:
        if section.name == SECTION:
            for number in anatomy.by_section[section.index]:
                name = _function(anatomy, number)
                if name:
                    found[name].append(number)
    return found


def _function(anatomy: Anatomy, number: int) -> str:
    for link in anatomy.links_of(anatomy.pieces[number])[:1]:
        if link.piece != NOWHERE:
            described = anatomy.pieces[link.piece]
            for field in anatomy.links_of(described):
                if field.offset == described.base + link.at + _FUNCTION_FIELD:
                    return _text(anatomy, field)
    return ""


def _text(anatomy: Anatomy, link: Link) -> str:
    if link.piece == NOWHERE:
        return ""
    piece = anatomy.pieces[link.piece]
    start = max(piece.base + link.at, 0)
    content = anatomy.section_of(piece).data[start : piece.end]
    return content.split(b"\0", 1)[0].decode("utf-8", "replace")
