# SPDX-License-Identifier: GPL-2.0-or-later
"""One file that a person wrote: its values, where each stands, and everything that is wrong with it.

A `Document` starts with what the text (text.py) and the schema (check.py) have against the file.  Later
checks ask `sound(path)` before they look at a value, add what they find with `wrong`, and in the end
`raise_if_wrong` raises everything in the file's order.
"""

from __future__ import annotations

import pathlib
from typing import Any

from kbuild_py.errors import Problem, UserError
from kbuild_py.manifest import check, kinds, text

Step = str | int


class Document:
    """A file read as one of the formats; a path below is steps into its values: "checks", "after_load", 0."""

    def __init__(self, path: pathlib.Path, shown: str, format_: kinds.Format) -> None:
        """Read and check the file; `shown` is its name in errors.  `UserError` only if it cannot be read."""
        self.shown = shown
        self.data: Any = None
        self._bad: list[check.Path] = []
        self._root, self._findings = text.parse(text.read(path, shown))
        if self._root is not None:
            self.data = text.data(self._root)
            self._check(self._root, format_)

    def _check(self, root: text.Node, format_: kinds.Format) -> None:
        places = {(finding.line, finding.column) for finding in self._findings}
        misfits = check.check(root, format_)
        # Of a file in another version of the format nothing else can be said.
        other_version = [misfit for misfit in misfits if misfit.path == ("schema",) and self.has("schema")]
        for misfit in other_version or misfits:
            self._bad.append(misfit.path)
            if (misfit.finding.line, misfit.finding.column) not in places:
                self._findings.append(misfit.finding)
        if other_version:
            self._bad.append(())

    def has(self, *path: Step) -> bool:
        """Whether there is a value at the path."""
        value = self.data
        for step in path:
            in_mapping = isinstance(value, dict) and step in value
            in_list = isinstance(value, list) and isinstance(step, int) and step < len(value)
            if not (in_mapping or in_list):
                return False
            value = value[step]
        return True

    def sound(self, *path: Step) -> bool:
        """Whether there is a value at the path and the schema accepts it, what is in it and what holds it."""
        return self.has(*path) and not any(bad[: len(path)] == path[: len(bad)] for bad in self._bad)

    def value(self, *path: Step) -> Any:
        """The value at a path that exists."""
        value = self.data
        for step in path:
            value = value[step]
        return value

    def count(self, *path: Step) -> int:
        """The number of items of the list at the path; 0 where there is no list."""
        value = self.value(*path) if self.has(*path) else None
        return len(value) if isinstance(value, list) else 0

    def node(self, *path: Step) -> text.Node:
        """The node, with line and column, of a path that exists."""
        assert self._root is not None
        return check.locate(self._root, path)

    def place(self, *path: Step) -> str:
        """file:line:column of the value at a path that exists."""
        node = self.node(*path)
        return f"{self.shown}:{node.line}:{node.column}"

    def key_place(self, *path: Step) -> str:
        """file:line:column of the key that the path ends with."""
        mapping = self.node(*path[:-1])
        assert isinstance(mapping, text.Mapping)
        key = mapping.keys[str(path[-1])]
        return f"{self.shown}:{key.line}:{key.column}"

    def wrong(self, path: check.Path, cause: str, remedy: str = "") -> None:
        """Note a problem of the value at a path that exists."""
        node = self.node(*path)
        self._findings.append(text.Finding(node.line, node.column, cause, remedy))

    def raise_if_wrong(self) -> None:
        """Raise `UserError` with everything found, in the file's order."""
        found = sorted(self._findings, key=lambda finding: (finding.line, finding.column))
        if len(found) > text.MAX_FINDINGS:
            found = [*found[: text.MAX_FINDINGS], text.too_many(found[text.MAX_FINDINGS])]
        if found:
            raise UserError(*(Problem(f"{self.shown}:{f.line}:{f.column}", f.cause, f.remedy) for f in found))
