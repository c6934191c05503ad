# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel.compiler import package, program, require
from kbuild_py.kernel.config import parse, string
from kbuild_py.kernel.target import TargetKernel

TEXT = "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"


@pytest.mark.parametrize(
    ("text", "name", "wanted"),
    [
        (TEXT, "gcc-12", "gcc-12=12.2.0-14+deb12u1"),
        ("x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14) 12.2.0", "x86_64-linux-gnu-gcc-12", "gcc-12=12.2.0-14"),
        ("gcc (GCC) 13.1.0", "gcc", "gcc"),
    ],
)
def test_program_and_package(text: str, name: str, wanted: str) -> None:
    assert program(text) == name
    assert package(name, text) == wanted


@pytest.mark.parametrize(
    "text", ["", "clang version 16.0.0", "/tmp/evil-gcc x", "gcc-12;rm x", "icc (ICC) 1"]
)
def test_other_compilers_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="only kernels compiled with gcc"):
        program(text)


def fake_compiler(folder: Path, first_line: str) -> None:
    path = folder / "gcc-99"
    path.write_text(f"#!/bin/sh\necho '{first_line}'\necho 'Copyright (C)'\n")
    path.chmod(0o755)


def test_the_very_compiler_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    wanted = "gcc-99 (Debian 99.1-1+deb12u1) 99.1"
    with pytest.raises(UserError, match="not installed") as missing:
        require(wanted)
    assert missing.value.problems[0].remedy == "apt-get install gcc-99=99.1-1+deb12u1"
    fake_compiler(tmp_path, wanted)
    assert require(wanted) == "gcc-99"
    fake_compiler(tmp_path, "gcc-99 (Debian 99.1-1) 99.1")  # another patch level only
    with pytest.raises(UserError, match="is not the kernel's compiler") as other:
        require(wanted)
    assert "99.1-1+deb12u1" in str(other.value) and "gcc-99 (Debian 99.1-1) 99.1" in str(other.value)


@pytest.mark.kernel
def test_the_stock_kernel_has_its_compiler_here(debian12: TargetKernel) -> None:
    text = string(parse(debian12.config.read_text()), "CC_VERSION_TEXT")
    assert require(text) == debian12.compiler
