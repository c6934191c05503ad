# SPDX-License-Identifier: GPL-2.0-or-later
"""Static keys and static calls: whether the patch module can be connected with them.

A static branch is an instruction that the kernel rewrites when a key is switched; its entry in
`__jump_table` names the key.  When a module is loaded, the kernel walks through its table and follows every
entry to its key, before any code of the module runs.  By then the address of the key must be there:

- a key that the patch object brings along, or one in vmlinux, is bound by the module loader;
- a key in another module is bound later, when the patch is applied to that module.  The kernel would follow
  an entry that points nowhere.

So such an entry cannot be shipped.  Without it the branch keeps its initial direction for ever, which changes
what the function does, and is refused.  Trace points and dynamic debug messages are the exception: off is
what they are anyhow, until somebody turns them on, so their entries are left out with a note.  A message that
nobody can turn on must not be listed as one, so its descriptor becomes ordinary data.  Some kernels (5.14 and
later on x86-64) write the branch as a jump, and leave it to objtool to make the initial no-op of it, by the
entry; for an entry that is left out this is done here.

A static call is the same with `__SCT__x` (the code that is called) and `__SCK__x` (its key).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from kbuild_py.delta import modinfo, rules
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Link, Piece
from kbuild_py.delta.compare import Comparison
from kbuild_py.delta.model import Options, Verdict
from kbuild_py.delta.select import STATIC_CALL_TRAMPOLINE, Selection

JUMP_TABLE = "__jump_table"
TRACE_POINT = "__tracepoint_"
DYNAMIC_DEBUG = frozenset({"__dyndbg", "__verbose"})  # before 5.9 the latter
UNLISTED = ".data.dyndbg_off"  # where descriptors of messages are that stay off
OBJTOOL_MAKES_NOP = 2  # in the key's address: the branch is written as a jump (arch_static_branch)


class Home(Enum):
    """Where a key is."""

    PATCH = "patch"
    VMLINUX = "vmlinux"
    MODULE = "module"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Keys:
    """selection: without the entries that cannot be shipped
    code:     function -> its bytes, where an entry that is left out would have changed them
    renamed:  section -> its name in the output, where it is another
    """

    selection: Selection
    code: Mapping[int, bytes]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    renamed: Mapping[int, str]


def settle(comparison: Comparison, selection: Selection, options: Options) -> Keys:
    """Find the keys of shipped code; leave out or refuse what cannot be connected."""
    patched = comparison.patched
    homes = _Homes(comparison, selection, options)
    dropped: dict[int, str] = {}
    messages: dict[int, str] = {}  # section of descriptors -> name in the output
    silent: set[str] = set()  # functions whose debug messages stay off
    code: dict[int, bytearray] = {}
    verdicts: list[Verdict] = []
    unknown: set[str] = set()
    for entry, branch, key in _jump_entries(patched, selection):
        function = patched.pieces[branch.piece]
        if homes.own is Home.MODULE and _is_message(patched, key):
            if _make_nop(patched, branch, key, code):
                dropped[entry.number] = ""
                messages[patched.pieces[key.piece].section] = UNLISTED
                silent.add(function.name)
            continue
        name, home = _name(patched, key), homes.of(key)
        if home is Home.UNKNOWN:
            unknown.add(name)
        if home is not Home.MODULE:
            continue
        place = patched.place(function, function.base + branch.at)
        if not _is_harmless(patched, key):
            cause = f"the static branch in '{function.name}' has the key '{name}', which lives in a module"
            verdicts.append(Verdict(rules.MODULE_KEY, place, cause))
        elif not _make_nop(patched, branch, key, code):
            cause = f"the branch of '{name}', which lives in a module, cannot be turned off"
            verdicts.append(Verdict(rules.MODULE_KEY, place, cause))
        else:
            dropped[entry.number] = name
    for piece, call in _static_calls(patched, selection):
        name, home = _name(patched, call).removeprefix(STATIC_CALL_TRAMPOLINE), homes.of(call)
        if home is Home.UNKNOWN:
            unknown.add(name)
        elif home is Home.MODULE:
            cause = f"'{piece.name}' makes the static call '{name}', which lives in a module"
            verdicts.append(Verdict(rules.MODULE_KEY, patched.place(piece, call.offset), cause))
    notes = [
        f"{name}: its branches are left out and stay off: the key lives in a module"
        for name in sorted(set(dropped.values()) - {""})
    ]
    notes += [
        f"{name}: its pr_debug() messages stay off and are not listed in dynamic_debug/control: "
        "the object is part of a module"
        for name in sorted(silent)
    ]
    if unknown:
        notes.append(
            f"it is not known whether vmlinux or a module has the static keys or calls "
            f"{', '.join(sorted(unknown))}; code with those of a module cannot be patched"
        )
    if dropped:
        selection = replace(selection, included=selection.included - dropped.keys())
    return Keys(
        selection, {n: bytes(content) for n, content in code.items()}, tuple(verdicts), tuple(notes), messages
    )


class _Homes:
    """Where keys are, as far as the object, the user and Module.symvers say it."""

    def __init__(self, comparison: Comparison, selection: Selection, options: Options) -> None:
        self.patched, self.included, self.exports = comparison.patched, selection.included, options.exports
        linked = options.object or modinfo.linked_into(comparison.original.object)
        self.own = Home.UNKNOWN
        if linked:
            self.own = Home.VMLINUX if linked == "vmlinux" else Home.MODULE

    def of(self, link: Link) -> Home:
        if link.piece in self.included:
            return Home.PATCH
        if link.piece != NOWHERE or self.own is Home.VMLINUX:
            return self.own  # Nothing in vmlinux refers to anything in a module.
        if self.exports is None:
            return Home.UNKNOWN
        name = self.patched.object.symbols[link.symbol].name
        export = self.exports.get(name) or self.exports.get(name.replace(STATIC_CALL_TRAMPOLINE, "__SCK__"))
        if export is None:
            return self.own  # Not exported: whoever refers to it is linked together with it.
        return Home.VMLINUX if export.module == "vmlinux" else Home.MODULE


def _jump_entries(patched: Anatomy, selection: Selection) -> Iterator[tuple[Piece, Link, Link]]:
    """Shipped entries of the jump table: (entry, link to the branch, link to the key)."""
    for section in patched.object.sections:
        if section.name != JUMP_TABLE:
            continue
        for number in patched.by_section[section.index]:
            if number in selection.included:
                entry = patched.pieces[number]
                # Some processors write a distance as two relocations, of which one reaches the entry itself.
                links = [
                    link
                    for link in patched.links_of(entry)
                    if link.piece == NOWHERE or patched.pieces[link.piece].section != section.index
                ]
                if len(links) >= 3 and links[0].piece != NOWHERE:
                    yield entry, links[0], links[-1]


def _static_calls(patched: Anatomy, selection: Selection) -> Iterator[tuple[Piece, Link]]:
    for number in selection.reasons:
        piece = patched.pieces[number]
        for link in patched.links_of(piece):
            if _name(patched, link).startswith(STATIC_CALL_TRAMPOLINE):
                yield piece, link


def _name(patched: Anatomy, link: Link) -> str:
    if link.piece == NOWHERE:
        return link.name
    symbol = patched.object.symbols[link.symbol]
    return patched.pieces[link.piece].name or symbol.name or patched.object.sections[symbol.section].name


def _is_harmless(patched: Anatomy, key: Link) -> bool:
    """A trace point or a debug message: the branch may stay off."""
    return _name(patched, key).startswith(TRACE_POINT) or _is_message(patched, key)


def _is_message(patched: Anatomy, key: Link) -> bool:
    """The key is part of the descriptor of a pr_debug()."""
    return key.piece != NOWHERE and patched.section_of(patched.pieces[key.piece]).name in DYNAMIC_DEBUG


def _make_nop(patched: Anatomy, branch: Link, key: Link, code: dict[int, bytearray]) -> bool:
    """Write the no-operation that objtool would write for the entry; false where that cannot be done."""
    if not key.at & OBJTOOL_MAKES_NOP:
        return True
    piece = patched.pieces[branch.piece]
    if piece.kind is not Kind.FUNCTION:
        return False
    content = code.get(piece.number) or bytearray(patched.bytes_of(piece))
    start = piece.base - piece.start + branch.at
    nops = patched.machine.static_branches
    nop = nops.get(content[start]) if 0 <= start < len(content) else None
    if nop is None:
        return any(content[start : start + len(each)] == each for each in nops.values())
    place = piece.start + start
    if any(place <= link.offset < place + len(nop) for link in patched.links_of(piece)):
        return False  # A jump into another section: its relocation would be written over the no-operation.
    content[start : start + len(nop)] = nop
    code[piece.number] = content
    return True
