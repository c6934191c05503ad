# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives of objects (`ar`), as far as one question goes: which members does one have?

The kernel's build collects `lib-y` objects of a folder in its `lib.a`, a thin archive: the members are named,
their content stays in files of their own.
"""

from __future__ import annotations

_MAGIC = (b"!<arch>\n", b"!<thin>\n")
_HEADER = 60  # name 16, time 12, owner 6, group 6, mode 8, size 10, end 2


def members(data: bytes) -> tuple[str, ...]:
    """Names of the members (paths in a thin archive); none when `data` is no archive.

    Source: ar(5) of System V and GNU: `name/`, or `/offset` into the table of long names, which is `//`.
    """
    if not data.startswith(_MAGIC):
        return ()
    thin = data.startswith(_MAGIC[1])
    offset, names, found = len(_MAGIC[0]), b"", []
    while offset + _HEADER <= len(data):
        name, size = data[offset : offset + 16].rstrip(), data[offset + 48 : offset + 58].strip()
        if not size.isdigit():
            break
        offset += _HEADER
        special = name in (b"/", b"//", b"/SYM64/")
        if name == b"//":
            names = data[offset : offset + int(size)]
        elif not special:
            if name.startswith(b"/") and name[1:].isdigit():
                name = names[int(name[1:]) :].split(b"\n", 1)[0]
            found.append(name.rstrip(b"/").decode("utf-8", "replace"))
        if special or not thin:
            offset += int(size) + int(size) % 2
    return tuple(found)
