# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiles C that stands in a test, with each compiler: gcc and clang differ in names and shapes."""

from __future__ import annotations

import shutil
from pathlib import Path

from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.run import run
from tests.delta.compiling import CASES, COMPILER, FLAGS

CLANG = next((found for name in ("clang", "clang-19", "clang-14") if (found := shutil.which(name))), None)
COMPILERS = [compiler for compiler in (COMPILER, CLANG) if compiler]
_GCC_ONLY = {"-fno-ipa-icf", "-mskip-rax-setup", "-mrecord-mcount"}


def compile_text(compiler: str, text: str, output: Path, *flags: str) -> ObjectFile:
    """The object of `text`, which may use what cases/kernel.h has."""
    output.parent.mkdir(parents=True, exist_ok=True)
    source = output.parent / "unit.c"
    source.write_text(f'#include "kernel.h"\n#line 1 "unit.c"\n{text}')
    known = [flag for flag in FLAGS if flag not in _GCC_ONLY] if "clang" in compiler else FLAGS
    run([compiler, *known, *flags, f"-I{CASES}", "-c", "-o", output, source])
    return read_object(output)
