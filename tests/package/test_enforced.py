# SPDX-License-Identifier: GPL-2.0-or-later
"""The stock kernel with module.sig_enforce=1 and a key that it does not trust.

Debian's kernel takes keys beside its own from the machine's owner only, through Secure Boot's shim, which
this guest has not.  So what can be seen here is that the kernel finds the signature that was made, asks for
its key, and refuses: its log gives another reason than for a module without a signature.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import Signing
from kbuild_py.module.build import build_core
from kbuild_py.package.sign import is_signed, sign
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import Outcome, render_report
from tests.package.test_patch import key_pair
from tests.projects import TOP

pytestmark = [pytest.mark.kernel, pytest.mark.boot]


def test_signature_enforcement(debian12: TargetKernel, tmp_path: Path) -> None:
    build_core(debian12, TOP / "core", tmp_path / "core")
    module = tmp_path / "core" / "kpatch.ko"
    unsigned = module.read_bytes()
    key, certificate = key_pair(tmp_path)
    sign(debian12, Signing(str(key), certificate), module)
    assert is_signed(module.read_bytes()) and not is_signed(unsigned)
    steps = (
        GuestStep("unsigned", "insmod /unsigned.ko || false", 1),
        GuestStep("and why", "dmesg | tail -n 5", contains="oading of unsigned module is rejected"),
        GuestStep("signed by a stranger", "insmod /signed.ko || false", 1, contains="Key was rejected"),
        GuestStep(
            "and why", "dmesg | tail -n 5", contains="oading of module with unavailable key is rejected"
        ),
        GuestStep("neither is loaded", "cat /proc/modules", absent="kpatch"),
    )
    guest = Guest(steps, {"/unsigned.ko": unsigned, "/signed.ko": module}, append="module.sig_enforce=1")
    report = boot(debian12.boot_image, guest, tmp_path / "boot")
    assert report.outcome is Outcome.PASSED, render_report(report)
