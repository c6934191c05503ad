# SPDX-License-Identifier: GPL-2.0-or-later
"""Which piece of the patched object is which piece of the original.

Functions and variables are paired by their names without the compiler's numbers.  Where several share
such a name (clones `f.constprop.0` and `.1`), those with equal content go together first, then those with
equal full names, then the rest in order.  For functions any pairing is sound, as long as it is one to one:
whoever calls something else than before is seen as changed and gets patched too.

For state it is not.  `count.17` says only that some function has a static variable `count`.  Static locals
are paired by who uses them: the functions in the source (clones and unlikely parts count as the function
they were made from), and where a new helper uses one, the functions that call the helper.

Strings, constants, unnamed stretches and what every copy of a function has its own of (names.PER_COPY) are
not paired: they are compared by content wherever a reference reaches them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Piece
from kbuild_py.delta.sections import Role

_WRITABLE = (Role.DATA, Role.BSS)


@dataclass(frozen=True, slots=True)
class Correlation:
    """The pairing.

    to_patched, to_original: piece numbers; what is in neither is new, removed, or compared by content
    lost:      static locals (pieces of the original) of functions that still exist, without a counterpart
    ambiguous: pieces of the patched object that could not be told apart from others
    """

    original: Anatomy
    patched: Anatomy
    to_patched: Mapping[int, int]
    to_original: Mapping[int, int]
    lost: tuple[int, ...]
    ambiguous: tuple[int, ...]


def correlate(original: Anatomy, patched: Anatomy) -> Correlation:
    """Pair the pieces of two objects of one translation unit."""
    pairs = _Pairs(original, patched)
    pairs.by_name(Kind.FUNCTION)
    pairs.unlikely_parts()
    pairs.by_name(Kind.OBJECT)
    pairs.registries()
    lost = _static_locals(pairs)
    return Correlation(
        original, patched, pairs.to_patched, pairs.to_original, tuple(lost), tuple(pairs.ambiguous)
    )


def by_content(piece: Piece) -> bool:
    """The piece is identified by its content, never paired."""
    if piece.kind is Kind.OBJECT:
        return names.per_copy(piece.name)
    return piece.kind is not Kind.FUNCTION


class _Pairs:
    """The pairing while it grows."""

    def __init__(self, original: Anatomy, patched: Anatomy) -> None:
        self.original, self.patched = original, patched
        self.to_patched: dict[int, int] = {}
        self.to_original: dict[int, int] = {}
        self.ambiguous: list[int] = []

    def add(self, old: int, new: int) -> None:
        self.to_patched[old] = new
        self.to_original[new] = old

    def free(self, anatomy: Anatomy, candidates: Iterable[int]) -> list[int]:
        taken = self.to_patched if anatomy is self.original else self.to_original
        return [number for number in candidates if number not in taken]

    def by_name(self, kind: Kind) -> None:
        """Pair all pieces of one kind by name; those left over by the other names of the same place."""
        old, new = _grouped(self.original, kind), _grouped(self.patched, kind)
        for name, candidates in old.items():
            if name in new:
                self.group(candidates, new[name])
        aliases = _aliases(self.patched, kind)
        for name, candidate in _aliases(self.original, kind).items():
            other = aliases.get(name)
            if other is not None and candidate not in self.to_patched and other not in self.to_original:
                self.add(candidate, other)

    def group(self, old: Sequence[int], new: Sequence[int]) -> None:
        """Pair pieces that share a name: equal content first, then equal full names, then in order."""
        if len(old) == 1 and len(new) == 1:
            self.add(old[0], new[0])
            return
        self._match(old, new, lambda anatomy, n: (anatomy.pieces[n].name, fingerprint(anatomy, n)))
        self._match(old, new, fingerprint)
        rest = self.free(self.patched, new)
        full = [self.patched.pieces[number].name for number in rest]
        if self.free(self.original, old):
            self.ambiguous += (n for n, name in zip(rest, full, strict=True) if full.count(name) > 1)
        self._match(old, new, lambda anatomy, n: anatomy.pieces[n].name)
        for left, right in zip(self.free(self.original, old), self.free(self.patched, new), strict=False):
            self.add(left, right)

    def _match(self, old: Sequence[int], new: Sequence[int], key: Callable[[Anatomy, int], Hashable]) -> None:
        waiting: dict[Hashable, list[int]] = defaultdict(list)
        for number in reversed(self.free(self.original, old)):
            waiting[key(self.original, number)].append(number)
        for number in self.free(self.patched, new):
            same = waiting.get(key(self.patched, number))
            if same:
                self.add(same.pop(), number)

    def unlikely_parts(self) -> None:
        """Pair `.cold` parts with the parts of the function that their parent is paired with."""
        old, new = cold_families(self.original), cold_families(self.patched)
        for number, parts in old.items():
            other = self.to_patched.get(number)
            if other is not None:
                for one, two in zip(parts, new.get(other, ()), strict=False):
                    if one not in self.to_patched and two not in self.to_original:
                        self.add(one, two)

    def registries(self) -> None:
        """Pair the unnamed stretches of registries by section name and order."""
        old, new = _registry_stretches(self.original), _registry_stretches(self.patched)
        for name, candidates in old.items():
            for left, right in zip(candidates, new.get(name, ()), strict=False):
                self.add(left, right)


def _grouped(anatomy: Anatomy, kind: Kind) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for piece in anatomy.pieces:
        if piece.kind is not kind or (kind is Kind.OBJECT and _is_static_local(anatomy, piece)):
            continue
        if kind is not Kind.FUNCTION or names.cold_parent(piece.name) is None:
            name = names.canonical(piece.name)
            if anatomy.role(piece) is Role.REGISTRY:  # The section is part of the meaning (initcall levels).
                name = f"{anatomy.section_of(piece).name}({name})"
            groups[name].append(piece.number)
    return groups


def _is_static_local(anatomy: Anatomy, piece: Piece) -> bool:
    """A variable of a function. Names that are numbered in registries and per-copy ones count as such."""
    return anatomy.is_local(piece) and names.is_static_local(piece.name)


def _aliases(anatomy: Anatomy, kind: Kind) -> dict[str, int]:
    """All names of the places at which pieces of this kind begin, as far as they are unique."""
    found: dict[str, int] = {}
    for symbol, number in anatomy.homes.items():
        piece, entry = anatomy.pieces[number], anatomy.object.symbols[symbol]
        if anatomy.role(piece) is Role.REGISTRY:
            continue
        if piece.kind is kind and entry.value == piece.base and entry.name:
            if kind is Kind.OBJECT and names.is_static_local(entry.name):
                continue
            found[entry.name] = NOWHERE if found.get(entry.name, number) != number else number
    return {name: number for name, number in found.items() if number != NOWHERE}


def _registry_stretches(anatomy: Anatomy) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for piece in anatomy.pieces:
        if piece.kind is Kind.STRETCH and anatomy.role(piece) is Role.REGISTRY:
            found[anatomy.section_of(piece).name].append(piece.number)
    return found


def cold_families(anatomy: Anatomy) -> dict[int, tuple[int, ...]]:
    """Function -> its unlikely parts, or for an unlikely part its parent."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for piece in anatomy.pieces:
        if piece.kind is Kind.FUNCTION:
            by_name[piece.name].append(piece.number)
    families: dict[int, set[int]] = defaultdict(set)
    for name, numbers in by_name.items():
        parent = names.cold_parent(name)
        if parent is None:
            continue
        # Names are enough where they are unique; otherwise the parent is who jumps there.
        candidates = by_name.get(parent, [])
        for number in numbers:
            for candidate in candidates:
                if len(candidates) == 1 or _reaches(anatomy, candidate, number):
                    families[number].add(candidate)
                    families[candidate].add(number)
    return {number: tuple(sorted(others)) for number, others in families.items()}


