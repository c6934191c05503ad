# SPDX-License-Identifier: GPL-2.0-or-later
"""The ELF diff: two objects of one translation unit -> what to ship, or why not.

    dissect    cut both objects into functions, variables, strings, table entries; resolve relocations
    correlate  say which piece of the patched object is which piece of the original
    compare    say whether two pieces mean the same
    select     changed and new functions, and what they bring
    judge      what a live patch cannot do
    build      the patch object

Everything here is pure: the same two objects give the same answer, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import Anatomy, Kind
from kbuild_py.delta.compare import Comparison, is_weak
from kbuild_py.delta.correlate import correlate
from kbuild_py.delta.dissect import dissect
from kbuild_py.delta.entries import EntrySizes
from kbuild_py.delta.explain import difference, inlining
from kbuild_py.delta.judge import judge, same_unit, source_files
from kbuild_py.delta.keys import settle
from kbuild_py.delta.markers import Markers, judge_markers, read_markers
from kbuild_py.delta.model import (
    Cause,
    ChangedFunction,
    Delta,
    NewData,
    Options,
    PatchCallback,
    Status,
    Verdicts,
)
from kbuild_py.delta.modinfo import imports, undefined
from kbuild_py.delta.moved import moved_statics
from kbuild_py.delta.origins import Origins, source_of
from kbuild_py.delta.output import Output, build, with_imports
from kbuild_py.delta.sections import Role
from kbuild_py.delta.select import Selection, select
from kbuild_py.delta.tables import Use
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile

_WRITABLE = (Role.DATA, Role.BSS)


def diff(original: ObjectFile, patched: ObjectFile, options: Options | None = None) -> Delta | Verdicts:
    """What changed between two objects of one translation unit.

    Both must be compiled in the same way, with -ffunction-sections -fdata-sections.  Returns a `Delta`
    (whose `object` is None when nothing changed) or the `Verdicts` that refuse the pair.  Raises
    `UserError` for objects of a processor that is not supported.
    """
    options = options or Options()
    mismatched = tuple(same_unit(original, patched))
    if mismatched:
        return Verdicts(mismatched)
    origins = Origins(original), Origins(patched)
    sizes = EntrySizes(options.entry_sizes)
    before, after = dissect(original, sizes), dissect(patched, sizes)
    # Every byte that means something belongs to a piece, every relocation is a link between pieces.
    correlation = correlate(before, after)
    markers = read_markers(after)
    comparison = Comparison(correlation, frozenset(markers.sections))
    selection = select(comparison, markers)
    keys = settle(comparison, selection, options)
    selection = keys.selection
    # From here on nothing is added to what is shipped.
    verdicts = (
        *judge_markers(after, markers, selection.contradictions),
        *judge(comparison, selection, options, origins[0]),
        *keys.verdicts,
    )
    notes = (
        *keys.notes,
        *_notes(comparison, selection, options),
        *_marker_notes(comparison, selection, markers),
    )
    if verdicts:
        located = (replace(verdict, source=source_of(verdict.place, origins)) for verdict in verdicts)
        return Verdicts(tuple(located), notes)
    removed = tuple(_removed(comparison))
    if not selection.included:
        return Delta(None, (), (), (), removed, notes)
    output = build(comparison, selection, patched.path, keys.code, keys.renamed)
    imported = imports(original, patched, undefined(output.object), options.exports)
    output = with_imports(output, imported)
    functions = tuple(_functions(comparison, selection, output, markers, origins))
    data = tuple(_data(comparison, selection, output))
    callbacks = tuple(_callbacks(comparison, selection, output, markers))
    return Delta(output.object, functions, data, output.references, removed, notes, callbacks, imported)


def _functions(
    comparison: Comparison,
    selection: Selection,
    output: Output,
    markers: Markers,
    origins: tuple[Origins, Origins],
) -> list[ChangedFunction]:
    original, patched = comparison.original, comparison.patched
    found = []
    aliases = _aliases(patched, selection)
    for number, why in selection.reasons.items():
        piece, old = patched.pieces[number], comparison.correlation.to_original.get(number)
        before = original.pieces[old] if old is not None else None
        local = original.is_local(before) if before is not None else patched.is_local(piece)
        replaces = before is not None and names.cold_parent(piece.name) is None
        copied = why[0].cause in (Cause.DEAD_END, Cause.NEARBY)
        replaces = replaces and not copied and number not in selection.carried.callers
        status = Status.NEW if before is None else Status.COPIED if copied else Status.CHANGED
        carried = tuple(
            original.pieces[comparison.correlation.to_original[other]].name
            for other in (selection.carried.by(number) if replaces else ())
        )
        first = difference(comparison, before, piece, why, origins) if before is not None else None
        inlined = inlining(first) if first is not None else None
        found.append(
            ChangedFunction(
                name=output.names[number],
                original_name=before.name if before is not None else "",
                patched_name=piece.name,
                source_name=names.source_function(piece.name),
                aliases=aliases.get(number, ()),
                section=patched.section_of(piece).name,
                status=status,
                local=local,
                replaces=replaces,
                size=piece.size,
                why=(inlined, *why) if inlined is not None else why,
                carries=carried,
                force_unsafe=number in markers.forced,
                original_size=before.size if before is not None else 0,
                source=origins[1].source(piece.section, piece.base),
                first=first,
            )
        )
    return found


def _aliases(patched: Anatomy, selection: Selection) -> dict[int, tuple[str, ...]]:
    """The further names of each included function."""
    found: dict[int, list[str]] = {}
    for index, home in patched.homes.items():
        symbol, piece = patched.object.symbols[index], patched.pieces[home]
        alias = index != piece.symbol and symbol.value == piece.base and symbol.type == elf.STT_FUNC
        if alias and home in selection.reasons:
            found.setdefault(home, []).append(symbol.name)
    return {number: tuple(sorted(others)) for number, others in found.items()}


def _data(comparison: Comparison, selection: Selection, output: Output) -> list[NewData]:
    patched = comparison.patched
    found = []
    for number in sorted(selection.included):
        piece = patched.pieces[number]
        if piece.kind is not Kind.OBJECT or patched.role(piece) is Role.MARKER:
            continue
        base = names.static_local_base(piece.name)
        if names.per_copy(piece.name):
            why = f"every copy of a function has its own: {names.PER_COPY[base]}"
        elif number in comparison.correlation.to_original:
            why = "a constant whose content changed"
        else:
            why = "the original does not have it"
        section = patched.section_of(piece).name
        local = patched.is_local(piece)
        found.append(NewData(output.names[number], piece.name, section, piece.size, local, why))
    return found


def _callbacks(
    comparison: Comparison, selection: Selection, output: Output, markers: Markers
) -> list[PatchCallback]:
    """The callbacks in the output; one that the original has as well is a reference there."""
    patched, correlation = comparison.patched, comparison.correlation
    found = []
    for callback in markers.callbacks:
        if callback.piece in selection.included:
            name = output.names.get(callback.number)
            if name is None:
                name = comparison.original.pieces[correlation.to_original[callback.number]].name
            section = patched.section_of(patched.pieces[callback.piece]).name
            found.append(PatchCallback(callback.kind, name, section))
    return found


def _marker_notes(comparison: Comparison, selection: Selection, markers: Markers) -> Iterator[str]:
    """What markers in the source did, and those that did nothing."""
    patched = comparison.patched
    for number, why in selection.ignored.items():
        yield f"{patched.pieces[number].name}: left as the kernel has it, as the source says ({why.text})"
    for name in sorted(markers.sections):
        yield f"{name}: changes in this section are not counted, as the source says"
    for number, place in markers.functions.items():
        if number not in selection.ignored:
            yield f"{place}: the function {patched.pieces[number].name} is to be ignored, and does not change"
    for number, place in markers.forced.items():
        if number not in selection.reasons:
            yield f"{place}: the function {patched.pieces[number].name} is to be forced, and does not change"


def _removed(comparison: Comparison) -> list[str]:
    """Functions and variables that the patched object lacks, by name."""
    return [
        piece.name
        for piece in comparison.original.pieces
        if piece.kind in (Kind.FUNCTION, Kind.OBJECT)
        and comparison.original.role(piece) in (Role.CODE, Role.DATA, Role.BSS, Role.RODATA)
        and piece.number not in comparison.correlation.to_patched
        and not names.per_copy(piece.name)
    ]


def _notes(comparison: Comparison, selection: Selection, options: Options) -> tuple[str, ...]:
    """What a patch author should know although it does not stand in the way."""
    original, patched, correlation = comparison.original, comparison.patched, comparison.correlation
    notes = list(dict.fromkeys((*original.notes, *patched.notes)))
    before, after = source_files(original.object), source_files(patched.object)
    if before != after and before and after:
        notes.append(f"the objects name different source files: {', '.join(before)} and {', '.join(after)}")
    tables = {section.name for section in patched.object.sections if section.size}
    for name in sorted(options.entry_sizes):
        if name not in tables:
            notes.append(f"{name}: an entry size is given, but the object has no such section")
    if not selection.included:
        return tuple(notes)
    for name in sorted(_left_to_objtool(patched)):
        notes.append(f"{name}: left out, objtool makes it anew when the module is linked")
    for number in selection.reasons:
        old = correlation.to_original.get(number)
        if old is not None and is_weak(original, original.pieces[old]):
            name = original.pieces[old].name
            notes.append(
                f"{name}: is a weak function; where another file overrides it, this one is not called"
            )
    writable = {p.name for p in original.pieces if p.kind is Kind.OBJECT and original.role(p) in _WRITABLE}
    notes += moved_statics(comparison, selection)
    counted = Counter(_removed(comparison))
    for name in sorted(counted):
        note = f"{name}: is in the original only; the kernel keeps it"
        if name in writable:
            note += "; patched code that still reads it has its initial value"
        notes.append(note)
    for number in sorted(selection.included):
        piece = patched.pieces[number]
        local = piece.kind is Kind.OBJECT and names.is_static_local(piece.name)
        if local and not names.per_copy(piece.name) and number not in correlation.to_original:
            notes.append(
                f"{piece.name}: is a new variable of the patch and has its initial value; "
                "the kernel has none that is used in the same way"
            )
    return tuple(notes)


def _left_to_objtool(patched: Anatomy) -> Iterator[str]:
    """Tables whose entries about shipped code are not shipped."""
    for name in {section.name for section in patched.object.sections if section.size}:
        table = patched.machine.table(name)
        if table is not None and table.use is Use.OBJTOOL:
            yield name
