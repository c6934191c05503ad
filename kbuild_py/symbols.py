# SPDX-License-Identifier: GPL-2.0-or-later
"""The references: how patched code reaches what it does not bring along.

A patch object refers to functions and variables of the kernel by name.  Some are exported, and the module
loader finds them.  Most are not, many are static, and a static name may occur several times in the kernel.

KASLR moves the image as a whole, so within one image the distance between two symbols never changes.  A
reference to a symbol that is not exported therefore becomes an ordinary relocation against an exported
symbol (the *anchor*) plus that distance, and the module loader has bound it before it applies alternatives,
paravirt, jump labels and static calls.  Nothing has to be written later into code that those have changed.
Per-CPU symbols are offsets that KASLR does not move; they have an anchor of their own kind.  The distances
hold for one image only, which is why the core compares the build ID before anything else, and every symbol
that kallsyms lists once more by name and position.

The kernel's livepatch has a way of its own: symbols that are looked up by name and position while the module
is loaded (`LateSymbols`, module/late.py).  A module for it has anchors only for what kallsyms does not list.

Where an address comes from, in this order: a static symbol from the baseline proof (the address that the
shipped code of this very translation unit uses), a global one from the image's symbols.

A module is loaded wherever there is room, and may not be loaded yet when the patch is.  So what belongs to a
patched module, or to one that it uses, is reached late in either backend: its symbols are looked up when the
module is patched (module/dynrela.py, module/late.py), and never bind the patch module to it.

One more rule lives here.  Code may store the address of a function that the patch changes (a timer, a
work item, a table of operations).  Such a pointer must outlive the patch and compare equal to the ones
stored before, so it gets the address of the old function, which leads to the new one while the patch is
applied.  Direct calls go to the new function.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Protocol

from kbuild_py.elf.constants import SHF_EXECINSTR, STB_GLOBAL, STB_LOCAL, STB_WEAK, STT_NOTYPE
from kbuild_py.elf.object import SHN_UNDEF, ObjectFile, Relocation, Section, Symbol
from kbuild_py.elf.x86 import is_branch
from kbuild_py.errors import Problems, refuse
from kbuild_py.kernel.image import ImageSymbol

# x86-64 psABI, table 4.9: the relocations that hold an address or the distance to one.
R_X86_64_64, R_X86_64_PC32, R_X86_64_32, R_X86_64_32S = 1, 2, 10, 11
DATA_PREFIXES = (".data", ".rodata", ".bss")
# What patch.c (templates/patch-module.c.j2) calls things of its own.  It names changed functions and hooks by
# their symbols, and for one of these names the assembler would take its own thing.
OF_PATCH_C = re.compile(
    r"(code|spans|parts_of|funcs|references|dynrelas|object|no_object|kpatch_place)_\w+|objects|build_id|patch"
    r"|replace|patch_init|patch_exit|init_module|cleanup_module|notes_begin|notes_end|check_kernel"
)
VMLINUX = "vmlinux"
# How a livepatch module names a symbol that is not exported (Documentation/livepatch/module-elf-format.rst).
LATE_PREFIX = ".klp.sym."
# Until the module is linked: `.klp.sym.USER:OBJECT.NAME,POSITION` for a module's use of another one's symbol.
LATE_USER = ":"


class SymbolTable(Protocol):
    """What is asked of the image's symbols (`kernel/symbols.py`)."""

    def named(self, name: str) -> Sequence[ImageSymbol]: ...

    def sympos(self, name: str, address: int) -> int: ...

    @property
    def percpu_range(self) -> range: ...


@dataclass(frozen=True, slots=True)
class Export:
    """One line of Module.symvers."""

    name: str
    crc: int
    module: str  # "vmlinux" or the module's path
    namespace: str


