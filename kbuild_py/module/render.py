# SPDX-License-Identifier: GPL-2.0-or-later
"""Templates to text: the one place that knows Jinja2.

Templates look like what they make and hold no decisions; a name that they use and nobody gave is an error.
Text that a user wrote goes into C as a string or a comment, and must not be able to end either.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render(template: str, values: Mapping[str, Any]) -> str:
    """The text that `template` makes of `values`."""
    return _environment().get_template(template).render(values)


def c_text(text: str) -> str:
    """`text` on one line, for use within a C string or comment."""
    line = " ".join(text.split())
    for character, substitute in (("\\", "\\\\"), ('"', '\\"'), ("*/", "* /"), ("/*", "/ *"), ("?", "\\?")):
        line = line.replace(character, substitute)
    return line