def _reaches(anatomy: Anatomy, number: int, target: int) -> bool:
    return any(link.piece == target for link in anatomy.links_of(anatomy.pieces[number]))


def fingerprint(anatomy: Anatomy, number: int) -> Hashable:
    """A value that is equal for pieces that look the same, before it is known which targets are paired."""
    piece = anatomy.pieces[number]
    links = []
    for link in anatomy.links_of(piece):
        if link.piece == NOWHERE:
            target: Hashable = link.name
        else:
            reached = anatomy.pieces[link.piece]
            target = (reached.kind, names.canonical(reached.name))
            if reached.kind in (Kind.STRING, Kind.CONSTANT):
                target = (reached.kind, anatomy.bytes_of(reached))
        links.append((link.offset - piece.start, anatomy.machine.meaning(link.type), target))
    return piece.size, anatomy.bytes_of(piece), tuple(links)


# --- static locals ------------------------------------------------------------------------------------


def _static_locals(pairs: _Pairs) -> list[int]:
    """Pair static locals by their users; return those of the original that are lost."""
    original, patched = pairs.original, pairs.patched
    users = {id(anatomy): _Users(anatomy, pairs) for anatomy in (original, patched)}
    old, new = _local_groups(original), _local_groups(patched)
    for name, candidates in old.items():
        if name in new:
            _pair_locals(pairs, users[id(original)], users[id(patched)], candidates, new[name])
    remaining = {names.source_function(p.name) for p in patched.pieces if p.kind is Kind.FUNCTION}
    return [
        number
        for candidates in old.values()
        for number in pairs.free(original, candidates)
        if original.role(original.pieces[number]) in _WRITABLE and users[id(original)].of(number) & remaining
    ]


