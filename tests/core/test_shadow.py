# SPDX-License-Identifier: GPL-2.0-or-later
"""Shadow variables on the stock kernels: every promise of the interface, with all CPUs at it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import Outcome, render_report
from tests.core.modules import HERE, build_modules
from tests.core.test_boot import COMPLAINTS

pytestmark = [pytest.mark.kernel, pytest.mark.boot]

LEFT = 400  # of 64 KiB each
HAMMER = """
load kpatch.ko
load kpt_shadow.ko
dmesg | grep 'kpt_shadow: made'
unload kpt_shadow
not_logged 'shadow variables'
unload kpatch
not_logged 'shadow variables'
"""
LEAVE = f"""
free_kb() {{
    sleep 1
    sed -n 's/^MemFree: *//p' /proc/meminfo | sed 's/ kB//'
}}
before=$(free_kb)
load kpatch.ko
load kpt_shadow.ko seconds=0 left={LEFT}
unload kpt_shadow
[ $((before - $(free_kb))) -gt {LEFT * 64} ] || fail 'nothing was left'
unload kpatch
logged 'kpatch: shadow variables were left over, the first has id 200'
logged 'kpatch: {LEFT} shadow variables freed'
[ $((before - $(free_kb))) -lt {LEFT * 16} ] || fail 'not freed'
"""


@pytest.mark.parametrize(("name", "cpus"), [("debian12", 1), ("debian12", 4), ("debian12_newer", 2)])
def test_shadow_variables(name: str, cpus: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    kernel: TargetKernel = request.getfixturevalue(name)
    modules = build_modules(kernel, tmp_path / "modules")
    steps = (
        GuestStep("all CPUs at once", f". /guest.sh\n{HAMMER}", timeout=200),
        GuestStep("what is left over is freed with the core", f". /guest.sh\n{LEAVE}", timeout=200),
    )
    files = {"/guest.sh": HERE / "guest.sh", **modules.files()}
    guest = Guest(steps, files, cpus=cpus, append="preempt=full", one_thread=True)
    report = boot(kernel.boot_image, guest, tmp_path / "boot")
    assert report.outcome is Outcome.PASSED, render_report(report)
    assert not COMPLAINTS.search(report.console), report.console
