# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiles small C files with the flags of a kernel, so that objects have a kernel object's shape."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.run import run

CASES = Path(__file__).parent / "cases"
COMPILER = shutil.which("gcc-12") or shutil.which("gcc")
needs_gcc = pytest.mark.skipif(COMPILER is None, reason="gcc is not installed")

_FLAGS = (
    "-std=gnu11 -O2 -ffunction-sections -fdata-sections -fno-pie -mcmodel=kernel -mno-red-zone -mno-sse "
    "-fno-strict-aliasing -fno-common -fno-asynchronous-unwind-tables -fcf-protection=none "
    "-fno-delete-null-pointer-checks -fno-stack-protector -mskip-rax-setup -fno-ipa-icf "
    "-pg -mfentry -mrecord-mcount -Wall"
)
FLAGS = _FLAGS.split()


def compile_c(source: Path, output: Path, *flags: str) -> ObjectFile:
    """Compile `source` as if it were called unit.c, whatever its name."""
    output.parent.mkdir(parents=True, exist_ok=True)
    unit = output.parent / "unit.c"
    unit.write_text(f'#line 1 "unit.c"\n{source.read_text()}')
    where = f"-I{source.parent}"
    run([COMPILER or "gcc", *FLAGS, *flags, where, "-c", "-o", output, unit.name], cwd=output.parent)
    return read_object(output)


def compile_case(name: str, folder: Path, *flags: str) -> tuple[ObjectFile, ObjectFile]:
    """Both objects of a case: before and after."""
    before = compile_c(CASES / name / "before.c", folder / "before" / "unit.o", *flags)
    return before, compile_c(CASES / name / "after.c", folder / "after" / "unit.o", *flags)
