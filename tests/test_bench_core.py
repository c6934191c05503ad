# SPDX-License-Identifier: GPL-2.0-or-later
"""The measurement of stop times: its table, and a short one of a real boot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kbuild_py import bench_core
from kbuild_py.bench_core import Sample, table
from kbuild_py.kernel.target import TargetKernel

ROOT = Path(__file__).parents[1]


def test_one_line_for_each_combination_with_medians() -> None:
    found = [
        Sample("kpatch-1", 100, "idle", 10, 200_000),
        Sample("kpatch-1", 100, "idle", 10, 900_000),
        Sample("kpatch-1", 100, "idle", 10, 300_000),
        Sample("kpatch-0", 100, "idle", 10, 250_000),
        Sample("kpatch-0", 100, "busy", 10, 450_000),
        Sample("livepatch", 100, "idle", 10, 1_500_000),
        Sample("kpatch-1", 100, "busy", 10, 400_000),
        Sample("livepatch", 100, "busy", 10, 30_000_000_000),
    ]
    assert [" ".join(line.split()) for line in table(found)[1:]] == [
        "100 idle 10 200 / 300 us 250 / 250 us 2.00 us 1.5 ms",
        "100 busy 10 400 / 400 us 450 / 450 us 4.00 us not within 30 s",
    ]


@pytest.mark.kernel
@pytest.mark.boot
def test_a_short_measurement(debian12: TargetKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_core, "TASKS", (50,))
    lines = bench_core.bench_core(ROOT, debian12).splitlines()
    rows = [
        re.fullmatch(r" *\d+  (idle|busy) +(\d+)( +\d+ / +\d+ us){2} +[\d.]+ us  .*", line)
        for line in lines[2:]
    ]
    assert [row and row.groups()[:2] for row in rows] == [
        (state, str(number)) for state in ("idle", "busy") for number in bench_core.FUNCTIONS
    ]
