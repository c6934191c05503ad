# SPDX-License-Identifier: GPL-2.0-or-later
"""Why an object is not what was shipped: likely causes, each with its evidence."""

from __future__ import annotations

from kbuild_py.baseline.compare import Context
from kbuild_py.baseline.proof import FunctionProof, Proof


def function_cause(context: Context, one: FunctionProof) -> str:
    return ""


def causes(context: Context, proof: Proof) -> tuple[str, ...]:
    return ()
