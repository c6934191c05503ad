# SPDX-License-Identifier: GPL-2.0-or-later
"""Which piece of the patched object is which piece of the original.

Functions and variables are paired by their names without the compiler's numbers.  Where several share
such a name (clones `f.constprop.0` and `.1`), those with equal content go together first, then those with
equal full names, then the rest in order.  For functions any pairing is sound, as long as it is one to one:
whoever calls something else than before is seen as changed and gets patched too.

For state it is not: static locals are paired by who uses them (statics.py).

Strings, constants, unnamed stretches and what every copy of a function has its own of (names.PER_COPY) are
not paired: they are compared by content wherever a reference reaches them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind
from kbuild_py.delta.pairs import Pairs, by_content
from kbuild_py.delta.sections import Role
from kbuild_py.delta.statics import is_static_local, pair_static_locals


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
    lost = pair_static_locals(pairs)
    return Correlation(
        original, patched, pairs.to_patched, pairs.to_original, tuple(lost), tuple(pairs.ambiguous)
    )


class _Pairs(Pairs):
    """The steps of `correlate`."""

    def by_name(self, kind: Kind) -> None:
        """Pair all pieces of one kind by name; those left over by the other names of the same place."""
        old, new = _grouped(self.original, kind), _grouped(self.patched, kind)
        for name, candidates in old.items():
            if name not in new:
                continue
            several = len(candidates) > 1 or len(new[name]) > 1
            if (
                several
                and self._is_state(self.original, candidates)
                and self._is_state(self.patched, new[name])
            ):
                self.shared[name] = (candidates, new[name])
            else:
                self.group(candidates, new[name])
        for numbered in (True, False):
            aliases = _aliases(self.patched, kind, numbered=numbered)
            for name, candidate in _aliases(self.original, kind, numbered=numbered).items():
                other = aliases.get(name)
                if other is not None and candidate not in self.to_patched and other not in self.to_original:
                    self.add(candidate, other)

    @staticmethod
    def _is_state(anatomy: Anatomy, numbers: Sequence[int]) -> bool:
        """Static variables, of which another of the same name cannot be taken instead."""
        pieces = [anatomy.pieces[number] for number in numbers]
        roles = (Role.DATA, Role.BSS, Role.RODATA)
        return all(
            piece.kind is Kind.OBJECT and anatomy.is_local(piece) and anatomy.role(piece) in roles
            for piece in pieces
        )

    def group(self, old: Sequence[int], new: Sequence[int]) -> None:
        """Pair pieces that share a name: of one file, of equal content, of equal full name, then in order."""
        if len(old) == 1 and len(new) == 1:
            self.add(old[0], new[0])
            return
        if any(self.file_of(self.patched, number) for number in new):
            self.match(old, new, lambda a, n: (self.file_of(a, n), a.pieces[n].name, fingerprint(a, n)))
            self.match(old, new, lambda a, n: (self.file_of(a, n), a.pieces[n].name))
        self.match(old, new, lambda anatomy, n: (anatomy.pieces[n].name, fingerprint(anatomy, n)))
        self.match(old, new, fingerprint)
        rest = self.free(self.patched, new)
        full = Counter(self.patched.pieces[number].name for number in rest)
        if self.free(self.original, old):
            self.ambiguous += (number for number in rest if full[self.patched.pieces[number].name] > 1)
        self.match(old, new, lambda anatomy, n: anatomy.pieces[n].name)
        for left, right in zip(self.free(self.original, old), self.free(self.patched, new), strict=False):
            self.add(left, right)

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
        if piece.kind is not kind or (kind is Kind.OBJECT and is_static_local(anatomy, piece)):
            continue
        if kind is not Kind.FUNCTION or names.cold_parent(piece.name) is None:
            name = names.canonical(piece.name)
            if anatomy.role(piece) in (
                Role.REGISTRY,
                Role.MARKER,
            ):  # The section is part of the meaning (initcall levels).
                name = f"{anatomy.section_of(piece).name}({name})"
            groups[name].append(piece.number)
    return groups


def _aliases(anatomy: Anatomy, kind: Kind, *, numbered: bool) -> dict[str, int]:
    """All names of the places at which pieces of this kind begin, as far as they are unique.

    numbered: with the compiler's numbers
    """
    found: dict[str, int] = {}
    for symbol, number in anatomy.homes.items():
        piece, entry = anatomy.pieces[number], anatomy.object.symbols[symbol]
        if anatomy.role(piece) is Role.REGISTRY:
            continue
        if piece.kind is kind and entry.value == piece.base and entry.name and not by_content(piece):
            if kind is Kind.OBJECT and names.is_static_local(entry.name):
                continue
            if names.is_anonymous(entry.name) or anatomy.machine.label(entry.name):
                continue  # `$d` before the only variable of an object says nothing about which it is.
            name = entry.name if numbered else names.canonical(entry.name)
            found[name] = NOWHERE if found.get(name, number) != number else number
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