@dataclass(frozen=True, slots=True)
class Home:
    """The module that a translation unit is part of.

    symbols:    those of the module, at the addresses of the proof, then those that it takes from elsewhere
    own:        the addresses that the module itself has there; vmlinux is below them
    init_range: those of them that are freed when it has started
    uses:       the modules that it depends on, which are loaded before it and stay as long as it does
    """

    name: str
    symbols: SymbolTable
    own: range
    init_range: tuple[int, int]
    uses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Unit:
    """The patch object of one translation unit.

    home:      None for vmlinux, and for the manifest's own sources
    source:    the file in the kernel tree, fs/proc/meminfo.c
    object:    included functions and data; everything else is undefined
    locals:    undefined names that are static in this translation unit
    addresses: name -> address in the image, from the baseline proof
    changed:   included functions that exist in the image, by the name they have in `object`
    hooks:     functions in `object` that the patch module calls
    linked:    undefined names that something else in the patch module defines
    """

    source: str
    object: ObjectFile
    locals: frozenset[str]
    addresses: Mapping[str, int]
    changed: tuple[str, ...]
    hooks: tuple[str, ...] = ()
    linked: frozenset[str] = frozenset()
    home: Home | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A kernel symbol reached through an anchor: address = anchor + distance.

    sympos is the symbol's position among those of its name, counted from 1; 0 where kallsyms does not list it
    (then only the build ID vouches for it).  object is vmlinux or the module that has the symbol; then the
    anchor is a late symbol.
    """

    name: str
    sympos: int
    address: int
    anchor: str
    distance: int
    object: str = "vmlinux"


@dataclass(frozen=True, slots=True)
class Resolved:
    """One unit, bound: its undefined symbols are exports or are defined by another unit.

    new_names: changed function or hook -> name under which `object` defines it globally
    """

    source: str
    object: ObjectFile
    new_names: Mapping[str, str]


def parse_symvers(text: str, path: str) -> dict[str, Export]:
    """The exports that a Module.symvers lists (format: kernel, Documentation/kbuild/modules.rst)."""
    exports = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split("\t")
        if len(fields) < 4:
            raise refuse(f"{path}:{number}", "is not a line of a Module.symvers file")
        namespace = fields[4] if len(fields) > 4 else ""
        exports[fields[1]] = Export(fields[1], int(fields[0], 16), fields[2], namespace)
    return exports


class Anchors:
    """Chooses the exported symbols that stand for the image: one for code and data, one for per-CPU."""

    def __init__(self, exports: Mapping[str, Export], symbols: SymbolTable, avoid: Set[str]) -> None:
        """avoid: names that the patch defines itself; the linker would bind an anchor to those."""
        self._symbols = symbols
        self._chosen: dict[bool, ImageSymbol] = {}
        for name in sorted(exports):
            export = exports[name]
            found = symbols.named(name)
            if export.module != "vmlinux" or export.namespace or name in avoid or len(found) != 1:
                continue
            percpu = found[0].address in symbols.percpu_range
            if percpu or found[0].type == "T":
                self._chosen.setdefault(percpu, found[0])
            if len(self._chosen) == 2:
                break

    def reach(self, name: str, address: int) -> Reference:
        """The way to `address`, which the image calls `name`."""
        anchor = self._chosen.get(address in self._symbols.percpu_range)
        if anchor is None:
            raise refuse(name, "the kernel exports no symbol of its kind that it could be reached from")
        try:
            sympos = self._symbols.sympos(name, address)
        except LookupError:
            sympos = 0
        return Reference(name, sympos, address, anchor.name, address - anchor.address)


class LateSymbols(Anchors):
    """Reaches what kallsyms lists through symbols that the kernel's livepatch resolves."""

    def reach(self, name: str, address: int) -> Reference:
        """The way to `address`, which the image calls `name`."""
        try:
            sympos = self._symbols.sympos(name, address)
        except LookupError:
            return super().reach(name, address)
        return late_reference("vmlinux", name, sympos, address)


