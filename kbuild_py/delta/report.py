# SPDX-License-Identifier: GPL-2.0-or-later
"""The account of a diff as text for people.

One block a function: what happened to it, how large it is, where it is in the source, then every reason, and
under the first one the two instructions that differ.  Lines are at most `WIDTH` wide, so that the text can be
pasted into a mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from kbuild_py.delta.model import Cause, ChangedFunction, Delta, Difference, Why

WIDTH = 110
_MARGIN = " " * 9  # as wide as the first column


def report(delta: Delta) -> str:
    """The account for people: functions with the reasons, new data, what stays in the kernel."""
    if not delta.changed:
        return "no functional change"
    lines: list[str] = []
    for function in delta.functions:
        lines += _function(function)
    for item in delta.data:
        lines += _item("data", f"{item.name} ({item.section}, {item.size} bytes): {item.why}")
    for callback in delta.callbacks:
        lines += _item("callback", f"{callback.function} ({callback.kind})")
    if delta.imports:
        lines += _item("imports", f"the namespaces {', '.join(delta.imports)}")
    static = sorted(delta.locals)
    if static:
        lines += _item("stays", f"static symbols of this file that stay in the kernel: {', '.join(static)}")
    if delta.removed:
        lines += _item("removed", ", ".join(sorted(set(delta.removed))))
    return "\n".join(lines)


def _function(function: ChangedFunction) -> Iterator[str]:
    size = f"{function.size} bytes"
    if function.original_size and function.original_size != function.size:
        size += f" instead of {function.original_size}"
    head = f"{function.name} ({function.section}, {size})"
    if function.source:
        head += f" at {function.source}"
    yield from _item(function.status.value, head)
    if function.carries:
        yield from _item("", f"stands for {', '.join(function.carries)}, which cannot be redirected")
    first = function.first
    inline = any(why.cause is Cause.INLINE for why in function.why)
    for why in function.why:
        if inline and why.cause in (Cause.BODY, Cause.SIZE):
            continue  # The same place, said less well.
        yield from _item("", f"because {_text(why, first)}")
    if first is not None:
        yield from _sides(first)


def _text(why: Why, first: Difference | None) -> str:
    """The reason; where the instructions are shown below it, without them."""
    if first is not None and why.cause in (Cause.BODY, Cause.SIZE):
        return f"code differs at +{first.offset:#x}"
    return why.text


def _sides(first: Difference) -> Iterator[str]:
    nothing = "(the function ends)"
    sides = (
        ("original", first.original or nothing, first.original_source),
        ("patched", first.patched or nothing, first.source),
    )
    for name, text, source in sides:
        where = f"   # {source}" if source else ""
        lines = wrap(text + where, WIDTH - 23, break_on_hyphens=False) or [""]
        yield f"{_MARGIN}    {name:10}{lines[0]}"
        yield from (f"{_MARGIN}              {line}" for line in lines[1:])


def _item(word: str, text: str) -> Iterable[str]:
    """A word in the first column, and text beside it on as many lines as it takes."""
    lines = wrap(text, WIDTH - len(_MARGIN), break_on_hyphens=False) or [""]
    return [f"{word:8} {lines[0]}", *(_MARGIN + line for line in lines[1:])]
