# SPDX-License-Identifier: GPL-2.0-or-later
"""The patch author's guide: its links lead somewhere, and it names the rules that need a way round."""

from __future__ import annotations

import re
from pathlib import Path

from kbuild_py.delta.rules import RULES

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "patch-author-guide.md").read_text()
# What a patch author meets because of what the patch does, and not because of how an object was made.
FOR_AUTHORS = {
    "bad-marker", "changed-data", "changed-export", "changed-init", "changed-kind", "changed-registry",
    "changed-size", "module-key", "never-patched", "no-fentry", "noinstr-text", "sibling-call",
    "static-local-lost",
}  # fmt: skip


def test_links_lead_to_rules() -> None:
    linked = set(re.findall(r"\(verdicts\.md#([\w-]+)\)", GUIDE))
    assert linked <= {rule.name for rule in RULES}
    assert linked >= FOR_AUTHORS


def test_other_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", GUIDE):
        assert (DOCS / target).exists(), target


def test_lines_are_not_too_long() -> None:
    assert all(len(line) <= 120 for line in GUIDE.splitlines() if not line.startswith("|"))
