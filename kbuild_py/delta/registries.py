# SPDX-License-Identifier: GPL-2.0-or-later
"""What an object announces to the kernel, and that a patch leaves it as it is.

Exports, module parameters, initcalls, trace points: a section of each kind is walked through when a kernel
is built, booted, or when a module is loaded.  A patch comes too late for that.  Exports have had many forms:
an entry in `___ksymtab+f` with two addresses (4.x) or three distances (5.4 and later, with a namespace), its
CRC in `___kcrctab+f`, as an absolute symbol `__crc_f` or as a word that the symbol names; `.export_symbol`
since 6.4, which holds license, namespace and address until the final link.  They need no code of their own
here: each is a piece of a registry, and what differs is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kbuild_py.delta import modinfo, names, rules
from kbuild_py.delta.anatomy import Anatomy, Kind, Piece, Place
from kbuild_py.delta.compare import Comparison
from kbuild_py.delta.model import Verdict
from kbuild_py.delta.rules import Rule
from kbuild_py.delta.sections import Role
from kbuild_py.delta.select import Selection

CRC = "__crc_"
_EXPORT_SECTIONS = ("__ksymtab", "___ksymtab", "__kcrctab", "___kcrctab", ".export_symbol", "__kflagstab")
_EXPORT_SYMBOLS = ("__export_symbol_", "__ksymtab_", "__kcrctab_", "__kstrtab_", "__kstrtabns_", "__flags_")
_MODULE_INFO_SECTIONS = (".modinfo", "__param", "__modver", ".gnu.linkonce.this_module", "__versions")


def rule_of(section: str) -> Rule:
    """The rule that refuses a change in a registry."""
    if section.startswith(_EXPORT_SECTIONS):
        return rules.CHANGED_EXPORT
    if section.startswith(_MODULE_INFO_SECTIONS):
        return rules.CHANGED_MODULE_INFO
    return rules.CHANGED_REGISTRY


def changed_registries(comparison: Comparison, selection: Selection) -> Iterator[Verdict]:
    """What is read at build, boot or load time must be the same in both."""
    original, patched, correlation = comparison.original, comparison.patched, comparison.correlation
    for piece in _pieces(patched):
        old, what = correlation.to_original.get(piece.number), _what(patched, piece)
        rule, place = rule_of(patched.section_of(piece).name), patched.place(piece, piece.start)
        if old is None:
            if not names.per_copy(piece.name or "."):
                yield Verdict(rule, place, f"{what} is new")
        elif not comparison.equal(original.pieces[old], piece):
            yield Verdict(rule, place, f"{what} changed")
    for piece in _pieces(original):
        if piece.number not in correlation.to_patched and not names.per_copy(piece.name or "."):
            rule, place = rule_of(original.section_of(piece).name), original.place(piece, piece.start)
            yield Verdict(rule, place, f"{_what(original, piece)} is gone")
    yield from _module_info(original, patched)
    yield from _crcs(original, patched)


def _pieces(anatomy: Anatomy) -> Iterator[Piece]:
    for piece in anatomy.pieces:
        registry = anatomy.role(piece) is Role.REGISTRY and piece.kind in (Kind.OBJECT, Kind.STRETCH)
        if registry and anatomy.section_of(piece).name != modinfo.SECTION:
            yield piece


def _what(anatomy: Anatomy, piece: Piece) -> str:
    section = anatomy.section_of(piece).name
    if rule_of(section) is rules.CHANGED_EXPORT:
        name = piece.name or section.partition("+")[2]
        for prefix in _EXPORT_SYMBOLS:
            name = name.removeprefix(prefix)
        return f"the export of '{name}' in {section}" if name else f"an export in {section}"
    return f"'{piece.name}' in {section}" if piece.name else f"an entry in {section}"


def _module_info(original: Anatomy, patched: Anatomy) -> Iterator[Verdict]:
    """The strings of .modinfo by content; imports of namespaces are made anew (modinfo.py)."""
    before = Counter(_keyed(original))
    after = Counter(_keyed(patched))
    sides = ((patched, after - before, "is new"), (original, before - after, "is gone"))
    for anatomy, extra, word in sides:
        for info in modinfo.strings(anatomy.object):
            key = (info.owner, info.key, info.value)
            if extra.get(key):
                place = Place(anatomy.object, info.section, info.offset, anatomy.object.path)
                value = f"{info.key}={info.value}" if info.value else info.key
                yield Verdict(rules.CHANGED_MODULE_INFO, place, f"'{value[:80]}' in .modinfo {word}")


def _keyed(anatomy: Anatomy) -> Iterator[tuple[str, str, str]]:
    for info in modinfo.strings(anatomy.object):
        if info.key != "import_ns":
            yield info.owner, info.key, info.value


def _crcs(original: Anatomy, patched: Anatomy) -> Iterator[Verdict]:
    """Versions of exports (CONFIG_MODVERSIONS) that are values of symbols; others are registries or data."""
    before = {s.name: s.value for s in original.object.symbols if s.name.startswith(CRC) and s.section < 0}
    for symbol in patched.object.symbols:
        if symbol.section < 0 and before.get(symbol.name, symbol.value) != symbol.value:
            yield Verdict(rules.CHANGED_EXPORT, patched.object.path, crc_cause(symbol.name))


def crc_cause(symbol: str) -> str:
    """What a changed `__crc_f` says."""
    name = symbol.removeprefix(CRC)
    return f"the version (CRC) of the export '{name}' changed: a type that it uses is different"
