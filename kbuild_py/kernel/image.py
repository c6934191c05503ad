# SPDX-License-Identifier: GPL-2.0-or-later
"""The shipped image: its bytes by address, its build ID, its symbols."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageSymbol:
    """One kallsyms entry.  `type` is kallsyms' letter: upper case is global (T, D, B, R, A, W, V ...)."""

    address: int
    type: str
    name: str
