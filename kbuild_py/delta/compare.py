# SPDX-License-Identifier: GPL-2.0-or-later
"""Do two pieces mean the same?

Bytes are compared with the relocated fields left out, then each relocation by what it means: the same
target (as paired by `correlate`), at the same place.  What is identified by content - strings, constants,
switch tables, replacement code, the static locals that every copy has its own of - is compared by content
instead, however deep that goes.  Such content may be circular (a switch table points back into its
function), so the comparison takes for granted what it is in the middle of comparing.

A function is more than its instructions.  Which static branch a `jmp` belongs to stands in `__jump_table`
only, and whether an `ud2` is a BUG() or a WARN() in `__bug_table`.  The entries that belong to a function
are part of the comparison, except for line numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Link, Piece
from kbuild_py.delta.correlate import Correlation
from kbuild_py.delta.lines import PRINTK, line_in_format, line_numbers
from kbuild_py.delta.model import Cause, Why
from kbuild_py.delta.pairs import by_content
from kbuild_py.delta.sections import Role
from kbuild_py.delta.tables import Use
from kbuild_py.elf import constants as elf

# struct _ddebug (include/linux/dynamic_debug.h): four pointers, then a word that begins with the line.
# struct codetag (include/linux/codetag.h): flags, line, then pointers.
_LINES_OF = {"descriptor": ((32, 35),), "_alloc_tag": ((4, 8),)}
_FILE = re.compile(rb"\.\w{1,5}\0")  # the end of a file's name
_FORMAT_REACH = 64  # bytes of code within which a format is that of the next printk()


class Comparison:
    """Compares pieces of the two objects of a correlation; remembers what it has found."""

    def __init__(self, correlation: Correlation, ignored: Set[str] = frozenset()) -> None:
        """`ignored`: names of sections whose changes do not count."""
        self.correlation, self.ignored = correlation, ignored
        self.original = correlation.original
        self.patched = correlation.patched
        self._known: dict[tuple[int, int], bool] = {}
        self.changed_constants: frozenset[int] = frozenset()
        self.changed_constants = frozenset(self._find_changed_constants())

    def _find_changed_constants(self) -> Iterator[int]:
        """Read-only variables (pieces of the original) whose new content can simply be copied.

        They hold numbers and strings only, and nobody outside of this file's code can have their address.
        """
        used_by_data: set[int] = set()
        for anatomy in (self.original, self.patched):
            for piece in anatomy.pieces:
                if piece.kind is Kind.OBJECT or anatomy.role(piece) is Role.REGISTRY:
                    used_by_data |= {
                        link.piece if anatomy is self.original else self.correlation.to_original[link.piece]
                        for link in anatomy.links_of(piece)
                        if anatomy is self.original or link.piece in self.correlation.to_original
                    }
        for old, new in self.correlation.to_patched.items():
            left, right = self.original.pieces[old], self.patched.pieces[new]
            if left.kind is not Kind.OBJECT or old in used_by_data:
                continue
            if not (self.original.role(left) is self.patched.role(right) is Role.RODATA):
                continue
            if not (self.original.is_local(left) and self.patched.is_local(right)):
                continue
            plain = self._plain(self.original, left) and self._plain(self.patched, right)
            if plain and not self.equal(left, right):
                yield old

    @staticmethod
    def _plain(anatomy: Anatomy, piece: Piece) -> bool:
        """The piece holds no addresses but those of strings."""
        return all(
            link.piece != NOWHERE and anatomy.pieces[link.piece].kind is Kind.STRING
            for link in anatomy.links_of(piece)
        )

    # --- equality -------------------------------------------------------------------------------------

    def equal(self, old: Piece, new: Piece) -> bool:
        """The two pieces mean the same, and so does everything that they reach and that has no name."""
        key = (old.number, new.number)
        if key not in self._known:
            assumed = {key}
            waiting = [key]
            while waiting:
                left, right = waiting.pop()
                further = self._compare(self.original.pieces[left], self.patched.pieces[right])
                if further is None:
                    self._known[key] = self._known[left, right] = False
                    return False
                for pair in further:
                    if self._known.get(pair) is False:
                        self._known[key] = False
                        return False
                    if pair not in assumed and pair not in self._known:
                        assumed.add(pair)
                        waiting.append(pair)
            self._known.update(dict.fromkeys(assumed, True))
        return self._known[key]

    def _compare(self, old: Piece, new: Piece) -> list[tuple[int, int]] | None:
        """Compare one pair; the pairs that must be equal as well, or None when it differs already."""
        if self._both_ignored(old, new):
            return []
        if old.size != new.size or old.base - old.start != new.base - new.start:
            return None
        if old.kind is not new.kind or self.original.role(old) is not self.patched.role(new):
            return None
        left, right = self.original.links_of(old), self.patched.links_of(new)
        if len(left) != len(right):
            return None
        further: list[tuple[int, int]] = []
        for one, other in zip(left, right, strict=True):
            if one.offset - old.start != other.offset - new.start:
                return None
            if not self._same_link(one, other, further):
                return None
        if not self._same_bytes(old, new, left):
            return None
        if old.kind in (Kind.FUNCTION, Kind.STRETCH):
            for _, entries, others in self._entry_lists(old, new):
                if len(entries) != len(others):
                    return None
                further += zip(entries, others, strict=True)
        return further

    def is_ignored(self, anatomy: Anatomy, piece: Piece) -> bool:
        """The patch's author says that changes of the piece's section do not count."""
        return anatomy.section_of(piece).name in self.ignored

    def _both_ignored(self, old: Piece, new: Piece) -> bool:
        return (
            bool(self.ignored) and self.is_ignored(self.original, old) and self.is_ignored(self.patched, new)
        )

    def _same_link(self, one: Link, other: Link, further: list[tuple[int, int]]) -> bool:
        """The two relocations mean the same, if the pairs added to `further` are equal."""
        machine = self.original.machine
        if one.type != other.type and machine.meaning(one.type) != machine.meaning(other.type):
            return False
        if one.piece == NOWHERE or other.piece == NOWHERE:
            return one.piece == other.piece and one.name == other.name and one.at == other.at
        old, new = self.original.pieces[one.piece], self.patched.pieces[other.piece]
        if old.kind is Kind.STRING and new.kind is Kind.STRING:
            if self._both_ignored(old, new):
                return True
            return self._tail(self.original, old, one.at) == self._tail(self.patched, new, other.at)
        if old.kind is not new.kind:
            text = self._text(self.original, old, one.at)
            return text is not None and text == self._text(self.patched, new, other.at)
        if one.at != other.at:
            return False
        if self.correlation.to_patched.get(old.number) == new.number:
            return old.number not in self.changed_constants
        if by_content(old) and by_content(new):
            if _base(old) != _base(new):
                return False
            further.append((old.number, new.number))
            return True
        return False

    def _text(self, anatomy: Anatomy, piece: Piece, at: int) -> bytes | None:
        """What is read from `at` on, if the piece is text or a static constant without addresses.

        A compiler may merge a static array with a literal of the same content, so that it has a name in one
        object only.  Where the content is equal nothing of it is shipped, and nobody sees a difference.
        """
        if piece.kind is Kind.STRING:
            return self._tail(anatomy, piece, at)
        constant = anatomy.role(piece) in (Role.RODATA, Role.CONSTANTS) and not anatomy.links_of(piece)
        if not constant or (piece.symbol and not anatomy.is_local(piece)):
            return None
        return self._tail(anatomy, piece, at)

    @staticmethod
    def _tail(anatomy: Anatomy, piece: Piece, at: int) -> bytes:
        """The string that begins at `at`: a reference may point into its middle."""
        content = anatomy.bytes_of(piece)
        return content[at:] if 0 <= at <= len(content) else b"%d:" % at + content

    def _same_bytes(self, old: Piece, new: Piece, links: Sequence[Link]) -> bool:
        left, right = self.original.bytes_of(old), self.patched.bytes_of(new)
        if left == right:
            return True
        return self._different(old, new, links) is None

    def _different(self, old: Piece, new: Piece, links: Sequence[Link]) -> int | None:
        """Where the contents of two pieces with relocations at the same places differ; None if nowhere."""
        left = self._masked(old, self.original.bytes_of(old), links)
        right = self._masked(old, self.patched.bytes_of(new), links)
        if left != right and old.kind is Kind.FUNCTION and len(left) == len(right):
            calls = dict(self._calls(old, links))
            found = line_numbers(self.original.machine, left, right, calls) if calls else ()
            for low, high in found:
                right = right[:low] + left[low:high] + right[high:]
        return None if left == right else _first_different(left, right)

    def _calls(self, piece: Piece, links: Sequence[Link]) -> Iterator[tuple[int, str]]:
        """Place and callee of each call; printk() under another name where its format has a line."""
        format_place, argument = -_FORMAT_REACH, 0
        for link in links:
            place, name = link.offset - piece.start, link.name
            if link.piece != NOWHERE:
                target = self.original.pieces[link.piece]
                name = target.name
                if target.kind is Kind.STRING:
                    found = line_in_format(self._tail(self.original, target, link.at))
                    format_place, argument = (place, found) if found else (format_place, argument)
            if self.original.is_branch(piece, link) and not link.at:
                formatted = name in PRINTK and argument and place - format_place < _FORMAT_REACH
                yield place, f"printk {argument}" if formatted else name

    def _masked(self, piece: Piece, content: bytes, links: Sequence[Link]) -> bytes:
        """The content with relocated fields and line numbers set to zero."""
        masked = bytearray(content)
        for link in links:
            self.original.machine.clear(masked, link.offset - piece.start, link.type)
        for low, high in self._no_meaning(piece):
            masked[low:high] = bytes(max(min(high, len(masked)) - low, 0))
        return bytes(masked)

    def _no_meaning(self, piece: Piece) -> tuple[tuple[int, int], ...]:
        if piece.kind is Kind.ENTRY:
            table = self.original.machine.table(self.original.section_of(piece).name)
            size = self.original.entry_sizes.get(piece.section, 0)
            masks = table.masks.get(size, ()) if table is not None else ()
            return masks if masks and self._names_file(piece) else ()
        if piece.kind is Kind.OBJECT and names.per_copy(piece.name):
            return _LINES_OF.get(names.static_local_base(piece.name), ())
        return ()

    def _names_file(self, piece: Piece) -> bool:
        """The entry has a file name, as one with a line does: without, what is there may be its flags."""
        return any(
            link.piece != NOWHERE
            and (target := self.original.pieces[link.piece]).kind in (Kind.STRING, Kind.STRETCH)
            and _FILE.search(self._tail(self.original, target, link.at)) is not None
            for link in self.original.links_of(piece)
        )

    def _entry_lists(self, old: Piece, new: Piece) -> Iterator[tuple[str, list[int], list[int]]]:
        """Per table that has meaning: its name, the entries about `old` and those about `new`."""
        left = _meaningful(self.original, self.original.entries.get(old.number, ()))
        right = _meaningful(self.patched, self.patched.entries.get(new.number, ()))
        for name in sorted(left.keys() | right.keys()):
            yield name, left.get(name, []), right.get(name, [])

    # --- the account ----------------------------------------------------------------------------------

    def why(self, old: Piece, new: Piece) -> Why | None:
        """The first way in which two functions differ; None when they are equal."""
        if self.equal(old, new):
            return None
        left, right = self.original.links_of(old), self.patched.links_of(new)
        first = self._first_difference(old, new)
        for one, other in zip(left, right, strict=False):
            place = min(one.offset - old.start, other.offset - new.start)
            if place >= first:
                break
            if one.offset - old.start != other.offset - new.start:
                first = place
                break
            further: list[tuple[int, int]] = []
            if not self._same_link(one, other, further) or not self._all_equal(further):
                return self._reference(old, one, other)
        if old.size != new.size or first < old.size:
            return self._body(old, new, first)
        for name, entries, others in self._entry_lists(old, new):
            if len(entries) != len(others):
                return Why(Cause.TABLE, f"{len(others)} entries instead of {len(entries)} in {name}")
            if not self._all_equal(list(zip(entries, others, strict=True))):
                return Why(Cause.TABLE, f"an entry in {name} says something else")
        return Why(Cause.BODY, "something that it reaches differs")

    def _first_difference(self, old: Piece, new: Piece) -> int:
        """Where the bytes of two functions differ first; the size of the smaller one when they do not."""
        left, right = self.original.links_of(old), self.patched.links_of(new)
        if [link.offset - old.start for link in left] == [link.offset - new.start for link in right]:
            found = self._different(old, new, left)
            return min(old.size, new.size) if found is None else found
        return _first_different(
            self._masked(old, self.original.bytes_of(old), left),
            self._masked(new, self.patched.bytes_of(new), right),
        )

    def _all_equal(self, pairs: Sequence[tuple[int, int]]) -> bool:
        return all(self.equal(self.original.pieces[old], self.patched.pieces[new]) for old, new in pairs)

    def _body(self, old: Piece, new: Piece, first: int) -> Why:
        ours = self.patched.machine.instruction_at(
            self.patched.section_of(new).data, new.start, new.end, new.start + first
        )
        theirs = self.original.machine.instruction_at(
            self.original.section_of(old).data, old.start, old.end, old.start + first
        )
        cause = Cause.BODY if old.size == new.size else Cause.SIZE
        text = f"code differs at +{first:#x}"
        if ours and theirs and ours != theirs:
            text += f": '{ours}' instead of '{theirs}'"
        if cause is Cause.SIZE:
            text += f"; {new.size} bytes instead of {old.size}"
        return Why(cause, text, first)

    def _reference(self, old: Piece, one: Link, other: Link) -> Why:
        offset = one.offset - old.start
        if one.piece in self.changed_constants:
            name = self.original.pieces[one.piece].name
            return Why(Cause.CONSTANT, f"uses the constant '{name}', whose content changed", offset)
        ours, theirs = describe(self.patched, other), describe(self.original, one)
        if ours == theirs:
            return Why(Cause.REFERENCE, f"reaches another {ours} at +{offset:#x}", offset)
        return Why(Cause.REFERENCE, f"reaches {ours} instead of {theirs} at +{offset:#x}", offset)


def _first_different(left: bytes, right: bytes) -> int:
    """The first place at which two contents differ; the shorter one's length where there is none."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(left), len(right)))


