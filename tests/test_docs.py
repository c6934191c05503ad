# SPDX-License-Identifier: GPL-2.0-or-later
"""Every link in the project's pages leads to a file that is there, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "core" / "README.md"])


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """What a heading is called in a link, as code hosts make it: lower case, hyphens for blanks."""
    found = {re.sub(r"[^\w\- ]", "", line).replace(" ", "-") for line in headings(text)}
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def headings(text: str) -> list[str]:
    return [line.lstrip("# ").lower() for line in text.splitlines() if re.match(r"#+ ", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists() and ROOT in target.parents, link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_the_first_page_leads_to_all_others() -> None:
    linked = set(re.findall(r"\]\(([\w./-]+\.md)[)#]", (ROOT / "README.md").read_text()))
    assert {str(page.relative_to(ROOT)) for page in PAGES} - {"README.md", "CHANGELOG.md"} <= linked


def test_what_a_port_needs_is_complete() -> None:
    header = (ROOT / "core" / "internal.h").read_text()
    text = (ROOT / "docs" / "porting.md").read_text()
    functions = re.findall(r"\b(kpatch_arch_\w+)\(", header)
    assert len(functions) >= 4
    assert [name for name in functions if f"{name}(" not in text] == []
