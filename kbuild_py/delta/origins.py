# SPDX-License-Identifier: GPL-2.0-or-later
"""Where in the source something comes from, as far as an object's debug information says it.

Reading debug information costs more than the whole diff, and a kernel is compiled without it more often than
not.  So it is read when the first question is asked, and the questions are asked only about what is shipped
or refused.
"""

from __future__ import annotations

from functools import cached_property

from kbuild_py.delta.anatomy import Place
from kbuild_py.elf import constants as elf
from kbuild_py.elf.lines import Lines, read_lines
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.scopes import Scopes, read_scopes


class Origins:
    """Answers for one object; empty strings and tuples where the object does not say."""

    def __init__(self, obj: ObjectFile) -> None:
        self.object = obj

    @cached_property
    def _lines(self) -> Lines:
        return read_lines(self.object)

    @cached_property
    def _scopes(self) -> Scopes:
        return read_scopes(self.object, self._lines)

    def source(self, section: int, offset: int) -> str:
        """`file:line` of an instruction, or of the declaration of the variable that starts there."""
        if self.object.sections[section].flags & elf.SHF_EXECINSTR:
            found = self._lines.at(section, offset)
        else:
            found = self._scopes.variables.get((section, offset))
        return f"{found[0]}:{found[1]}" if found is not None and found[0] else ""

    def inlined(self, section: int, offset: int) -> tuple[str, ...]:
        """The functions whose inlined code has this instruction, outermost first."""
        return self._scopes.chain(section, offset)

    def is_inline(self, section: int, offset: int) -> bool:
        """The function that starts there is called inline in the source."""
        return (section, offset) in self._scopes.inline

    def units(self) -> tuple[str, ...]:
        """The source files that the object was compiled from."""
        return tuple(name for name in self._scopes.units if name)


def source_of(place: Place | str, origins: tuple[Origins, ...]) -> str:
    """`file:line` of a place in one of two objects."""
    if isinstance(place, str):
        return ""
    for origin in origins:
        if origin.object is place.object:
            return origin.source(place.section, place.offset)
    return ""
