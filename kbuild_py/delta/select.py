# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pieces of the patched object are shipped.

It begins with the functions that changed and those that are new.  A function and its unlikely part
(`f` and `f.cold`) jump into each other, so they are shipped together.  Then everything is followed that
the shipped pieces reach:

- what the original has, stays where it is: a reference;
- what it does not have (a new variable) is shipped;
- what has no identity (strings, constants, switch tables, `__func__`, a lock class key) is shipped;
- table entries are shipped with the code that they are about, and what these reach, as well.

A changed function that ftrace cannot redirect brings its callers (carry.py), and code that calls a static
function which never returns brings a copy of it (deadend.py).  On ppc64le, code brings a copy of
what it calls without room for restoring a register (toc.py).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Piece
from kbuild_py.delta.carry import Carried, carry
from kbuild_py.delta.compare import Comparison
from kbuild_py.delta.correlate import cold_families
from kbuild_py.delta.deadend import DeadEnds
from kbuild_py.delta.markers import Markers
from kbuild_py.delta.model import Cause, Why
from kbuild_py.delta.nearby import called_nearby
from kbuild_py.delta.printk import printk_entries
from kbuild_py.delta.sections import ADDRESSABLE, COMPILER_DATA, Role
from kbuild_py.delta.tables import Use

STATIC_CALL_TRAMPOLINE, STATIC_CALL_KEY = "__SCT__", "__SCK__"


@dataclass(frozen=True, slots=True)
class Selection:
    """What is shipped; piece numbers of the patched object.

    reasons:  changed, new and copied functions, each with why, in the order of the object
    included: all pieces, functions among them
    reached:  an included piece that is no function -> the piece for whose sake it is included
    families: function -> the other functions (its unlikely part, its parent) that go with it
    carried:  changed functions that cannot be redirected, with their callers
    ignored:  functions that differ and are left alone, because the patch's author says so; each with why
    contradictions: (piece, cause) where something that is shipped needs an ignored function
    """

    reasons: Mapping[int, tuple[Why, ...]]
    included: frozenset[int]
    reached: Mapping[int, int]
    families: Mapping[int, tuple[int, ...]]
    carried: Carried
    ignored: Mapping[int, Why] = field(default_factory=dict)
    contradictions: tuple[tuple[int, str], ...] = ()


def select(comparison: Comparison, markers: Markers | None = None) -> Selection:
    """Choose what to ship.  Code of init sections is never chosen (see judge.py)."""
    correlation, patched = comparison.correlation, comparison.patched
    families = cold_families(patched)
    known = {names.source_function(p.name) for p in comparison.original.pieces if p.kind is Kind.FUNCTION}
    reasons: dict[int, list[Why]] = defaultdict(list)
    ignored: dict[int, Why] = {}
    left_alone = _left_alone(comparison, markers, families) if markers else frozenset()
    for piece in patched.pieces:
        if piece.kind is not Kind.FUNCTION or patched.role(piece) is not Role.CODE:
            continue
        old = correlation.to_original.get(piece.number)
        why = (
            _new(piece.name, known) if old is None else comparison.why(comparison.original.pieces[old], piece)
        )
        if why is not None and piece.number in left_alone:
            ignored[piece.number] = why
        elif why is not None:
            reasons[piece.number].append(why)
    _add_relatives(patched, families, reasons)
    carried = carry(correlation, sorted(reasons), families)
    for number, callers in carried.callers.items():
        for caller in callers:
            if caller not in reasons:
                text = f"calls {patched.pieces[number].name}, which changed and cannot be redirected"
                reasons[caller].append(Why(Cause.CALLS, text))
    _add_relatives(patched, families, reasons)
    included, reached, nearby = _closure(comparison, reasons, families, markers)
    for number in included - reasons.keys():
        if patched.pieces[number].kind is Kind.FUNCTION and number not in ignored:
            reasons[number].append(_copy(number, nearby))
    ordered = {number: tuple(reasons[number]) for number in sorted(reasons)}
    contradictions = tuple(_contradictions(comparison, included, ignored)) if ignored else ()
    return Selection(ordered, frozenset(included), reached, families, carried, ignored, contradictions)


def _left_alone(
    comparison: Comparison, markers: Markers, families: Mapping[int, tuple[int, ...]]
) -> frozenset[int]:
    """Functions that the markers say to ignore, with their unlikely parts."""
    patched = comparison.patched
    found = set(markers.functions)
    if comparison.ignored:
        found.update(p.number for p in patched.pieces if comparison.is_ignored(patched, p))
    return frozenset(found.union(*(families.get(number, ()) for number in found)))


def _contradictions(
    comparison: Comparison, included: Set[int], ignored: Mapping[int, Why]
) -> Iterator[tuple[int, str]]:
    """An ignored function stays as the kernel has it: nothing that is shipped may need the changed one."""
    patched = comparison.patched
    for number in sorted(included):
        piece = patched.pieces[number]
        if number in ignored:
            yield number, f"'{piece.name}' is to be ignored, and code that changes cannot do without it"
        for link in patched.links_of(piece):
            if link.piece in ignored and link.piece not in included:
                name = patched.pieces[link.piece].name
                if _is_new(comparison, patched.pieces[link.piece]):
                    yield number, f"'{piece.name}' uses '{name}', which is new and to be ignored"
                elif link.at and piece.kind is not Kind.ENTRY:
                    yield number, f"'{piece.name}' reaches into '{name}', which changed and is to be ignored"


def _new(name: str, known: Set[str]) -> Why:
    source = names.source_function(name)
    if names.is_clone(name) and source in known:
        return Why(Cause.CLONE, f"part or clone of {source} that the original does not have")
    return Why(Cause.NEW, "the original does not have it")


