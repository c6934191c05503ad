# SPDX-License-Identifier: GPL-2.0-or-later
"""The `functions:` list of a manifest, written for a person to paste.

A draft says `functions: auto`.  Once it builds, the functions that did change become the contract, and
this module writes them as YAML.  What was already declared for a function (`force_unsafe`, `source`) is
kept.  Names that YAML does not read as text (a function called `no`) are quoted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from kbuild_py.manifest.model import Function
from kbuild_py.manifest.text import plain_value


def source_name(symbol: str) -> str:
    """The name in the C source of a function's symbol: clones such as `NAME.isra.0` count to NAME."""
    return symbol.split(".", 1)[0]


def functions_list(
    changed: Iterable[tuple[str, str]], declared: Iterable[Function] = (), indent: int = 4
) -> str:
    """The lines `functions:` and one for each function, sorted by name, with a final newline.

    changed:  (symbol, source file from the top of the kernel's source) of each changed function; clones of
              one function are one entry.
    declared: what the manifest says so far.
    indent:   spaces before `functions:`; 4 is its place below `objects:` and `vmlinux:`.
    """
    functions = sorted({(source_name(symbol), source) for symbol, source in changed})
    names = [name for name, _ in functions]
    if not functions:
        return f"{' ' * indent}functions: []\n"
    lines = [f"{' ' * indent}functions:"]
    for name, source in functions:
        known = _declared(name, source, declared)
        entry = [f"name: {_word(name)}"]
        if names.count(name) > 1 or (known and known.source):
            entry.append(f"source: {_word(source)}")
        if known and known.force_unsafe:
            entry.append("force_unsafe: true")
        item = _word(name) if len(entry) == 1 else f"{{{', '.join(entry)}}}"
        lines.append(f"{' ' * indent}  - {item}")
    return "\n".join(lines) + "\n"


def _declared(name: str, source: str, declared: Iterable[Function]) -> Function | None:
    same = [function for function in declared if function.name == name and function.source in (source, None)]
    return same[0] if same else None


def _word(text: str) -> str:
    """The text as YAML, in quotes where it needs them."""
    plain = text.replace("/", "").replace("_", "").replace("-", "").replace(".", "").isalnum()
    return text if plain and text[0] not in "-." and plain_value(text) == text else json.dumps(text)