def _meaningful(anatomy: Anatomy, entries: Sequence[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number in entries:
        name = anatomy.section_of(anatomy.pieces[number]).name
        table = anatomy.machine.table(name)
        if table is not None and table.use is Use.MEANING:
            found.setdefault(name, []).append(number)
    return found


def _base(piece: Piece) -> str:
    """The name that two static locals of the per-copy kind must share; stretches have none."""
    return names.static_local_base(piece.name) if piece.kind is Kind.OBJECT else ""


def describe(anatomy: Anatomy, link: Link) -> str:
    """What a relocation reaches, for people."""
    if link.piece == NOWHERE:
        return link.name + (f"+{link.at:#x}" if link.at else "")
    piece = anatomy.pieces[link.piece]
    if piece.kind is Kind.STRING:
        content = anatomy.bytes_of(piece)[max(link.at, 0) :].rstrip(b"\0")
        text = content.decode("utf-8", "backslashreplace")
        return '"' + (text if len(text) <= 80 else text[:77] + "...").replace("\n", "\\n") + '"'
    name = piece.name or f"unnamed {piece.kind.value} in {anatomy.section_of(piece).name}"
    return name + (f"+{link.at:#x}" if link.at else "")


def is_weak(anatomy: Anatomy, piece: Piece) -> bool:
    """Another object may define the same symbol and win."""
    return anatomy.symbol_of(piece).bind == elf.STB_WEAK