def _add_relatives(
    anatomy: Anatomy, families: Mapping[int, tuple[int, ...]], reasons: dict[int, list[Why]]
) -> None:
    """A function and its unlikely part go together."""
    for number in sorted(reasons):
        for other in families.get(number, ()):
            if other not in reasons:
                reasons[other].append(_relative(anatomy, number, other))


def _relative(anatomy: Anatomy, number: int, other: int) -> Why:
    name = anatomy.pieces[number].name
    if names.cold_parent(name) is not None:
        return Why(Cause.COLD, f"its unlikely part {name} changed")
    return Why(Cause.PARENT, f"is the unlikely part of {name}, which changed")


def _copy(number: int, nearby: Set[int]) -> Why:
    """Why an unchanged function is shipped."""
    if number in nearby:
        return Why(Cause.NEARBY, "is called without room for restoring r2 behind the call")
    return Why(Cause.DEAD_END, "never returns, which objtool must see")


def _closure(
    comparison: Comparison,
    functions: Iterable[int],
    families: Mapping[int, tuple[int, ...]],
    markers: Markers | None,
) -> tuple[set[int], dict[int, int], set[int]]:
    """Everything that must be shipped for these functions to work; the copied functions of toc.py."""
    patched = comparison.patched
    dead_ends = DeadEnds(patched, families)
    included, reached = set(functions), dict[int, int]()
    nearby: set[int] = set()
    # Global variables that are new may be for the sake of another patched file.
    for piece in patched.pieces:
        data = piece.kind is Kind.OBJECT and patched.role(piece) in (Role.DATA, Role.BSS, Role.RODATA)
        if data and not patched.is_local(piece) and _is_new(comparison, piece):
            included.add(piece.number)
    for callback in markers.callbacks if markers else ():
        old = comparison.correlation.to_original.get(callback.piece)
        if old is None or not comparison.equal(
            comparison.original.pieces[old], patched.pieces[callback.piece]
        ):
            included.add(callback.piece)
    keepers, printks = _keepers(patched), printk_entries(patched)
    waiting = sorted(included, reverse=True)
    while waiting:
        number = waiting.pop()
        piece = patched.pieces[number]
        needed = [*_needed(comparison, piece, keepers, dead_ends)]
        if piece.kind is Kind.FUNCTION:
            close = called_nearby(patched, piece, jumps=number in nearby)
            copies = [part for one in close for part in (one, *families.get(one, ()))]
            nearby.update(part for part in copies if part not in included)
            needed += copies
        if printks and piece.kind is Kind.FUNCTION:
            needed += printks.get(names.source_function(piece.name), ())
        for target in needed:
            if target not in included:
                included.add(target)
                reached[target] = number
                waiting.append(target)
    return included, reached, nearby


def _needed(
    comparison: Comparison, piece: Piece, keepers: Mapping[str, list[int]], dead_ends: DeadEnds
) -> Iterator[int]:
    patched = comparison.patched
    if piece.kind is Kind.FUNCTION:
        yield from dead_ends.called_by(piece)
    for link in patched.links_of(piece):
        if link.piece == NOWHERE:
            name = link.name
        else:
            target = patched.pieces[link.piece]
            name = target.name
            if is_shipped(comparison, target):
                yield target.number
        if keepers and piece.kind is not Kind.ENTRY and name.startswith(STATIC_CALL_TRAMPOLINE):
            yield from keepers.get(STATIC_CALL_KEY + name.removeprefix(STATIC_CALL_TRAMPOLINE), ())
    for entry in patched.entries.get(piece.number, ()):
        section = patched.section_of(patched.pieces[entry]).name
        table = patched.machine.table(section)
        if table is not None and table.use in (Use.MEANING, Use.COPY) and section != ADDRESSABLE:
            yield entry


def is_shipped(comparison: Comparison, target: Piece) -> bool:
    """A shipped piece that reaches `target` brings it along; false when it stays a reference."""
    old = comparison.correlation.to_original.get(target.number)
    if old is not None:
        return old in comparison.changed_constants
    role = comparison.patched.role(target)
    if target.kind is Kind.STRETCH and role in (Role.DATA, Role.BSS):
        # State without a name, of which cannot be known whether it is new; but for the compiler's own.
        return COMPILER_DATA.match(comparison.patched.section_of(target).name) is not None
    return role not in (Role.INIT, Role.REGISTRY, Role.TABLE)


def _is_new(comparison: Comparison, piece: Piece) -> bool:
    return piece.number not in comparison.correlation.to_original


def _keepers(anatomy: Anatomy) -> dict[str, list[int]]:
    """Symbol -> the entries of .discard.addressable that keep it in the symbol table.

    objtool finds the key of a static call by its name, so the symbol must be there although no shipped
    code refers to it.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for section in anatomy.object.sections:
        if section.name != ADDRESSABLE:
            continue
        for number in anatomy.by_section[section.index]:
            for link in anatomy.links_of(anatomy.pieces[number]):
                found[anatomy.object.symbols[link.symbol].name].append(number)
    return found


def shipped_sections(anatomy: Anatomy, included: frozenset[int]) -> list[tuple[int, list[int]]]:
    """(section, its included pieces), both in the order of the object."""
    numbers = sorted(included)
    found = []
    for section, pieces in enumerate(anatomy.by_section):
        if pieces:
            inner = numbers[bisect_left(numbers, pieces[0]) : bisect_left(numbers, pieces[-1] + 1)]
            if inner:
                found.append((section, inner))
    return found