def late_reference(owner: str, name: str, sympos: int, address: int = 0, user: str = "") -> Reference:
    """A symbol of `owner`, vmlinux or a module, that is looked up when that is patched; or when `user` is."""
    when = f"{user}{LATE_USER}" if user else ""
    return Reference(name, sympos, address, f"{LATE_PREFIX}{when}{owner}.{name},{sympos}", 0, owner)


def resolve(
    units: Sequence[Unit],
    exports: Mapping[str, Export],
    symbols: SymbolTable,
    init_range: tuple[int, int] = (0, 0),
    *,
    late: bool = False,
) -> tuple[tuple[Resolved, ...], tuple[Reference, ...]]:
    """Bind every undefined symbol of all units, and give changed functions names that can be linked.

    init_range: addresses of the image that are freed after boot
    late:       the module is for the kernel's livepatch, which looks symbols up
    Raises `UserError` with all symbols that cannot be reached.
    """
    problems = Problems()
    units = [replace(unit, object=without_unused(unit.object)) for unit in units]
    changed = {name for unit in units for name in unit.changed}
    defined = {
        symbol.name
        for unit in units
        for symbol in unit.object.symbols
        if symbol.section != SHN_UNDEF and symbol.bind != STB_LOCAL
    }
    _refuse_taken(units, changed, problems)
    anchors = (LateSymbols if late else Anchors)(exports, symbols, avoid=defined | changed)
    references: dict[tuple[str, str, int], Reference] = {}
    bound = []
    for unit in units:
        reached: dict[int, Reference] = {}
        for symbol in unit.object.symbols[1:]:
            if symbol.section != SHN_UNDEF or not symbol.name or symbol.name in unit.linked:
                continue
            local = symbol.name in unit.locals
            if not local and symbol.name in defined - changed:
                continue
            other = None if local else _export_of_module(symbol.name, unit, exports, problems)
            if other is not None:
                reached[symbol.index] = other
                continue
            # Another unit's changed function is reached through the old one, as everybody else does.
            own = unit.home is not None and _defines(unit.home, symbol.name)
            by_name = {} if local or own or symbol.name in changed else exports
            address = _address(symbol, local, unit, by_name, symbols, problems)
            if address is None:
                continue
            freed = (init_range, *((unit.home.init_range,) if unit.home else ()))
            if any(first <= address < last for first, last in freed):
                problems.add(
                    unit.source,
                    f"patched code refers to '{symbol.name}', which the kernel frees after boot (__init)",
                    "remove the reference: what it names is gone when the patch is loaded",
                )
                continue
            reached[symbol.index] = _reach(symbol.name, address, unit.home, anchors)
        old_entries = {
            symbol.index: _reach(symbol.name, unit.addresses[symbol.name], unit.home, anchors)
            for symbol in unit.object.symbols
            if symbol.section != SHN_UNDEF and symbol.name in unit.changed and symbol.name in unit.addresses
        }
        obj, used = _bind(unit.object, reached, old_entries)
        bound.append(obj)
        references.update(((item.object, item.name, item.address), item) for item in used)
    problems.raise_if_any()
    published = _publish(units, bound)
    ordered = sorted(references.values(), key=lambda item: (item.object, item.name, item.address))
    return published, tuple(ordered)


def _refuse_taken(units: Sequence[Unit], changed: Set[str], problems: Problems) -> None:
    """A global that the patch adds is seen by all its units: it must not be another module's own."""
    homes = {unit.home.name: unit.home for unit in units if unit.home}
    for unit in units:
        mine = unit.home.name if unit.home else VMLINUX
        for symbol in unit.object.symbols:
            if symbol.section == SHN_UNDEF or symbol.bind == STB_LOCAL or symbol.name in changed:
                continue
            for name, home in homes.items():
                if name != mine and _defines(home, symbol.name):
                    cause = f"defines {symbol.name!r}, and the module {name} has a global symbol of that name"
                    problems.add(unit.source, cause, "make it static, or give it another name")


