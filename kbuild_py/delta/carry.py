# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions can be redirected, and who carries those that cannot.

ftrace redirects a function by the call that the compiler put at its start.  An `inline` function that the
compiler did not inline has none (the kernel's `inline` says `notrace`), and the body of most system calls
is one: `__do_sys_swapon`, which two entry points call.  Such a function needs no redirection when nobody
can get to it any more.  If every way to it is a direct call from code of this file, then these callers are
shipped and redirected, and they call the new function.

The old code may still be running when the patch is applied, even with none of its callers on the stack (a
caller that ends with the call jumps).  So whoever carries a function stands for its old code, too: the
stack check looks for it (`carries` in the account).

A function whose address is known elsewhere (a table of operations, another file) cannot be carried.  Its own
jump tables are no other place: nothing but the function itself reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import Anatomy, Kind, Link, Piece
from kbuild_py.delta.correlate import Correlation
from kbuild_py.delta.sections import ADDRESSABLE, NOINSTR, Role

# Function or unnamed data -> every relocation that reaches it, with the piece that holds it.
Ways = dict[int, list[tuple[Piece, Link]]]

# What a jump table is, and on ppc64le the pointer to one that stands in the function itself.
_UNNAMED = (Kind.STRETCH, Kind.CONSTANT)


@dataclass(frozen=True, slots=True)
class Carried:
    """callers:   function that needs no redirection -> those who call it (patched object)
    callees:   the other way round
    obstacles: function that would need it, and has no place for it -> why nobody can carry it
    """

    callers: Mapping[int, tuple[int, ...]]
    callees: Mapping[int, tuple[int, ...]]
    obstacles: Mapping[int, str]

    def by(self, number: int) -> tuple[int, ...]:
        """The functions that `number` carries, those that they carry included."""
        found: dict[int, None] = {}
        waiting = [number]
        while waiting:
            for callee in self.callees.get(waiting.pop(), ()):
                if callee not in found:
                    found[callee] = None
                    waiting.append(callee)
        return tuple(found)


def has_fentry(anatomy: Anatomy, piece: Piece) -> bool:
    """ftrace can hook the function: it calls __fentry__ at its start, or a table says where it may."""
    machine, code = anatomy.machine, anatomy.section_of(piece).data
    if machine.fentry_code and code.startswith(machine.fentry_code, piece.base):
        return True
    for link in anatomy.links_of(piece):
        if link.offset - piece.base >= machine.fentry_reach:
            break
        if link.name in machine.fentry:
            return True
    return any(
        anatomy.section_of(anatomy.pieces[entry]).name in ("__mcount_loc", "__patchable_function_entries")
        for entry in anatomy.entries.get(piece.number, ())
    )


def carry(
    correlation: Correlation, changed: Iterable[int], families: Mapping[int, tuple[int, ...]]
) -> Carried:
    """Who carries the changed functions that cannot be redirected.

    changed:  functions of the patched object
    families: of the patched object: function -> the functions (its unlikely part, its parent) with it
    """
    original, patched = correlation.original, correlation.patched
    all_ways: dict[int, Ways] = {}
    carried: dict[int, tuple[int, ...]] = {}
    obstacles: dict[int, str] = {}
    waiting = list(changed)
    seen: set[int] = set()
    while waiting:
        number = waiting.pop()
        old = correlation.to_original.get(number)
        if number in seen or old is None or not _needs_carrier(original, original.pieces[old]):
            continue
        seen.add(number)
        if not all_ways:
            all_ways = {id(anatomy): ways(anatomy) for anatomy in (original, patched)}
        found: set[int] = set()
        obstacle = ""
        for anatomy, piece in ((original, original.pieces[old]), (patched, patched.pieces[number])):
            for caller in callers(anatomy, piece, all_ways[id(anatomy)]):
                if isinstance(caller, str):
                    obstacle = obstacle or caller
                    continue
                if anatomy is patched:
                    known = caller.number
                elif caller.number in correlation.to_patched:
                    known = correlation.to_patched[caller.number]
                else:
                    obstacle = obstacle or f"'{caller.name}', which the patch removes, calls it"
                    continue
                parents = families.get(known, ()) if names.cold_parent(caller.name) else ()
                found.update(parents or (known,))
        if not obstacle and not any(caller in correlation.to_original for caller in found):
            obstacle = "nothing that still runs in the kernel calls it"
        if obstacle:
            obstacles[number] = obstacle
        else:
            carried[number] = tuple(sorted(found - {number}))
            waiting += carried[number]
    callees: dict[int, list[int]] = defaultdict(list)
    for callee, its_callers in carried.items():
        for one in its_callers:
            callees[one].append(callee)
    return Carried(carried, {caller: tuple(others) for caller, others in callees.items()}, obstacles)


def _needs_carrier(original: Anatomy, piece: Piece) -> bool:
    """Noinstr code is refused for another reason; an unlikely part goes with its parent."""
    if names.cold_parent(piece.name) is not None or NOINSTR.match(original.section_of(piece).name):
        return False
    return not has_fentry(original, piece)


def ways(anatomy: Anatomy) -> Ways:
    """All ways to all functions and all unnamed data of an object."""
    found: dict[int, list[tuple[Piece, Link]]] = defaultdict(list)
    for piece in anatomy.pieces:
        if anatomy.role(piece) is Role.MARKER:
            continue
        for link in anatomy.links_of(piece):
            if link.piece >= 0 and anatomy.pieces[link.piece].kind in (Kind.FUNCTION, *_UNNAMED):
                found[link.piece].append((piece, link))
    return found


def callers(anatomy: Anatomy, piece: Piece, known: Ways) -> Iterator[Piece | str]:
    """The functions that call `piece`; for every other way to get to it, words that say what it is."""
    if not anatomy.is_local(piece):
        yield "other files may call it"
    own = set(anatomy.entries.get(piece.number, ()))
    for source, link in known.get(piece.number, ()):
        if _is_part(source, piece):
            continue
        if source.kind is Kind.ENTRY:
            section = anatomy.section_of(source).name
            if source.number not in own and section != ADDRESSABLE:
                yield f"an entry of {section} refers to it"
        elif source.kind in _UNNAMED and link.at and _is_own(source, piece, known):
            continue
        elif source.kind is not Kind.FUNCTION:
            where = f"'{source.name}'" if source.name else anatomy.section_of(source).name
            yield f"{where} holds its address"
        elif link.at or not anatomy.is_branch(source, link):
            yield f"'{source.name}' uses its address"
        elif anatomy.role(source) is Role.CODE:
            yield source  # and code of boot time does not call it any more


def _is_part(source: Piece, piece: Piece) -> bool:
    """`source` is the function `piece` or its unlikely part."""
    return source.number == piece.number or names.cold_parent(source.name) == piece.name


def _is_own(data: Piece, piece: Piece, known: Ways) -> bool:
    """Only the function reads this data, which leads to places in it: a jump table."""
    users = known.get(data.number, ())
    return bool(users) and all(_is_part(user, piece) for user, _ in users)
