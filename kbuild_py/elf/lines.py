# SPDX-License-Identifier: GPL-2.0-or-later
"""Which line of the source an instruction comes from: `.debug_line` of an object that is not linked yet.

The section holds one program per compilation unit, for a small machine that writes table rows (address, file,
line).  With -ffunction-sections every function is a sequence of its own, which begins by setting the address:
a relocation, which says what section the rows are about.

Sources: DWARF 4 and DWARF 5, section 6.2 (line number information).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kbuild_py.elf.debug import Damaged, DebugSection, debug_section
from kbuild_py.elf.object import ObjectFile

# Standard opcodes.
_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _SET_COLUMN = 1, 2, 3, 4, 5
_NEGATE, _BASIC_BLOCK, _CONST_ADD_PC, _FIXED_ADVANCE_PC = 6, 7, 8, 9
_END_SEQUENCE, _SET_ADDRESS, _DEFINE_FILE = 1, 2, 3  # extended opcodes
_PATH, _DIRECTORY_INDEX = 1, 2  # DW_LNCT_*
_FORM_STRING, _FORM_LINE_STRP, _FORM_STRP = 0x08, 0x1F, 0x0E
_FIXED = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}  # data1 to data16
_MAX_FILES = 100_000

Row = tuple[int, int, int]  # offset in the section, index into `Lines.names`, line (0 where a sequence ends)


@dataclass(frozen=True, slots=True)
class Lines:
    """rows by section, ordered by offset; names of files; files of each unit (by its offset) by number."""

    rows: Mapping[int, Sequence[Row]]
    names: Sequence[str]
    files: Mapping[int, Sequence[str]]

    def at(self, section: int, offset: int) -> tuple[str, int] | None:
        """File and line of the instruction at `offset`; None when they are not known."""
        rows = self.rows.get(section, ())
        found = bisect_right(rows, offset, key=lambda row: row[0]) - 1
        if found < 0 or not rows[found][2]:
            return None
        return self.names[rows[found][1]], rows[found][2]


NO_LINES = Lines({}, (), {})


def read_lines(obj: ObjectFile) -> Lines:
    """The line tables of an object; what is damaged is left out."""
    table = debug_section(obj, "line")
    if table is None:
        return NO_LINES
    reader = _Reader(table, debug_section(obj, "line_str"), debug_section(obj, "str"))
    try:
        reader.run()
    except Damaged:
        pass
    # Where one sequence ends another may begin: what is there counts, so the end comes first.
    rows = {
        section: sorted(found, key=lambda row: (row[0], row[2] != 0))
        for section, found in reader.rows.items()
    }
    return Lines(rows, tuple(reader.names), reader.files)


@dataclass(frozen=True, slots=True)
class _Header:
    """What a program needs to know; `end` is where it ends."""

    minimum: int
    line_base: int
    line_range: int
    opcode_base: int
    lengths: Sequence[int]
    address_size: int
    end: int


class _Reader:
    """Runs all programs of a section."""

    def __init__(self, table: DebugSection, line_str: DebugSection | None, strings: DebugSection | None):
        self.table, self.line_str, self.strings = table, line_str, strings
        self.rows: dict[int, list[Row]] = {}
        self.names: list[str] = []
        self.known: dict[str, int] = {}
        self.files: dict[int, list[str]] = {}

    def run(self) -> None:
        offset = 0
        while offset < len(self.table.data):
            offset = self._unit(offset)

    def _unit(self, start: int) -> int:
        table = self.table
        length, offset, wide = table.plain(start, 4), start + 4, 4
        if length == 0xFFFFFFFF:
            length, offset, wide = table.plain(offset, 8), offset + 8, 8
        end = offset + length
        version = table.plain(offset, 2)
        if not 2 <= version <= 5 or end > len(table.data):
            raise Damaged
        offset += 2
        address_size = 8
        if version >= 5:
            address_size = table.plain(offset, 1)
            offset += 2
        program = offset + wide + table.number(offset, wide)
        offset += wide
        minimum = table.plain(offset, 1)
        offset += 2 if version >= 4 else 1  # the maximum of operations per instruction is for VLIW
        line_base = table.plain(offset + 1, 1)
        line_range, opcode_base = table.plain(offset + 2, 1), table.plain(offset + 3, 1)
        if not line_range or not opcode_base or program > end:
            raise Damaged
        lengths = table.data[offset + 4 : offset + 3 + opcode_base]
        if len(lengths) != opcode_base - 1:
            raise Damaged
        offset += 3 + opcode_base
        files = self._files(offset, wide) if version >= 5 else self._old_files(offset)
        self.files[start] = files
        header = _Header(
            minimum, line_base - 256 * (line_base > 127), line_range, opcode_base, lengths, address_size, end
        )
        self._program(header, program, [self._name(file) for file in files])
        return end

    def _name(self, file: str) -> int:
        number = self.known.setdefault(file, len(self.names))
        if number == len(self.names):
            self.names.append(file)
        return number

    # --- names of files -------------------------------------------------------------------------------

    def _old_files(self, offset: int) -> list[str]:
        """Before version 5: strings, folders counted from 1 (0 is the compiler's), files from 1."""
        folders = [""]
        while self.table.plain(offset, 1):
            folders.append(self.table.text(offset))
            offset = self.table.data.index(0, offset) + 1
        files = [""]
        offset += 1
        while self.table.plain(offset, 1):
            name = self.table.text(offset)
            offset = self.table.data.index(0, offset) + 1
            folder, offset = self.table.uleb(offset)
            _, offset = self.table.uleb(offset)
            _, offset = self.table.uleb(offset)
            files.append(_joined(folders[folder] if folder < len(folders) else "", name, ""))
        return files

    def _files(self, offset: int, wide: int) -> list[str]:
        """Version 5: tables that describe themselves; folder 0 is the compiler's."""
        entries, offset = self._entries(offset, wide)
        folders = [str(entry.get(_PATH, "")) for entry in entries]
        top = folders[0] if folders else ""
        entries, offset = self._entries(offset, wide)
        files = []
        for entry in entries:
            folder = entry.get(_DIRECTORY_INDEX, 0)
            place = folders[folder] if isinstance(folder, int) and folder < len(folders) else ""
            files.append(_joined(place, str(entry.get(_PATH, "")), top))
        return files

    def _entries(self, offset: int, wide: int) -> tuple[list[dict[int, str | int]], int]:
        table = self.table
        shape: list[tuple[int, int]] = []
        count = table.plain(offset, 1)
        offset += 1
        for _ in range(count):
            content, offset = table.uleb(offset)
            form, offset = table.uleb(offset)
            shape.append((content, form))
        number, offset = table.uleb(offset)
        if number > _MAX_FILES or (number and not shape):
            raise Damaged
        found = []
        for _ in range(number):
            entry: dict[int, str | int] = {}
            for content, form in shape:
                entry[content], offset = self._field(form, offset, wide)
            found.append(entry)
        return found, offset

    def _field(self, form: int, offset: int, wide: int) -> tuple[str | int, int]:
        table = self.table
        if form == _FORM_STRING:
            text = table.text(offset)
            return text, table.data.index(0, offset) + 1
        if form in (_FORM_LINE_STRP, _FORM_STRP):
            strings = self.line_str if form == _FORM_LINE_STRP else self.strings
            if strings is None:
                raise Damaged
            return strings.text(table.number(offset, wide)), offset + wide
        if form == 0x0F:  # udata
            return table.uleb(offset)
        if form == 0x09:  # block
            size, offset = table.uleb(offset)
            return 0, offset + size
        if form in _FIXED:
            size = _FIXED[form]
            return table.plain(offset, size), offset + size
        raise Damaged

    # --- the program ----------------------------------------------------------------------------------

    def _program(self, header: _Header, offset: int, files: Sequence[int]) -> None:
        table, data = self.table, self.table.data
        line_base, line_range, opcode_base = header.line_base, header.line_range, header.opcode_base
        minimum, end = header.minimum, header.end
        unknown = self._name("")
        section, address, file, line = 0, 0, 1, 1
        rows: list[Row] = []

        def row() -> None:
            rows.append((address, files[file] if file < len(files) else unknown, line))

        while offset < end:
            opcode = data[offset]
            offset += 1
            if opcode >= opcode_base:
                step, more = divmod(opcode - opcode_base, line_range)
                address += step * minimum
                line += line_base + more
                row()
            elif opcode == 0:
                size, offset = table.uleb(offset)
                kind = table.plain(offset, 1) if size else 0
                if kind == _END_SEQUENCE:
                    rows.append((address, unknown, 0))
                    self.rows.setdefault(section, []).extend(rows)
                    section, address, file, line, rows = 0, 0, 1, 1, []
                elif kind == _SET_ADDRESS:
                    section, address = table.targets.get(offset + 1, (0, 0))
                offset += size
            elif opcode == _COPY:
                row()
            elif opcode == _ADVANCE_PC:
                step, offset = table.uleb(offset)
                address += step * minimum
            elif opcode == _ADVANCE_LINE:
                step, offset = table.sleb(offset)
                line += step
            elif opcode == _SET_FILE:
                file, offset = table.uleb(offset)
            elif opcode == _CONST_ADD_PC:
                address += (255 - opcode_base) // line_range * minimum
            elif opcode == _FIXED_ADVANCE_PC:
                address += table.plain(offset, 2)
                offset += 2
            else:
                for _ in range(header.lengths[opcode - 1]):
                    _, offset = table.uleb(offset)


def _joined(folder: str, name: str, top: str) -> str:
    """The file's path, below the folder that the compiler ran in where it is there."""
    path = name if name.startswith("/") or not folder else f"{folder}/{name}"
    if top and path.startswith(top + "/"):
        path = path[len(top) + 1 :]
    return path.removeprefix("./")