def _local_groups(anatomy: Anatomy) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for piece in anatomy.pieces:
        if piece.kind is Kind.OBJECT and _is_static_local(anatomy, piece) and not by_content(piece):
            groups[names.canonical(piece.name)].append(piece.number)
    for group in groups.values():
        group.sort(key=lambda number: _numbers(anatomy.pieces[number].name))
    return groups


def _numbers(name: str) -> tuple[int, ...]:
    """The compiler numbers variables in the order of their declaration."""
    return tuple(int(number) for number in re.findall(r"\.(\d+)", name))


def _pair_locals(
    pairs: _Pairs, old_users: _Users, new_users: _Users, old: Sequence[int], new: Sequence[int]
) -> None:
    """Pair the static locals of one name: same users and type first, then those that share a user.

    Several of one name, type and set of users (two blocks of one function) are told apart by their order,
    which says nothing any more when there are more or fewer of them than before.
    """

    def exact(anatomy: Anatomy, number: int) -> Hashable:
        users = old_users if anatomy is pairs.original else new_users
        piece = anatomy.pieces[number]
        return frozenset(users.of(number)), piece.size, anatomy.role(piece)

    groups: dict[Hashable, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for number in old:
        groups[exact(pairs.original, number)][0].append(number)
    for number in new:
        groups[exact(pairs.patched, number)][1].append(number)
    for left, right in groups.values():
        if left and right and len(left) != len(right):
            pairs.ambiguous += right
        for one, other in zip(left, right, strict=False):
            pairs.add(one, other)
    for strict in (True, False):
        for number in pairs.free(pairs.patched, new):
            best = _best(pairs, old_users, new_users, pairs.free(pairs.original, old), number, strict)
            if best != NOWHERE:
                pairs.add(best, number)


def _best(
    pairs: _Pairs, old_users: _Users, new_users: _Users, old: Sequence[int], number: int, strict: bool
) -> int:
    """The original's static local that shares most users with `number` (of the patched object)."""
    piece, users = pairs.patched.pieces[number], new_users.of(number)
    best, most = NOWHERE, 0
    for candidate in old:
        other = pairs.original.pieces[candidate]
        alike = other.size == piece.size and pairs.original.role(other) is pairs.patched.role(piece)
        shared = len(old_users.of(candidate) & users)
        if shared > most and (alike or not strict):
            best, most = candidate, shared
    return best


class _Users:
    """Which functions of the source use a piece of data."""

    def __init__(self, anatomy: Anatomy, pairs: _Pairs) -> None:
        self.anatomy = anatomy
        self.paired = pairs.to_patched if anatomy is pairs.original else pairs.to_original
        self.reached_from: dict[int, set[int]] = defaultdict(set)
        for piece in anatomy.pieces:
            if piece.kind in (Kind.FUNCTION, Kind.OBJECT, Kind.STRETCH):
                for link in anatomy.links_of(piece):
                    if link.piece != NOWHERE and link.piece != piece.number:
                        self.reached_from[link.piece].add(piece.number)
        self.known: dict[int, frozenset[str]] = {}

    def of(self, number: int) -> frozenset[str]:
        """Names of source functions that reach the piece, through unnamed data and unpaired functions."""
        if number not in self.known:
            self.known[number] = self._find(number)
        return self.known[number]

    def _find(self, number: int) -> frozenset[str]:
        found: set[str] = set()
        seen, waiting = {number}, list(self.reached_from[number])
        while waiting:
            user = waiting.pop()
            if user in seen:
                continue
            seen.add(user)
            piece = self.anatomy.pieces[user]
            if piece.kind is Kind.FUNCTION:
                found.add(names.source_function(piece.name))
                if user in self.paired:
                    continue
            elif piece.kind is Kind.OBJECT:
                found.add(f"={names.canonical(piece.name)}")
                continue
            waiting += self.reached_from[user]
        return frozenset(found)
