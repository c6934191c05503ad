# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules and the page that is written from them."""

from __future__ import annotations

import json
from pathlib import Path

from kbuild_py.delta.rules import RULES, verdicts_page
from tests.delta.compiling import CASES

PAGE = Path(__file__).parents[2] / "docs" / "verdicts.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == verdicts_page(), "run: python -m kbuild_py.delta.rules > docs/verdicts.md"


def test_rules_have_a_name_a_remedy_and_an_explanation() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES) > 15
    for rule in RULES:
        assert rule.remedy and not rule.remedy.endswith("."), rule.name
        assert rule.explanation.endswith("."), rule.name
        assert f"## {rule.name}\n" in PAGE.read_text()


def test_most_rules_have_a_case() -> None:
    used: set[str] = set()
    for expected in CASES.glob("*/expected.json"):
        used |= set(json.loads(expected.read_text()).get("rules", ()))
    without = {rule.name for rule in RULES} - used
    # Damaged or foreign objects only; tests/delta/test_judge.py makes them.
    assert without <= {
        "ambiguous-symbol",
        "call-without-room",
        "changed-module-info",
        "different-units",
        "boot-constant",
        "folded-function",
        "module-key",
        "never-patched",
        "short-branch",
        "sibling-call",
        "stack-relocations",
        "table-entry",
        "undecoded-code",
        "unnamed-target",
        "unresolved-symbol",
    }
