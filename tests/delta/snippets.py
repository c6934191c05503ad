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
    return _compile(compiler, f'#include "kernel.h"\n#line 1 "unit.c"\n{text}', CASES, output, *flags)


def compile_file(compiler: str, source: Path, output: Path, *flags: str) -> ObjectFile:
    """The object of a case's source, called unit.c whatever its name."""
    return _compile(compiler, f'#line 1 "unit.c"\n{source.read_text()}', source.parent, output, *flags)


def _compile(compiler: str, text: str, headers: Path, output: Path, *flags: str) -> ObjectFile:
    output.parent.mkdir(parents=True, exist_ok=True)
    source = output.parent / "unit.c"
    source.write_text(text)
    known = [flag for flag in FLAGS if flag not in _GCC_ONLY] if "clang" in compiler else FLAGS
    run([compiler, *known, *flags, "-w", f"-I{headers}", "-c", "-o", output, source.name], cwd=source.parent)
    return read_object(output)
