# SPDX-License-Identifier: GPL-2.0-or-later
"""What a live patch cannot do: the predicates that find it.

One function a rule (or a few rules about the same pieces); each yields a `Verdict` for every place where
the rule applies, so that a patch author sees all of them at once.  What the rules mean and what to do
instead stands in `rules.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from kbuild_py.delta import names, rules
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Link, Piece, Place
from kbuild_py.delta.compare import Comparison, describe
from kbuild_py.delta.model import Options, Status, Verdict
from kbuild_py.delta.origins import Origins
from kbuild_py.delta.outside import is_traced, outside
from kbuild_py.delta.registries import CRC, changed_registries, crc_cause, rule_of
from kbuild_py.delta.rules import Rule
from kbuild_py.delta.sections import BOOT_CONSTANT, NOINSTR, Role, attribute, is_init
from kbuild_py.delta.select import Selection, is_shipped
from kbuild_py.delta.tables import Use
from kbuild_py.delta.toc import calls_without_room, sibling_calls
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import SHN_ABS, SHN_COMMON, SHN_UNDEF, SHN_X86_64_LCOMMON, ObjectFile

_DATA = (Role.DATA, Role.BSS, Role.RODATA)
# Names that the macros of system calls make (include/linux/syscalls.h, asm/syscall_wrapper.h).
_SYSCALL = re.compile(
    r"(__(do|se)_(compat_)?sys|__(x64|x32|ia32|arm64|s390x?|riscv|powerpc)_(compat_)?sys"
    r"|(compat_)?SyS|(C_)?SYSC|sys)_"
)
_COMMON = (SHN_COMMON, SHN_X86_64_LCOMMON)


def same_unit(original: ObjectFile, patched: ObjectFile) -> Iterator[Verdict]:
    """Both objects are for one processor."""
    if original.machine != patched.machine or original.big_endian != patched.big_endian:
        yield Verdict(rules.DIFFERENT_UNITS, patched.path, "the objects are for different processors")


def source_files(obj: ObjectFile) -> tuple[str, ...]:
    """The base names in the file symbols: the folder may differ between two compiles."""
    found = {symbol.name.rsplit("/", 1)[-1] for symbol in obj.symbols if symbol.type == elf.STT_FILE}
    return tuple(sorted(found - {""}))


def judge(
    comparison: Comparison, selection: Selection, options: Options, origins: Origins
) -> tuple[Verdict, ...]:
    """All verdicts about a pair of objects, each once, in the order of the rules below.

    origins: of the original object
    """
    found: dict[tuple[str, Place | str], Verdict] = {}
    for verdict in _never_patched(comparison, selection, options, origins):
        found[verdict.rule.name, verdict.place] = verdict
    for predicate in (
        _changed_data,
        _changed_init,
        changed_registries,
        _moved_functions,
        _folded_functions,
        _lost_statics,
        _ambiguous,
        _two_things,
        _symbols_without_place,
        _bad_references,
        sibling_calls,
        calls_without_room,
        _unknown_tables,
        _table_entries,
    ):
        for verdict in predicate(comparison, selection):
            found.setdefault((verdict.rule.name, verdict.place), verdict)
    for verdict in _not_redirectable(comparison, selection, origins):
        found.setdefault((verdict.rule.name, verdict.place), verdict)
    for verdict in _unresolved(comparison, selection, options):
        found.setdefault((verdict.rule.name, verdict.place), verdict)
    return tuple(found.values())


def _never_patched(
    comparison: Comparison, selection: Selection, options: Options, origins: Origins
) -> Iterator[Verdict]:
    """The file is linked into the kernel, and its code is the one that runs."""
    original = comparison.original
    if not selection.reasons:
        return
    what = outside(original, origins.units)
    if what:
        yield Verdict(rules.NEVER_PATCHED, original.object.path, f"the file is {what}")
    if options.archive:
        cause = f"the object is a member of the library {options.archive} (lib-y)"
        yield Verdict(rules.NEVER_PATCHED, original.object.path, cause)


# --- existing data --------------------------------------------------------------------------------------


def _changed_data(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """A variable that both objects have must be the same in both."""
    original, patched = comparison.original, comparison.patched
    for old_number, new_number in comparison.correlation.to_patched.items():
        old, new = original.pieces[old_number], patched.pieces[new_number]
        if old.kind is not Kind.OBJECT or old_number in comparison.changed_constants:
            continue
        role, other = original.role(old), patched.role(new)
        if role not in _DATA and other not in _DATA:
            continue
        place, name = patched.place(new, new.base), old.name
        before, after = original.section_of(old).name, patched.section_of(new).name
        if role is not other or attribute(before) != attribute(after):
            cause = f"'{name}' moved from {before} to {after}"
            yield Verdict(rules.CHANGED_KIND, place, cause)
        elif old.size != new.size:
            cause = f"'{name}' has {new.size} bytes instead of {old.size}"
            yield Verdict(rules.CHANGED_SIZE, place, cause)
        elif comparison.equal(old, new):
            continue
        elif name.startswith(CRC):
            yield Verdict(rules.CHANGED_EXPORT, place, crc_cause(name))
        else:
            yield Verdict(rules.CHANGED_DATA, place, f"the initial value of '{name}' changed")


def _changed_init(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """Code and data of boot and unload time must be the same in both."""
    original, patched = comparison.original, comparison.patched
    for piece in patched.pieces:
        if patched.role(piece) is not Role.INIT or piece.kind not in (Kind.FUNCTION, Kind.OBJECT):
            continue
        if piece.kind is Kind.OBJECT and names.per_copy(piece.name):
            continue
        old = comparison.correlation.to_original.get(piece.number)
        what = "function" if piece.kind is Kind.FUNCTION else "variable"
        section = patched.section_of(piece).name
        if old is None:
            continue  # Whoever uses it has changed as well, or announces it in a registry.
        before = original.pieces[old]
        why = comparison.why(before, piece) if original.role(before) is Role.INIT else None
        if why is not None:
            detail = f": {why.text}" if piece.kind is Kind.FUNCTION else ""
            cause = f"the {what} '{piece.name}' in {section} changed{detail}"
            yield Verdict(rules.CHANGED_INIT, patched.place(piece, piece.base), cause)


# --- functions ------------------------------------------------------------------------------------------


def _moved_functions(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """A function does not move between ordinary and boot-time code."""
    original, patched = comparison.original, comparison.patched
    for old_number, new_number in comparison.correlation.to_patched.items():
        old, new = original.pieces[old_number], patched.pieces[new_number]
        if old.kind is Kind.FUNCTION and original.role(old) is not patched.role(new):
            before, after = original.section_of(old).name, patched.section_of(new).name
            cause = f"the function '{old.name}' moved from {before} to {after}"
            yield Verdict(rules.CHANGED_KIND, patched.place(new, new.base), cause)


def _folded_functions(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """No function shares its code with another in one object only."""
    correlation = comparison.correlation
    sides = (
        (comparison.original, comparison.patched, correlation.to_patched, "the patched object"),
        (comparison.patched, comparison.original, correlation.to_original, "the original"),
    )
    for anatomy, other, paired, where in sides:
        homes = _homes_by_name(other)
        for piece in anatomy.pieces:
            if piece.kind is Kind.FUNCTION and piece.number not in paired and piece.name in homes:
                shared = other.pieces[homes[piece.name]].name
                if shared == piece.name:
                    continue  # a static function of another file, of which this object has more or fewer
                cause = f"in {where}, '{piece.name}' is another name of '{shared}', and here it is not"
                yield Verdict(rules.FOLDED, anatomy.place(piece, piece.base), cause)


def _homes_by_name(anatomy: Anatomy) -> dict[str, int]:
    symbols = anatomy.object.symbols
    return {
        symbols[index].name: home
        for index, home in anatomy.homes.items()
        if symbols[index].type == elf.STT_FUNC and anatomy.pieces[home].kind is Kind.FUNCTION
    }


def _not_redirectable(comparison: Comparison, selection: Selection, origins: Origins) -> Iterator[Verdict]:
    """Each changed function has a place where ftrace hooks it, or callers that have."""
    original, patched = comparison.original, comparison.patched
    traced = is_traced(original) if selection.carried.obstacles else True
    for number, reasons in selection.reasons.items():
        piece = patched.pieces[number]
        old_number = comparison.correlation.to_original.get(number)
        if old_number is None or names.cold_parent(piece.name) is not None:
            continue
        old = original.pieces[old_number]
        section = original.section_of(old).name
        why = reasons[0].text if reasons else Status.CHANGED.value
        if NOINSTR.match(section):
            cause = f"'{old.name}' in {section} changed ({why})"
            yield Verdict(rules.NOINSTR, original.place(old, old.base), cause)
        elif number in selection.carried.obstacles:
            obstacle = selection.carried.obstacles[number]
            untraced = _why_untraced(original, old, origins, traced)
            cause = (
                f"'{old.name}' changed ({why}), and has no call for ftrace at its start "
                f"({untraced}); patching its callers is not enough: {obstacle}"
            )
            yield Verdict(rules.NO_FENTRY, original.place(old, old.base), cause)


def _why_untraced(original: Anatomy, piece: Piece, origins: Origins, traced: bool) -> str:
    """Why the compiler put no call for ftrace into a function, as far as the object tells."""
    if _SYSCALL.match(piece.name):
        return "it is a wrapper that SYSCALL_DEFINE() makes, which is inline or notrace"
    if not traced:
        return "no function of this file has one: the file is compiled without ftrace"
    if not piece.symbol or original.symbol_of(piece).type == elf.STT_NOTYPE:
        return "it is written in assembly"
    if origins.is_inline(piece.section, piece.base):
        return "it is inline in the source, which in a kernel means notrace, and is not inlined everywhere"
    return "it is notrace, or inline and not inlined everywhere"


def _lost_statics(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    original = comparison.original
    for number in comparison.correlation.lost:
        piece = original.pieces[number]
        cause = f"nothing in the patched object is the static variable '{piece.name}'"
        yield Verdict(rules.STATIC_LOCAL_LOST, original.place(piece, piece.base), cause)


def _ambiguous(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """What could not be told apart matters only where shipped code is or uses it."""
    patched = comparison.patched
    doubtful = set(comparison.correlation.ambiguous)
    used = {link.piece for _, link in _shipped_links(patched, selection)} | selection.included
    for number in sorted(doubtful & used):
        piece = patched.pieces[number]
        cause = f"there are several '{piece.name}', and it cannot be told which is which"
        yield Verdict(rules.AMBIGUOUS, patched.place(piece, piece.base), cause)


def _two_things(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """A name that shipped code refers to in the kernel means one thing there."""
    original, patched = comparison.original, comparison.patched
    if not selection.included:
        return
    count = Counter(p.name for p in original.pieces if p.kind in (Kind.FUNCTION, Kind.OBJECT))
    static = {p.name for p in original.pieces if p.name and p.symbol and original.is_local(p)}
    for piece, link in _shipped_links(patched, selection):
        place = patched.place(piece, link.offset)
        if link.piece == NOWHERE:
            symbol = patched.object.symbols[link.symbol]
            if symbol.section == SHN_UNDEF and symbol.name in static:
                cause = f"'{symbol.name}' is one of another file, and the original has a static one"
                yield Verdict(rules.AMBIGUOUS, place, cause)
        elif link.piece not in selection.included:
            old = comparison.correlation.to_original.get(link.piece)
            name = original.pieces[old].name if old is not None else ""
            if name and count[name] > 1:
                cause = f"the original has {count[name]} symbols '{name}': which is meant is not known"
                yield Verdict(rules.AMBIGUOUS, place, cause)


def _unresolved(comparison: Comparison, selection: Selection, options: Options) -> Iterator[Verdict]:
    """What shipped code needs from the kernel is there."""
    if options.known is None:
        return
    patched = comparison.patched
    before = {symbol.name for symbol in comparison.original.object.symbols}
    for piece, link in _shipped_links(patched, selection):
        symbol = patched.object.symbols[link.symbol]
        if link.piece != NOWHERE or symbol.section != SHN_UNDEF or not symbol.name:
            continue
        weak = symbol.bind == elf.STB_WEAK or patched.machine.supplied(symbol.name)
        exported = options.exports is not None and symbol.name in options.exports
        if not (weak or exported or symbol.name in options.known or symbol.name in before):
            cause = f"the kernel has no symbol '{symbol.name}'"
            yield Verdict(rules.UNRESOLVED, patched.place(piece, link.offset), cause)


def _symbols_without_place(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    patched = comparison.patched
    used = {link.symbol for _, link in _shipped_links(patched, selection)}
    known = {symbol.name for symbol in comparison.original.object.symbols if symbol.section in _COMMON}
    for symbol in patched.object.symbols:
        if symbol.section in _COMMON and (symbol.index in used or symbol.name not in known):
            yield Verdict(rules.COMMON, patched.object.path, f"'{symbol.name}' is a common symbol")
    for section in patched.object.sections:
        if section.flags & elf.SHF_TLS and section.size:
            yield Verdict(rules.TLS, patched.object.path, f"{section.name} is thread-local")


# --- what shipped pieces refer to -----------------------------------------------------------------------


def _shipped_links(patched: Anatomy, selection: Selection) -> Iterator[tuple[Piece, Link]]:
    for number in sorted(selection.included):
        piece = patched.pieces[number]
        for link in patched.links_of(piece):
            yield piece, link


def _bad_references(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """Everything that a shipped piece refers to can be reached from a module."""
    patched, machine = comparison.patched, comparison.patched.machine
    stack_types = machine.stack_types
    for piece, link in _shipped_links(patched, selection):
        place = patched.place(piece, link.offset)
        reason = machine.refusal(link.type)
        if link.type == machine.short_branch and not link.symbol:
            cause = f"'{piece.name}' branches to {describe(patched, link)} over a distance of one byte"
            yield Verdict(rules.SHORT_BRANCH, place, cause)
        elif link.type in stack_types:
            cause = f"'{piece.name}' has relocations of {stack_types[link.type]}"
            yield Verdict(rules.STACK_RELOCATIONS, patched.place(piece, piece.base), cause)
        elif reason is not None:
            yield Verdict(rules.UNSUPPORTED_RELOCATION, place, f"relocation type {reason}")
        if piece.section in patched.undecoded and machine.is_pc_relative(link.type):
            name = piece.name or "unnamed code"
            cause = f"'{name}' has instructions that cannot be decoded"
            yield Verdict(rules.UNDECODED, patched.place(piece, piece.start), cause)
        if link.piece == NOWHERE:
            symbol = patched.object.symbols[link.symbol]
            if symbol.section > 0 or symbol.type == elf.STT_FILE:
                yield Verdict(rules.UNNAMED_TARGET, place, f"refers to {link.name}, which is not loaded")
            elif symbol.section not in (SHN_UNDEF, SHN_ABS, *_COMMON) or (symbol.index and not symbol.name):
                yield Verdict(rules.UNNAMED_TARGET, place, f"refers to '{link.name}', which has no place")
            continue
        target = patched.pieces[link.piece]
        if target.number in selection.included or is_shipped(comparison, target):
            continue
        if target.kind is Kind.OBJECT and any(n in selection.included for n in patched.inside(target)):
            cause = (
                f"'{target.name}' has places inside of functions that change; the kernel's has the old ones"
            )
            yield Verdict(rules.CHANGED_DATA, place, cause)
        section, known = patched.section_of(target).name, comparison.correlation.to_original
        if target.kind is Kind.STRETCH and patched.role(target) in (Role.DATA, Role.BSS):
            yield Verdict(rules.UNNAMED_TARGET, place, f"refers to unnamed memory in {section}")
        elif target.number not in known or _is_first_use_of_init(comparison, piece, target):
            yield Verdict(_missing_rule(section), place, f"refers to {describe(patched, link)} in {section}")
        elif not target.name:
            yield Verdict(rules.UNNAMED_TARGET, place, f"refers to unnamed memory in {section}")


def _is_first_use_of_init(comparison: Comparison, piece: Piece, target: Piece) -> bool:
    """Code uses something of boot or unload time that it did not use before (`__ref` code does, at boot)."""
    original, known = comparison.original, comparison.correlation.to_original
    if comparison.patched.role(target) is not Role.INIT or piece.kind is Kind.ENTRY:
        return False
    old = known.get(piece.number)
    before = original.links_of(original.pieces[old]) if old is not None else ()
    return all(link.piece != known[target.number] for link in before)


def _missing_rule(section: str) -> Rule:
    if is_init(section):
        return rules.NEW_INIT_REFERENCE
    return rule_of(section)


# --- tables ---------------------------------------------------------------------------------------------


def _unknown_tables(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """No section of unknown purpose says anything about single instructions of a shipped function."""
    patched = comparison.patched
    for section in patched.object.sections:
        if patched.roles[section.index] is not Role.REGISTRY:
            continue
        for link in patched.links[section.index]:
            if link.piece in selection.included and link.at > 0:
                target = patched.pieces[link.piece]
                if target.kind is Kind.FUNCTION and target.base + link.at < target.end:
                    place = f"{patched.object.path}({section.name}+{link.offset:#x})"
                    cause = f"{section.name} describes the instruction at +{link.at:#x} of '{target.name}'"
                    known = BOOT_CONSTANT.match(section.name)
                    yield Verdict(rules.BOOT_CONSTANT if known else rules.UNKNOWN_TABLE, place, cause)


def _table_entries(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """A shipped table entry is about shipped code only."""
    patched = comparison.patched
    for number in sorted(selection.included):
        piece = patched.pieces[number]
        if piece.kind is not Kind.ENTRY:
            continue
        section = patched.section_of(piece).name
        table = patched.machine.table(section)
        if table is None or table.use is not Use.MEANING:
            continue
        for link in patched.links_of(piece):
            if link.piece == NOWHERE or link.piece in selection.included:
                continue
            target = patched.pieces[link.piece]
            if target.kind is Kind.FUNCTION and link.at:
                cause = f"the entry in {section} also reaches into '{target.name}'"
                yield Verdict(rules.BAD_TABLE_ENTRY, patched.place(piece, piece.start), cause)
