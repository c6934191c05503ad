# SPDX-License-Identifier: GPL-2.0-or-later
"""What the independent checker knows of each processor, and the compilers that make objects for it.

Written down anew from the psABIs, not taken from the code under test.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.run import run
from tests.delta.compiling import FLAGS

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Processor:
    """How the checker reads an object of one processor.

    pc_relative: relocation types whose addend in code is biased
    bias:        what to add to it; None: the distance from the field to the end of its instruction
    same:        type -> the type that it is as good as
    ignored:     types that mean nothing in a module
    width:       bytes of the field, where not 4
    filling:     bytes of no-operations
    subsections: code that no symbol names may stand behind a function
    inner:       types of branches to labels of the same function, which may be resolved in the output
    mask:        type -> width and bits of a field that holds the addend a second time
    ld, readelf: the tools that must accept an object
    """

    pc_relative: frozenset[int] = frozenset()
    bias: int | None = 0
    same: dict[int, int] = field(default_factory=dict)
    ignored: frozenset[int] = frozenset()
    width: dict[int, int] = field(default_factory=dict)
    filling: bytes = b"\0"
    subsections: bool = False
    inner: frozenset[int] = frozenset()
    mask: dict[int, tuple[int, int]] = field(default_factory=dict)
    ld: tuple[str, ...] = ("ld",)
    readelf: str = "readelf"


PROCESSORS = {
    "EM_X86_64": Processor(
        frozenset({2, 4, 24}), None, {4: 2}, width={1: 8, 24: 8}, filling=b"\x90\xcc\0"
    ),
    "EM_AARCH64": Processor(
        subsections=True, filling=bytes.fromhex("1f2003d500"), ld=("aarch64-linux-gnu-ld",)
    ),
    "EM_PPC64": Processor(
        ignored=frozenset({109, 118}), mask={132: (8, 0xFFFF0003FFFF)}, filling=bytes.fromhex("6000"),
        ld=("powerpc64le-linux-gnu-ld",),
    ),
    "EM_S390": Processor(
        # PC16DBL, PLT16DBL, PC32DBL, PLT32DBL, GOTENT
        frozenset({17, 18, 19, 20, 26}), -2, {20: 19, 18: 17}, filling=b"\x07\0", ld=("s390x-linux-gnu-ld",)
    ),
    "EM_LOONGARCH": Processor(
        ignored=frozenset({100, 102}), inner=frozenset({64, 65, 66}), filling=bytes.fromhex("40030000"),
        ld=("ld.lld-19", "-m", "elf64loongarch"), readelf="llvm-readelf-19",
    ),
}  # fmt: skip


def loongarch_branch(code: bytes, offset: int) -> tuple[int, bytes | None]:
    """Where a LoongArch branch at `offset` goes, and its bytes without the distance; None for others."""
    word = int.from_bytes(code, "little")
    opcode = word >> 26
    low = word >> 10 & 0xFFFF
    if opcode in (0x14, 0x15):  # b, bl
        distance, bits, field = (word & 0x3FF) << 16 | low, 26, 0x3FFFFFF
    elif opcode in (0x10, 0x11, 0x12):  # beqz, bnez, bceqz and bcnez
        distance, bits, field = (word & 0x1F) << 16 | low, 21, 0xFFFF << 10 | 0x1F
    elif 0x16 <= opcode <= 0x1B:  # beq, bne, blt, bge, bltu, bgeu
        distance, bits, field = low, 16, 0xFFFF << 10
    else:
        return 0, None
    distance -= (distance >> bits - 1) << bits
    return offset + 4 * distance, (word & ~field).to_bytes(4, "little")


@dataclass(frozen=True)
class Toolchain:
    """A compiler with the flags that a kernel for its processor is compiled with."""

    name: str
    processor: str  # as the diff names it
    compiler: tuple[str, ...]
    flags: tuple[str, ...]

    def compile(self, source: Path, output: Path, *flags: str) -> ObjectFile:
        """Compile `source` as if it were called unit.c, whatever its name."""
        return self.compile_text(source.read_text(), source.parent, output, *flags)

    def compile_text(self, text: str, headers: Path, output: Path, *flags: str) -> ObjectFile:
        """The object of `text`; what it includes is looked for in `headers`."""
        output.parent.mkdir(parents=True, exist_ok=True)
        (output.parent / "unit.c").write_text(f'#line 1 "unit.c"\n{text}')
        words = [*self.compiler, *self.flags, *flags, "-w", f"-I{headers}", "-c", "-o", output, "unit.c"]
        run(words, cwd=output.parent)
        return read_object(output)


_FLAGS = (
    "-std=gnu11 -O2 -ffreestanding -ffunction-sections -fdata-sections -fno-pie -fno-strict-aliasing "
    "-fno-common -fno-asynchronous-unwind-tables -fno-delete-null-pointer-checks -fno-stack-protector"
)
_GCC = ["-fno-ipa-icf"]
_CLANG_X86 = [f for f in FLAGS if f not in ("-fno-ipa-icf", "-mskip-rax-setup", "-mrecord-mcount")]


def _toolchain(name: str, processor: str, compiler: str, flags: str, *more: str) -> Toolchain:
    command = shutil.which(compiler.split()[0]) or compiler.split()[0]
    return Toolchain(
        name, processor, (command, *compiler.split()[1:]), (*_FLAGS.split(), *flags.split(), *more)
    )


# arch/*/Makefile: the code model, no floating point, and how ftrace hooks functions.
TOOLCHAINS = (
    Toolchain("x86_64-clang", "x86_64", (shutil.which("clang-19") or "clang-19",), tuple(_CLANG_X86)),
    _toolchain(
        "aarch64", "arm64", "aarch64-linux-gnu-gcc", "-mgeneral-regs-only -fpatchable-function-entry=2", *_GCC
    ),
    _toolchain(
        "aarch64-bti", "arm64", "aarch64-linux-gnu-gcc",
        "-mgeneral-regs-only -mbranch-protection=pac-ret+bti -fpatchable-function-entry=4,2", *_GCC,
    ),
    _toolchain(
        "aarch64-clang", "arm64", "clang-19 --target=aarch64-linux-gnu",
        "-mgeneral-regs-only -fpatchable-function-entry=2",
    ),
    _toolchain(
        "ppc64le", "powerpc64", "powerpc64le-linux-gnu-gcc",
        "-mcmodel=medium -mabi=elfv2 -mcpu=power8 -msoft-float -mno-altivec -mno-vsx "
        "-pg -mprofile-kernel", *_GCC,
    ),
    _toolchain(
        "ppc64le-pcrel", "powerpc64", "powerpc64le-linux-gnu-gcc",
        "-mcmodel=medium -mabi=elfv2 -mcpu=power10 -mpcrel -mprefixed -mno-altivec -mno-vsx -mno-mma "
        "-fpatchable-function-entry=2", *_GCC,
    ),
    _toolchain(
        "s390x", "s390x", "s390x-linux-gnu-gcc",
        "-march=z13 -msoft-float -mbackchain -mpacked-stack -pg -mfentry -mrecord-mcount -mnop-mcount", *_GCC,
    ),
    _toolchain(
        "s390x-hotpatch", "s390x", "s390x-linux-gnu-gcc",
        "-march=z10 -msoft-float -mhotpatch=0,3 -mindirect-branch=thunk-extern "
        "-mfunction-return=thunk-extern -mindirect-branch-table", *_GCC,
    ),
    _toolchain(
        "s390x-clang", "s390x", "clang-19 --target=s390x-linux-gnu",
        "-march=z13 -msoft-float -mbackchain -pg -mfentry -mrecord-mcount -mnop-mcount",
    ),
    _toolchain(
        "loongarch64-clang", "loongarch64", "clang-19 --target=loongarch64-linux-gnu",
        "-mabi=lp64s -msoft-float -fpatchable-function-entry=2",
    ),
    _toolchain(
        "loongarch64-relax", "loongarch64", "clang-19 --target=loongarch64-linux-gnu",
        "-mabi=lp64s -msoft-float -fpatchable-function-entry=2 -Xclang -target-feature -Xclang +relax",
    ),
)  # fmt: skip
BY_NAME = {toolchain.name: toolchain for toolchain in TOOLCHAINS}
