# SPDX-License-Identifier: GPL-2.0-or-later
"""Which function of the source an instruction comes from, and where things are declared: `.debug_info`.

The section is a tree of entries (compilation unit, function, inlined call, variable, type, ...).  Only four
kinds of entries are looked at, and most of the others can be skipped without reading them, for their forms
have a fixed size.  The tree's shape is not needed: inlined calls come after the call that they are in.

clang (and any producer of DWARF 5 that wants to) puts strings, addresses and ranges into tables of their own
and writes numbers instead; where these tables begin stands in the unit's first entry.

Sources: DWARF 4 and DWARF 5, sections 2 (attributes, ranges), 3 (entries) and 7 (encodings).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kbuild_py.elf.debug import Address, Damaged, DebugSection, debug_section
from kbuild_py.elf.lines import Lines
from kbuild_py.elf.object import ObjectFile

_UNIT, _FUNCTION, _INLINED, _VARIABLE = 0x11, 0x2E, 0x1D, 0x34  # DW_TAG_*
_WANTED = frozenset({_UNIT, _FUNCTION, _INLINED, _VARIABLE})
_LOCATION, _NAME, _STMT_LIST, _LOW, _HIGH, _INLINE = 0x02, 0x03, 0x10, 0x11, 0x12, 0x20  # DW_AT_*
_ORIGIN, _DECL_FILE, _DECL_LINE, _SPECIFICATION, _RANGES = 0x31, 0x3A, 0x3B, 0x47, 0x55
_STR_BASE, _ADDR_BASE, _RNGLISTS_BASE = 0x72, 0x73, 0x74
_OP_ADDR, _OP_ADDRX = 0x03, 0xA1
_STRX, _ADDRX, _RNGLISTX = "strx", "addrx", "rnglistx"
_MAX_RANGES = 10_000

# DW_FORM_* with a fixed size; 0 stands for the size of an offset, -1 for that of an address.
_SIZES = {
    0x01: -1, 0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x0C: 1, 0x0E: 0, 0x10: 0, 0x11: 1, 0x12: 2, 0x13: 4,
    0x14: 8, 0x17: 0, 0x1C: 4, 0x1D: 0, 0x1E: 16, 0x1F: 0, 0x20: 8, 0x24: 8, 0x25: 1, 0x26: 2, 0x27: 3,
    0x28: 4, 0x29: 1, 0x2A: 2, 0x2B: 3, 0x2C: 4,
}  # fmt: skip
_FLAG_PRESENT, _IMPLICIT_CONST = 0x19, 0x21
_BLOCKS = {0x0A: 1, 0x03: 2, 0x04: 4}  # block1, block2, block4: the length has so many bytes
_ULEB_BLOCKS = frozenset({0x09, 0x18})  # block, exprloc
_ULEBS = frozenset({0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23})  # udata, ref_udata, strx, addrx, loclistx, rnglistx
_STRX_FORMS = frozenset({0x1A, 0x25, 0x26, 0x27, 0x28})
_ADDRX_FORMS = frozenset({0x1B, 0x29, 0x2A, 0x2B, 0x2C})
_REFERENCES = frozenset({0x11, 0x12, 0x13, 0x14, 0x15})  # within the unit

Value = int | str | bytes | Address | tuple[str, int] | None


@dataclass(slots=True)
class _Function:
    """A function entry: its name or the entry that has it, and whether the source says `inline`."""

    name: str
    origin: int
    inline: bool


@dataclass(frozen=True, slots=True)
class Scopes:
    """units:     the source files that were compiled
    variables: section and offset of a variable -> file and line of its declaration
    inlined:   section -> (start, end, name) of calls that were inlined, outer ones first
    inline:    starts of functions that the source calls inline and that have code of their own
    """

    units: Sequence[str] = ()
    variables: Mapping[Address, tuple[str, int]] = field(default_factory=dict)
    inlined: Mapping[int, Sequence[tuple[int, int, str]]] = field(default_factory=dict)
    inline: frozenset[Address] = frozenset()

    def chain(self, section: int, offset: int) -> tuple[str, ...]:
        """The functions whose inlined code is at `offset`, outermost first."""
        return tuple(name for low, high, name in self.inlined.get(section, ()) if low <= offset < high)


def read_scopes(obj: ObjectFile, lines: Lines) -> Scopes:
    """The scopes of an object; `lines` names the files.  What is damaged is left out."""
    info, abbreviations = debug_section(obj, "info"), debug_section(obj, "abbrev")
    if info is None or abbreviations is None:
        return Scopes()
    reader = _Reader(obj, info, abbreviations, lines)
    try:
        reader.run()
    except (Damaged, RecursionError):
        pass
    return reader.scopes()


Abbreviation = tuple[
    int, int, list[tuple[int, int, int]]
]  # tag, fixed size or -1, (attribute, form, constant)


class _Reader:
    """Reads all units of a section."""

    def __init__(
        self, obj: ObjectFile, info: DebugSection, abbreviations: DebugSection, lines: Lines
    ) -> None:
        self.info, self.abbreviations, self.lines = info, abbreviations, lines
        self.strings = {
            0x0E: debug_section(obj, "str"),
            0x1F: debug_section(obj, "line_str"),
        }
        self.str_offsets, self.addr = debug_section(obj, "str_offsets"), debug_section(obj, "addr")
        self.ranges, self.rnglists = debug_section(obj, "ranges"), debug_section(obj, "rnglists")
        self.units: list[str] = []
        self.variables: dict[Address, tuple[str, int]] = {}
        self.functions: dict[int, _Function] = {}
        self.calls: list[tuple[int, int, int, int]] = []  # section, start, end, origin
        self.starts: list[tuple[Address, int]] = []
        # Of the current unit:
        self.start, self.version, self.wide, self.address_size = 0, 0, 4, 8
        self.unit: dict[int, Value] = {}
        self.tables: dict[int, dict[int, Abbreviation]] = {}

    def scopes(self) -> Scopes:
        inlined: dict[int, list[tuple[int, int, str]]] = {}
        for section, low, high, origin in self.calls:
            name = self._name(origin)
            if name:
                inlined.setdefault(section, []).append((low, high, name))
        inline = frozenset(address for address, entry in self.starts if self._is_inline(entry))
        return Scopes(tuple(self.units), self.variables, inlined, inline)

    def _name(self, entry: int) -> str:
        for _ in range(8):
            function = self.functions.get(entry)
            if function is None or function.name:
                return function.name if function is not None else ""
            entry = function.origin
        return ""

    def _is_inline(self, entry: int) -> bool:
        for _ in range(8):
            function = self.functions.get(entry)
            if function is None or function.inline:
                return function is not None
            entry = function.origin
        return False

    # --- units ----------------------------------------------------------------------------------------

    def run(self) -> None:
        offset = 0
        while offset < len(self.info.data):
            offset = self._unit(offset)

    def _unit(self, start: int) -> int:
        info = self.info
        length, offset, self.wide = info.plain(start, 4), start + 4, 4
        if length == 0xFFFFFFFF:
            length, offset, self.wide = info.plain(offset, 8), offset + 8, 8
        end = offset + length
        self.start, self.version, self.unit = start, info.plain(offset, 2), {}
        if not 2 <= self.version <= 5 or end > len(info.data):
            raise Damaged
        offset += 2
        if self.version >= 5:
            kind, self.address_size = info.plain(offset, 1), info.plain(offset + 1, 1)
            table = info.number(offset + 2, self.wide)
            offset += 2 + self.wide
            if kind not in (1, 3):  # a unit of types, or one whose content is in another file
                return end
        else:
            table = info.number(offset, self.wide)
            self.address_size = info.plain(offset + self.wide, 1)
            offset += self.wide + 1
        if table not in self.tables:
            self.tables[table] = self._abbreviations(table)
        self._entries(offset, end, self.tables[table])
        return end

    def _abbreviations(self, offset: int) -> dict[int, Abbreviation]:
        found: dict[int, Abbreviation] = {}
        source = self.abbreviations
        while True:
            code, offset = source.uleb(offset)
            if not code:
                return found
            tag, offset = source.uleb(offset)
            offset += 1
            attributes: list[tuple[int, int, int]] = []
            fixed = 0
            while True:
                attribute, offset = source.uleb(offset)
                form, offset = source.uleb(offset)
                constant = 0
                if form == _IMPLICIT_CONST:
                    constant, offset = source.sleb(offset)
                if not attribute and not form:
                    break
                attributes.append((attribute, form, constant))
                size = 0 if form in (_FLAG_PRESENT, _IMPLICIT_CONST) else self._size(form)
                fixed = -1 if size < 0 or fixed < 0 else fixed + size
            found[code] = (tag, fixed, attributes)

    def _size(self, form: int) -> int:
        size = _SIZES.get(form, -2)
        if form == 0x10 and self.version == 2:
            return self.address_size
        return {0: self.wide, -1: self.address_size}.get(size, size)

    def _entries(self, offset: int, end: int, table: Mapping[int, Abbreviation]) -> None:
        data, uleb = self.info.data, self.info.uleb
        while offset < end:
            at, code = offset, data[offset]
            if code < 0x80:
                offset += 1
            else:
                code, offset = uleb(offset)
            if not code:
                continue
            entry = table.get(code)
            if entry is None:
                raise Damaged
            tag, fixed, attributes = entry
            if tag not in _WANTED and fixed >= 0:
                offset += fixed
                continue
            found: dict[int, Value] = {}
            for attribute, form, constant in attributes:
                found[attribute], offset = self._value(form, offset, constant)
            if tag in _WANTED:
                self._take(tag, at, found)

    def _value(self, form: int, offset: int, constant: int) -> tuple[Value, int]:
        info = self.info
        if form == _FLAG_PRESENT:
            return 1, offset
        if form == _IMPLICIT_CONST:
            return constant, offset
        if form == 0x08:  # string
            text = info.text(offset)
            return text, info.data.index(0, offset) + 1
        if form in _ULEB_BLOCKS or form in _BLOCKS:
            if form in _BLOCKS:
                size, offset = info.plain(offset, _BLOCKS[form]), offset + _BLOCKS[form]
            else:
                size, offset = info.uleb(offset)
            # Where an address stands in the block is what its relocation says.
            target = info.targets.get(offset + 1)
            if target is not None and size and info.data[offset : offset + 1] == bytes([_OP_ADDR]):
                return target, offset + size
            return info.data[offset : offset + size], offset + size
        if form == 0x0D:  # sdata
            return info.sleb(offset)
        if form == 0x16:  # indirect
            form, offset = info.uleb(offset)
            return self._value(form, offset, 0)
        if form in _ULEBS:
            number, end = info.uleb(offset)
        else:
            size = self._size(form)
            if size < 0:
                raise Damaged
            if form == 0x01:
                return info.targets.get(offset), offset + size
            if size > 8:
                return None, offset + size
            number, end = info.number(offset, size), offset + size
        if form in self.strings:
            strings = self.strings[form]
            return (strings.text(number) if strings is not None else ""), end
        if form in _STRX_FORMS:
            return (_STRX, number), end
        if form in _ADDRX_FORMS:
            return (_ADDRX, number), end
        if form == 0x23:
            return (_RNGLISTX, number), end
        return (self.start + number if form in _REFERENCES else number), end

    # --- entries --------------------------------------------------------------------------------------

    def _take(self, tag: int, at: int, found: dict[int, Value]) -> None:
        if tag == _UNIT:
            self.unit = found
            self.units.append(self._text(found.get(_NAME)))
        elif tag == _VARIABLE:
            self._variable(found)
        elif tag == _FUNCTION:
            origin = found.get(_ORIGIN, found.get(_SPECIFICATION))
            inline = found.get(_INLINE) in (2, 3)
            self.functions[at] = _Function(
                self._text(found.get(_NAME)), origin if isinstance(origin, int) else -1, inline
            )
            start = self._address(found.get(_LOW))
            if start is not None:
                self.starts.append((start, at))
        else:
            origin = found.get(_ORIGIN)
            for section, low, high in self._extent(found):
                self.calls.append((section, low, high, origin if isinstance(origin, int) else -1))

    def _variable(self, found: dict[int, Value]) -> None:
        location, line = found.get(_LOCATION), found.get(_DECL_LINE)
        if isinstance(location, bytes) and location[:1] == bytes([_OP_ADDRX]):
            number = DebugSection(location, {}, self.info.order).uleb(1)[0]
            location = self._address((_ADDRX, number))
        if isinstance(location, tuple) and isinstance(location[0], int) and isinstance(line, int):
            address = (location[0], location[1])
            unit, file = self.unit.get(_STMT_LIST, 0), found.get(_DECL_FILE)
            files = self.lines.files.get(unit if isinstance(unit, int) else 0, ())
            if isinstance(file, int) and 0 <= file < len(files):
                self.variables.setdefault(address, (files[file], line))

    def _text(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, tuple) and value[0] == _STRX and self.str_offsets is not None:
            place = self._base(_STR_BASE, 8) + self.wide * value[1]
            strings = self.strings[0x0E]
            if strings is not None:
                return strings.text(self.str_offsets.number(place, self.wide))
        return ""

    def _base(self, attribute: int, default: int) -> int:
        """Where the unit's part of a table begins; behind the table's header when it does not say."""
        base = self.unit.get(attribute)
        return base if isinstance(base, int) else default

    def _address(self, value: Value) -> Address | None:
        if isinstance(value, tuple) and isinstance(value[0], int):
            return value[0], value[1]
        if isinstance(value, tuple) and value[0] == _ADDRX and self.addr is not None:
            base = self.unit.get(_ADDR_BASE, 8)
            return self.addr.targets.get(
                (base if isinstance(base, int) else 8) + self.address_size * value[1]
            )
        return None

    # --- ranges ---------------------------------------------------------------------------------------

    def _extent(self, found: dict[int, Value]) -> Iterator[tuple[int, int, int]]:
        """(section, start, end) of the code of an entry."""
        start, high = self._address(found.get(_LOW)), found.get(_HIGH)
        if start is not None and high is not None:
            end = self._address(high)
            if isinstance(high, int):
                yield start[0], start[1], start[1] + high
            elif end is not None:
                yield start[0], start[1], end[1]
            return
        ranges = found.get(_RANGES)
        if isinstance(ranges, tuple) and ranges[0] == _RNGLISTX and self.rnglists is not None:
            base = self._base(_RNGLISTS_BASE, 12)
            yield from self._list(base + self.rnglists.plain(base + self.wide * ranges[1], self.wide))
        elif isinstance(ranges, int):
            yield from self._list(ranges) if self.version >= 5 else self._old_list(ranges)

    def _old_list(self, offset: int) -> Iterator[tuple[int, int, int]]:
        """Before version 5: pairs of addresses, or of offsets from a base, until one of zeros."""
        table, base = self.ranges, self._address(self.unit.get(_LOW))
        size = self.address_size
        for _ in range(_MAX_RANGES if table is not None else 0):
            assert table is not None
            low, high = table.targets.get(offset), table.targets.get(offset + size)
            first, second = table.plain(offset, size), table.plain(offset + size, size)
            offset += 2 * size
            if low is not None and high is not None:
                yield low[0], low[1], high[1]
            elif high is not None and first == (1 << (8 * size)) - 1:
                base = high
            elif not first and not second:
                return
            elif base is not None:
                yield base[0], base[1] + first, base[1] + second

    def _list(self, offset: int) -> Iterator[tuple[int, int, int]]:
        table, base = self.rnglists, self._address(self.unit.get(_LOW))
        size = self.address_size
        for _ in range(_MAX_RANGES if table is not None else 0):
            assert table is not None
            kind, offset = table.plain(offset, 1), offset + 1
            if kind == 0:  # the end
                return
            if kind in (1, 2, 3):  # base address, start and end, start and length: by number
                number, offset = table.uleb(offset)
                start = self._address((_ADDRX, number))
                if kind == 1:
                    base = start
                    continue
                number, offset = table.uleb(offset)
                end = self._address((_ADDRX, number)) if kind == 2 else None
                length = number if kind == 3 else (end[1] - start[1] if start and end else 0)
            elif kind == 4:  # two offsets from the base
                low, offset = table.uleb(offset)
                high, offset = table.uleb(offset)
                start, length = ((base[0], base[1] + low) if base is not None else None), high - low
            elif kind in (5, 6, 7):  # base address, start and end, start and length
                start, offset = table.targets.get(offset), offset + size
                if kind == 5:
                    base = start
                    continue
                if kind == 6:
                    end, offset = table.targets.get(offset), offset + size
                    length = end[1] - start[1] if start and end else 0
                else:
                    length, offset = table.uleb(offset)
            else:
                raise Damaged
            if start is not None:
                yield start[0], start[1], start[1] + length
