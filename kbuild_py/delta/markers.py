# SPDX-License-Identifier: GPL-2.0-or-later
"""What a patch author wrote into the source for whoever builds the patch.

Macros put pointers into sections that no kernel reads.  Two families are in use:

- kpatch: `.kpatch.ignore.functions` and `.kpatch.force` hold addresses of functions,
  `.kpatch.ignore.sections` addresses of section names, and each `.kpatch.callbacks.*` (before 4.15
  `.kpatch.hooks.*`) an array of structures: the callback's address, then an object's name, which the
  module's own start-up code fills in;
- the kernel's livepatch helpers (6.19): `.discard.klp_callback_ptrs` holds addresses, and the name of the
  variable says which kind of callback it is and for which object.

The patched object's markers count.  An ignored function stays the kernel's although it differs; a changed
section's content is not compared; a forced function is replaced without a look at the stacks.  Callbacks
are shipped.  A marker that points to nothing is a mistake that the author must hear of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kbuild_py.delta import rules
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Link
from kbuild_py.delta.model import Verdict
from kbuild_py.delta.sections import Role
from kbuild_py.elf.object import Section

IGNORED_FUNCTIONS = ".kpatch.ignore.functions"
IGNORED_SECTIONS = ".kpatch.ignore.sections"
FORCED = ".kpatch.force"
_KINDS = ("pre_patch", "post_patch", "pre_unpatch", "post_unpatch")
# Section -> the kind of its callbacks; empty where the variable's name tells.
CALLBACKS = {
    **{f".kpatch.callbacks.{kind}": kind for kind in _KINDS},
    ".kpatch.hooks.load": "load",
    ".kpatch.hooks.unload": "unload",
    ".discard.klp_callback_ptrs": "",
    ".discard.klp_callbacks": "",
}
_KLP_PREFIX = "__klp_{}_callback_"


@dataclass(frozen=True, slots=True)
class Callback:
    """A function that is called when the patch is applied or taken back.

    kind:   "pre_patch", "post_patch", "pre_unpatch", "post_unpatch", "load" or "unload"
    number: the function's piece
    piece:  the marker's piece
    """

    kind: str
    number: int
    piece: int


@dataclass(frozen=True, slots=True)
class Markers:
    """The markers of an object.

    functions: ignored functions (pieces) -> where the marker is
    sections:  names of ignored sections
    forced:    functions (pieces) that are replaced whatever the stacks hold -> where the marker is
    mistakes:  (place, cause) of markers that cannot be followed
    """

    functions: dict[int, str]
    sections: dict[str, str]
    forced: dict[int, str]
    callbacks: tuple[Callback, ...]
    mistakes: tuple[tuple[str, str], ...]


def read_markers(anatomy: Anatomy) -> Markers:
    """Find the markers of `anatomy`; cheap where there are none."""
    found = Markers({}, {}, {}, (), ())
    callbacks: list[Callback] = []
    mistakes: list[tuple[str, str]] = []
    for section in anatomy.object.sections:
        if anatomy.roles[section.index] is not Role.MARKER:
            continue
        if section.size and not anatomy.links[section.index]:
            mistakes.append((f"{anatomy.object.path}({section.name})", "the marker points to nothing"))
        for link in anatomy.links[section.index]:
            place = f"{anatomy.object.path}({section.name}+{link.offset:#x})"
            if section.name == IGNORED_SECTIONS:
                name = _text(anatomy, link)
                if not name:
                    mistakes.append((place, "the marker names no section"))
                elif not any(other.name == name for other in anatomy.object.sections):
                    mistakes.append((place, f"the object has no section '{name}' to ignore"))
                else:
                    found.sections[name] = place
            elif (number := _function(anatomy, link)) == NOWHERE:
                mistakes.append((place, "the marker does not point to a function of this object"))
            elif section.name == IGNORED_FUNCTIONS:
                found.functions[number] = place
            elif section.name == FORCED:
                found.forced[number] = place
            else:
                piece = _piece_at(anatomy, section, link.offset)
                kind = CALLBACKS[section.name] or _klp_kind(anatomy, piece)
                if kind and piece != NOWHERE:
                    callbacks.append(Callback(kind, number, piece))
                else:
                    mistakes.append((place, "no variable there, or its name tells no kind of callback"))
    return Markers(found.functions, found.sections, found.forced, tuple(callbacks), tuple(mistakes))


def _function(anatomy: Anatomy, link: Link) -> int:
    """The function whose start the marker points to."""
    if link.piece == NOWHERE or link.at or anatomy.pieces[link.piece].kind is not Kind.FUNCTION:
        return NOWHERE
    return link.piece


def _text(anatomy: Anatomy, link: Link) -> str:
    """The string that the marker points to."""
    if link.piece == NOWHERE:
        return ""
    piece = anatomy.pieces[link.piece]
    start = piece.base + link.at
    if not piece.start <= start < piece.end:
        return ""
    content = anatomy.section_of(piece).data[start : piece.end]
    return content.split(b"\0", 1)[0].decode("utf-8", "replace")


def _piece_at(anatomy: Anatomy, section: Section, offset: int) -> int:
    for number in anatomy.by_section[section.index]:
        if anatomy.pieces[number].start <= offset < anatomy.pieces[number].end:
            return number
    return NOWHERE


def _klp_kind(anatomy: Anatomy, piece: int) -> str:
    name = anatomy.pieces[piece].name if piece != NOWHERE else ""
    return next((kind for kind in _KINDS if name.startswith(_KLP_PREFIX.format(kind))), "")


def judge_markers(
    patched: Anatomy, markers: Markers, contradictions: Iterable[tuple[int, str]]
) -> Iterator[Verdict]:
    """Markers that cannot be followed, and those that contradict what is shipped."""
    for place, cause in markers.mistakes:
        yield Verdict(rules.BAD_MARKER, place, cause)
    for number, cause in contradictions:
        piece = patched.pieces[number]
        yield Verdict(rules.IGNORED_FUNCTION, patched.place(piece, piece.base), cause)
