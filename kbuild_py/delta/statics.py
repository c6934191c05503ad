# SPDX-License-Identifier: GPL-2.0-or-later
"""Which static local of the patched object is which of the original.

`count.17` says only that some function has a static variable `count`; the number is the compiler's and
means nothing.  To pair two of them wrongly is the worst that a live patch can do: code would go on with
another variable's state.  So a pair needs a witness, and the witness is who uses the variable:

- the functions of the source whose code reaches it (a clone or an unlikely part counts as the function it
  was made from); what a function's table entries reach (a static key stands in `__jump_table` only) counts
  as well;
- where a function uses it that only one of the objects has (code moved to a new helper, or what was a
  function is inlined now), the functions that call this one.

Several of one name, size, kind of memory and set of users (two blocks of one function) are told apart by
where the users refer to them: at equal places in a function whose code did not change, else by the order of
the references, which must not contradict the order of the compiler's numbers.  What stays in doubt is
`ambiguous`, and refused where shipped code uses it.  A constant without addresses is never in doubt: it has
no state, so its content says which it is, and a copy is as good.

An object that was linked of several files may have several variables of one name outside of functions as
well.  They are told apart in the same way, and by the file symbol that they stand behind.

clang names the function (`f.count`), which is a witness of its own when the name is there only once.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import chain

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Link, Piece
from kbuild_py.delta.pairs import Pairs, by_content
from kbuild_py.delta.sections import Role

_WRITABLE = (Role.DATA, Role.BSS)
_Kind = tuple[frozenset[str], int, Role]  # users, size, kind of memory
_MANY = 64  # candidates for one variable that are looked at; more are in doubt anyway


def is_static_local(anatomy: Anatomy, piece: Piece) -> bool:
    """A variable of a function.  Names that are numbered in registries and per-copy ones count as such."""
    return anatomy.is_local(piece) and names.is_static_local(piece.name)


def pair_static_locals(pairs: Pairs) -> list[int]:
    """Pair static locals by their users; return those of the original that are lost."""
    old, new = _groups(pairs.original), _groups(pairs.patched)
    if not pairs.shared and not old:
        return []
    return _Statics(pairs, old, new).run()


class _Statics:
    """Both objects' static locals by name, and who uses them."""

    def __init__(self, pairs: Pairs, old: dict[str, list[int]], new: dict[str, list[int]]) -> None:
        self.pairs, self.old, self.new = pairs, old, new
        sources = {_source_functions(pairs.original), _source_functions(pairs.patched)}
        shared = frozenset.intersection(*sources)
        self.old_users = _Users(pairs, pairs.original, shared)
        self.new_users = _Users(pairs, pairs.patched, shared)

    def run(self) -> list[int]:
        for name, candidates in self.old.items():
            if name in self.new:
                self._pair(candidates, self.new[name], unique=names.names_its_function(name))
        self._pair_moved()
        for one, other in self.pairs.shared.values():
            self._pair(one, other, unique=False)
        original, patched = self.pairs.original, self.pairs.patched
        self.pairs.ambiguous[:] = [n for n in self.pairs.ambiguous if not _is_constant(patched, n)]
        return [
            number
            for candidates in self.old.values()
            for number in self.pairs.free(original, candidates)
            if original.role(original.pieces[number]) in _WRITABLE
            and any(user[0] not in "=@" for user in self.old_users.of(number))
        ]

    def _pair_moved(self) -> None:
        """Pair what moved to another function and has that function's name from clang."""
        left, right = self._free_by_base(self.pairs.original), self._free_by_base(self.pairs.patched)
        for base, candidates in left.items():
            if base in right:
                self._pair(candidates, right[base], unique=False)

    def _free_by_base(self, anatomy: Anatomy) -> dict[str, list[int]]:
        groups = self.old if anatomy is self.pairs.original else self.new
        found: dict[str, list[int]] = defaultdict(list)
        for name, numbers in groups.items():
            for number in self.pairs.free(anatomy, numbers):
                piece = anatomy.pieces[number]
                if names.names_its_function(name):
                    found[names.static_local_base(piece.name)].append(number)
        return found

    def _pair(self, old: Sequence[int], new: Sequence[int], *, unique: bool) -> None:
        """Pair the static locals of one name: equal users first, then those that share a user.

        unique: the name identifies the variable where each object has it once
        """
        if unique and len(old) == len(new) == 1:
            self.pairs.add(old[0], new[0])
            return
        if len(old) > 1 or len(new) > 1:
            old, new = self._pair_constants(old, new)
        groups: dict[_Kind, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for number in old:
            groups[self._kind(self.pairs.original, self.old_users, number)][0].append(number)
        for number in new:
            groups[self._kind(self.pairs.patched, self.new_users, number)][1].append(number)
        for (users, _, _), (left, right) in groups.items():
            if all(user[0] == "@" for user in users) and (
                self._used(left, self.old_users) or self._used(right, self.new_users)
            ):
                continue  # by functions that only this object has, and only they call: no witness
            if len(left) == len(right) == 1:
                self.pairs.add(left[0], right[0])
            elif left and right:
                self._pair_twins(left, right)
        for alike in (True, False):
            self._pair_relatives(old, new, alike)

    def _pair_constants(self, old: Sequence[int], new: Sequence[int]) -> tuple[list[int], list[int]]:
        """Pair constants of equal users and content; return what has no counterpart yet."""
        original, patched = self.pairs.original, self.pairs.patched

        def key(anatomy: Anatomy, number: int) -> Hashable:
            users = self.old_users if anatomy is original else self.new_users
            return users.of(number), anatomy.bytes_of(anatomy.pieces[number])

        self.pairs.match(
            [number for number in old if _is_constant(original, number)],
            [number for number in new if _is_constant(patched, number)],
            key,
        )
        return self.pairs.free(original, old), self.pairs.free(patched, new)

    @staticmethod
    def _used(numbers: Sequence[int], users: _Users) -> bool:
        return any(users.direct.get(number) for number in numbers)

    @staticmethod
    def _kind(anatomy: Anatomy, users: _Users, number: int) -> _Kind:
        piece = anatomy.pieces[number]
        return users.of(number), piece.size, anatomy.role(piece)

    # --- several with the same users --------------------------------------------------------------------

    def _pair_twins(self, left: list[int], right: list[int]) -> None:
        """Pair variables that differ in nothing but where their users refer to them."""
        if len(left) != len(right):
            self.pairs.ambiguous += right
        by_number = dict(zip(left, right, strict=False))
        exact, by_order = self._witnesses(left, right)
        taken: set[int] = set()
        for one in left:
            other = exact.get(one, by_number.get(one))
            if other is None or other == NOWHERE or other in taken:
                continue
            taken.add(other)
            self.pairs.add(one, other)
            if one not in exact and by_order.get(one) != other:
                self.pairs.ambiguous.append(other)

    def _witnesses(self, left: list[int], right: list[int]) -> tuple[dict[int, int], dict[int, int]]:
        """Pairs by equal places in unchanged code, and pairs by the order of references in other code.

        A variable for which two functions say different things is paired with NOWHERE.
        """
        exact: dict[int, int] = {}
        by_order: dict[int, int] = {}
        members, others = set(left), set(right)
        name = names.static_local_base(self.pairs.original.pieces[left[0]].name)
        functions = {user for number in left for user in self.old_users.functions(number)}
        for function in sorted(functions):
            counterpart = self.pairs.to_patched.get(function)
            if counterpart is None:
                continue
            ours = [r for r in self.old_users.references(function, name) if r[1] in members]
            theirs = [r for r in self.new_users.references(counterpart, name) if r[1] in others]
            same = self._same_code(function, counterpart) and [r[0] for r in ours] == [r[0] for r in theirs]
            found = exact if same else by_order
            sequences = ([n for _, n in ours], [n for _, n in theirs])
            if not same:
                sequences = (list(dict.fromkeys(sequences[0])), list(dict.fromkeys(sequences[1])))
                if len(sequences[0]) != len(sequences[1]):
                    continue
            for one, other in zip(*sequences, strict=True):
                found[one] = other if found.get(one, other) == other else NOWHERE
        return exact, by_order

    def _same_code(self, old: int, new: int) -> bool:
        """The two functions have the same bytes (relocated fields of a relocatable object are empty)."""
        original, patched = self.pairs.original, self.pairs.patched
        left, right = original.pieces[old], patched.pieces[new]
        return left.size == right.size and original.bytes_of(left) == patched.bytes_of(right)

    # --- those whose users changed ----------------------------------------------------------------------

    def _pair_relatives(self, old: Sequence[int], new: Sequence[int], alike: bool) -> None:
        """Pair what is left and shares a user; alike: of the same size and in the same kind of memory."""
        left = self.pairs.free(self.pairs.original, old)
        right = self.pairs.free(self.pairs.patched, new)
        if not left or not right:
            return
        by_user: dict[str, list[int]] = defaultdict(list)
        for number in left:
            for user in self.old_users.of(number):
                by_user[user].append(number)
        wanted: dict[int, list[int]] = defaultdict(list)
        doubtful: set[int] = set()
        for number in right:
            shared: Counter[int] = Counter()
            for user in self.new_users.of(number):
                candidates = by_user.get(user, [])
                shared.update(c for c in candidates[:_MANY] if not alike or self._alike(c, number))
            most = max(shared.values(), default=0)
            best = [candidate for candidate, count in shared.items() if count == most]
            if len(best) > 1:
                doubtful.add(number)
            if best:
                wanted[min(best)].append(number)
        for candidate, numbers in wanted.items():
            if len(numbers) > 1:
                doubtful.update(numbers)
            self.pairs.add(candidate, numbers[0])
        self.pairs.ambiguous += sorted(doubtful)

    def _alike(self, old: int, new: int) -> bool:
        original, patched = self.pairs.original, self.pairs.patched
        left, right = original.pieces[old], patched.pieces[new]
        return left.size == right.size and original.role(left) is patched.role(right)


def _is_constant(anatomy: Anatomy, number: int) -> bool:
    """Read-only, without addresses, and known in this file only."""
    piece = anatomy.pieces[number]
    local = anatomy.role(piece) is Role.RODATA and anatomy.is_local(piece)
    return local and not anatomy.links_of(piece)


def _groups(anatomy: Anatomy) -> dict[str, list[int]]:
    """Static locals by name, each group in the order of the compiler's numbers."""
    groups: dict[str, list[int]] = defaultdict(list)
    for piece in anatomy.pieces:
        if piece.kind is Kind.OBJECT and is_static_local(anatomy, piece) and not by_content(piece):
            groups[names.canonical(piece.name)].append(piece.number)
    for group in groups.values():
        group.sort(key=lambda number: _numbers(anatomy.pieces[number].name))
    return groups


def _numbers(name: str) -> tuple[int, ...]:
    """The compiler numbers variables in the order in which it comes across them."""
    return tuple(int(number) for number in re.findall(r"\.(\d+)", name))


def _source_functions(anatomy: Anatomy) -> frozenset[str]:
    return frozenset(
        names.source_function(piece.name) for piece in anatomy.pieces if piece.kind is Kind.FUNCTION
    )


class _Users:
    """Which functions of the source use a piece of data.

    shared: source functions that both objects have, in whatever form
    """

    def __init__(self, pairs: Pairs, anatomy: Anatomy, shared: frozenset[str]) -> None:
        self.anatomy, self.shared, self.file_of = anatomy, shared, pairs.file_of
        self.paired = pairs.to_patched if anatomy is pairs.original else pairs.to_original
        self.direct: dict[int, set[int]] = defaultdict(set)  # piece -> pieces that refer to it
        users = (Kind.FUNCTION, Kind.OBJECT, Kind.STRETCH)
        for piece in anatomy.pieces:
            if piece.kind in users and anatomy.role(piece) is not Role.MARKER:
                number = piece.number
                for link in self._links(piece):
                    if link.piece != NOWHERE and link.piece != number:
                        self.direct[link.piece].add(number)
        self.known: dict[int, frozenset[str]] = {}
        self.through: dict[int, set[str]] = {}
        self._cached_references: dict[int, dict[str, list[tuple[int, int]]]] = {}
        self._spread()

    def _links(self, piece: Piece) -> Sequence[Link]:
        """The piece's references, and those of the table entries about it."""
        links = self.anatomy.links_of(piece)
        entries = self.anatomy.entries.get(piece.number) if piece.kind is Kind.FUNCTION else None
        if not entries:
            return links
        inner = (self.anatomy.links_of(self.anatomy.pieces[entry]) for entry in entries)
        return (*links, *chain.from_iterable(inner))

    def _witness(self, piece: Piece) -> str:
        """The name under which both objects know this user; empty for one that only this object has."""
        if piece.kind is Kind.OBJECT:
            return f"={names.canonical(piece.name)}"
        if piece.kind is Kind.FUNCTION:
            source = names.source_function(piece.name)
            if piece.number in self.paired or source in self.shared:
                return source
        return ""

    def _spread(self) -> None:
        """Who reaches what has no witness of its own: unnamed data, and functions of this object only."""
        outward: dict[int, list[int]] = defaultdict(list)
        waiting: list[int] = []
        for number, users in self.direct.items():
            if self.anatomy.pieces[number].kind is Kind.OBJECT or self._witness(self.anatomy.pieces[number]):
                continue
            found = self.through[number] = set()
            for user in users:
                witness = self._witness(self.anatomy.pieces[user])
                if witness:
                    found.add(witness)
                else:
                    outward[user].append(number)
            if found:
                waiting.append(number)
        while waiting:
            number = waiting.pop()
            for target in outward.get(number, ()):
                known = self.through[target]
                if not self.through[number] <= known:
                    known |= self.through[number]
                    waiting.append(target)

    def of(self, number: int) -> frozenset[str]:
        """The witnesses for a variable: source functions, as `=name` variables that hold its address, and
        as `@name` the file, where the object has several.
        """
        if number not in self.known:
            found: set[str] = set()
            if self.file_of(self.anatomy, number):
                found.add(f"@{self.file_of(self.anatomy, number)}")
            for user in self.direct.get(number, ()):
                witness = self._witness(self.anatomy.pieces[user])
                found |= {witness} if witness else self.through.get(user, set())
            self.known[number] = frozenset(found)
        return self.known[number]

    def functions(self, number: int) -> Iterator[int]:
        """The functions that refer to a variable themselves."""
        for user in self.direct.get(number, ()):
            if self.anatomy.pieces[user].kind is Kind.FUNCTION:
                yield user

    def references(self, function: int, name: str) -> list[tuple[int, int]]:
        """(place, variable) of each reference to static locals that are called so in the source, in order."""
        if function not in self._cached_references:
            found: dict[str, list[tuple[int, int]]] = defaultdict(list)
            piece = self.anatomy.pieces[function]
            own = len(self.anatomy.links_of(piece))
            for position, link in enumerate(self._links(piece)):
                target = self.anatomy.pieces[link.piece] if link.piece != NOWHERE else None
                if target is not None and target.kind is Kind.OBJECT and names.is_static_local(target.name):
                    place = link.offset - piece.start if position < own else -position  # in a table
                    found[names.static_local_base(target.name)].append((place, target.number))
            self._cached_references[function] = found
        return self._cached_references[function].get(name, [])