def _defines(home: Home, name: str) -> bool:
    """Whether the module itself has a global symbol of that name, which it means before anybody's export."""
    return any(one.type.isupper() and one.address in home.own for one in home.symbols.named(name))


def _export_of_module(
    name: str, unit: Unit, exports: Mapping[str, Export], problems: Problems
) -> Reference | None:
    """The way from a module's patched code to what another module exports, which the first one uses."""
    export, home = exports.get(name), unit.home
    if home is None or export is None or export.module == "vmlinux":
        return None
    owner = export.module.rpartition("/")[2].replace("-", "_")
    if owner == home.name:
        return None
    if owner not in home.uses:
        problems.add(
            unit.source,
            f"patched code refers to '{name}' of the module {owner}, which {home.name} does not depend on: "
            f"it need not be loaded when {home.name} is",
            f"use what vmlinux, {home.name} and the modules that it depends on have",
        )
    return late_reference(owner, name, 0, user=home.name)


def _reach(name: str, address: int, home: Home | None, anchors: Anchors) -> Reference:
    """The way to an address: late when it is in the module that the code belongs to."""
    if home is None or address < home.own.start:
        return anchors.reach(name, address)
    if address not in home.own:
        raise refuse(name, f"is neither of vmlinux nor of {home.name}, and no module exports it")
    try:
        return late_reference(home.name, name, home.symbols.sympos(name, address), address)
    except LookupError as error:
        raise refuse(name, f"the module {home.name} has it without a symbol of its name") from error


def _address(
    symbol: Symbol,
    local: bool,
    unit: Unit,
    exports: Mapping[str, Export],
    symbols: SymbolTable,
    problems: Problems,
) -> int | None:
    """Where an undefined symbol is in the image; None when it stays as it is or a problem was added."""
    name, home = symbol.name, unit.home
    if not local:
        export = exports.get(name)
        if export is not None and not export.namespace and (home is None or export.module == "vmlinux"):
            return None
        for table in (home.symbols, symbols) if home else (symbols,):
            globals_ = [found for found in table.named(name) if found.type.isupper()]
            if len(globals_) == 1:
                return globals_[0].address
    if name in unit.addresses:
        return unit.addresses[name]
    found = (home.symbols if home else symbols).named(name)
    if len(found) == 1:
        return found[0].address
    if not found and symbol.bind == STB_WEAK:
        return None
    if not found:
        cause = f"patched code refers to '{name}', which the kernel image does not have"
        problems.add(
            unit.source,
            cause,
            "if another file of the patch is to define it, that file must be part of the patch; if it is "
            "removed or inlined everywhere in this kernel, add a copy of it to the patched file",
        )
    else:
        problems.add(
            unit.source,
            f"patched code refers to '{name}', which names {len(found)} symbols of the kernel image, and no "
            "code of this file shows which one it means",
            "use a symbol with a unique name, or one that the unpatched file already uses",
        )
    return None


def _is_entry_pointer(section: Section, relocation: Relocation, offset: int) -> bool:
    """Whether a relocation stores or loads a function's address, and does not call it.

    offset: of the target within the function, as relocation addend and symbol give it.
    Calls and jumps have R_X86_64_PLT32 or, to static functions, R_X86_64_PC32, as `lea` has.
    """
    if not (section.flags & SHF_EXECINSTR or section.name.startswith(DATA_PREFIXES)):
        return False
    if relocation.type in (R_X86_64_64, R_X86_64_32, R_X86_64_32S):
        return offset == 0
    if relocation.type != R_X86_64_PC32 or offset != -4 or not section.flags & SHF_EXECINSTR:
        return False
    return not is_branch(section.data, relocation.offset)


