# SPDX-License-Identifier: GPL-2.0-or-later
"""Which configurations can be patched, and through what."""

from __future__ import annotations

import pytest

from kbuild_py.kernel import config, facts
from kbuild_py.kernel.facts import KPATCH, LIVEPATCH, missing
from kbuild_py.kernel.target import TargetKernel

WHOLE = {name: "y" for need in facts.NEEDS for name in need.options}


def test_a_configuration_with_everything_has_both_backends() -> None:
    assert missing(WHOLE, "config", KPATCH) == missing(WHOLE, "config", LIVEPATCH) == ()


@pytest.mark.parametrize("need", facts.NEEDS, ids=lambda need: need.options[0])
def test_what_is_needed_is_named_when_it_is_not_there(need: facts.Need) -> None:
    options = {name: value for name, value in WHOLE.items() if name not in need.options}
    if len(need.options) > 1:
        assert missing({**options, need.options[0]: "y"}, "config") == ()
    for backend in (KPATCH, LIVEPATCH):
        problems = missing(options, "config", backend)
        assert len(problems) == (need.backend in ("", backend))
        for problem in problems:
            assert need.purpose in problem.cause
            assert all(f"CONFIG_{name}" in problem.cause for name in need.options)
    # As a module it would not be there when it is needed; "is not set" is "n".
    assert len(missing({**options, need.options[0]: "m"}, "config")) == (not need.backend)


@pytest.mark.parametrize("name", [name for name, _ in facts.OBSTACLES])
def test_what_is_in_the_way_is_named(name: str) -> None:
    assert missing({**WHOLE, name: "n"}, "config") == ()
    (problem,) = missing({**WHOLE, name: "y"}, "config")
    assert f"CONFIG_{name}:" in problem.cause


@pytest.mark.kernel
def test_the_stock_kernel_has_both(debian12: TargetKernel) -> None:
    options = config.parse(debian12.config.read_text())
    assert missing(options, debian12.config, KPATCH) == missing(options, debian12.config, LIVEPATCH) == ()
    # A name that no kernel has would never be found missing where it counts.
    assert all(any(name in options for name in need.options) for need in facts.NEEDS)