def _bind(
    obj: ObjectFile, reached: Mapping[int, Reference], old_entries: Mapping[int, Reference]
) -> tuple[ObjectFile, list[Reference]]:
    """The object with references moved to anchors, and the references that relocations really use."""
    symbols = list(obj.symbols)
    anchor_index: dict[str, int] = {
        symbol.name: symbol.index for symbol in symbols if symbol.section == SHN_UNDEF and symbol.index
    }
    entries = {(symbols[index].section, symbols[index].value): item for index, item in old_entries.items()}
    used: dict[Reference, None] = {}

    def through(reference: Reference, relocation: Relocation, addend: int) -> Relocation:
        used[reference] = None
        index = anchor_index.get(reference.anchor)
        # A static symbol of the anchor's name would be undefined under that name, too.
        if index is None or index in reached:
            index = len(symbols)
            anchor_index[reference.anchor] = index
            # Weak: modpost must not miss a late symbol, which it has not heard of.
            bind = STB_WEAK if reference.anchor.startswith(LATE_PREFIX) else STB_GLOBAL
            symbols.append(Symbol(index, reference.anchor, 0, 0, STT_NOTYPE, bind, 0, SHN_UNDEF))
        return replace(relocation, symbol=index, addend=addend + reference.distance)

    sections = []
    for section in obj.sections:
        relocations = []
        for relocation in section.relocations:
            target = obj.symbols[relocation.symbol]
            reference = reached.get(relocation.symbol)
            if reference is not None:
                relocation = through(reference, relocation, relocation.addend)
            else:
                for base in (0, -4) if target.section != SHN_UNDEF else ():
                    entry = entries.get((target.section, target.value + relocation.addend - base))
                    if entry is not None and _is_entry_pointer(section, relocation, base):
                        relocation = through(entry, relocation, base)
                        break
            relocations.append(relocation)
        sections.append(replace(section, relocations=tuple(relocations)))
    return without_unused(replace(obj, sections=tuple(sections), symbols=tuple(symbols))), list(used)


def without_unused(obj: ObjectFile) -> ObjectFile:
    """The object without undefined symbols that no relocation names."""
    needed = {relocation.symbol for section in obj.sections for relocation in section.relocations}
    kept = [
        symbol
        for symbol in obj.symbols
        if symbol.index == 0 or symbol.section != SHN_UNDEF or symbol.index in needed
    ]
    renumber = {symbol.index: index for index, symbol in enumerate(kept)}
    sections = tuple(
        replace(
            section,
            relocations=tuple(replace(item, symbol=renumber[item.symbol]) for item in section.relocations),
        )
        for section in obj.sections
    )
    symbols = tuple(replace(symbol, index=index) for index, symbol in enumerate(kept))
    return replace(obj, sections=sections, symbols=symbols)


def _publish(units: Sequence[Unit], bound: Sequence[ObjectFile]) -> tuple[Resolved, ...]:
    """Make changed functions and hooks global, so that the patch module can name them.

    A name that another unit or patch.c defines or refers to gets the file's name as suffix; but for a hook
    that is global already, which another unit may well call.
    """
    results = []
    for position, (unit, obj) in enumerate(zip(units, bound, strict=True)):
        others = {
            symbol.name
            for index, other in enumerate(bound)
            for symbol in other.symbols
            if index != position
            and (symbol.bind != STB_LOCAL or symbol.name in (*units[index].changed, *units[index].hooks))
        }
        undefined = {symbol.name for symbol in obj.symbols if symbol.section == SHN_UNDEF}
        new_names = {}
        symbols = list(obj.symbols)
        for symbol in obj.symbols:
            if symbol.section == SHN_UNDEF or symbol.name not in (*unit.changed, *unit.hooks):
                continue
            name = symbol.name
            shared = symbol.bind != STB_LOCAL and name not in unit.changed
            if (name in undefined or name in others or OF_PATCH_C.fullmatch(name)) and not shared:
                name = f"{name}.{_identifier(unit.source)}"
            new_names[symbol.name] = name
            symbols[symbol.index] = replace(symbol, name=name, bind=STB_GLOBAL, visibility=0)
        results.append(Resolved(unit.source, replace(obj, symbols=tuple(symbols)), new_names))
    return tuple(results)


def _identifier(source: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in source)
