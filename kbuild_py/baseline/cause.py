# SPDX-License-Identifier: GPL-2.0-or-later
"""Why an object is not what was shipped: likely causes, each with its evidence.

A mismatch has one of four causes: another compiler, another flag, another configuration option, another
revision of the source.  What differs first, in how many functions, tells them apart rather well: a flag
shows in nearly all functions and in the same way, an option that changes a structure shows as offsets of
fields, an edited source shows in one function, or as functions that only one side has.

These are hints for people.  Nothing is decided by them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import capstone

from kbuild_py.baseline.compare import Context, ImageNames, describe
from kbuild_py.baseline.proof import Difference, FunctionProof, Proof, State
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile, Section

LONGEST_INSTRUCTION = 15
SHOWN_NAMES = 5

JUMP = "a jump is encoded in another length, as happens with and without -ffunction-sections"
LAYOUT = "a field has another offset: a configuration option that changes a structure, or another header"
CONSTANT = "a constant differs: a configuration option, or another revision of the source"
TEXT = "a string or constant differs: another revision of the source, or of the version and path in it"
CODE = "other instructions: another revision of the source, a configuration option or a compiler flag"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One decoded instruction; `target` names what its relocation or its operand leads to."""

    mnemonic: str
    operands: str
    size: int
    target: str

    def __str__(self) -> str:
        operands = self.target if self.target and self.mnemonic.startswith(("call", "j")) else self.operands
        return f"{self.mnemonic} {operands}".strip()


# Traces of compiler flags: what only one of the two sides has -> the flag and its option.
_Trace = Callable[[Instruction], bool]
FLAGS: tuple[tuple[_Trace, str], ...] = (
    (lambda one: one.target in ("__fentry__", "mcount"), "-pg -mfentry (CONFIG_FUNCTION_TRACER)"),
    (lambda one: one.mnemonic == "endbr64", "-fcf-protection=branch (CONFIG_X86_KERNEL_IBT)"),
    (lambda one: one.target == "__x86_return_thunk", "-mfunction-return=thunk-extern (CONFIG_RETHUNK)"),
    (
        lambda one: one.target.startswith("__x86_indirect_thunk"),
        "-mindirect-branch=thunk-extern (CONFIG_RETPOLINE)",
    ),
    (lambda one: one.mnemonic == "int3", "-mharden-sls=all (CONFIG_SLS)"),
    (lambda one: "gs:[0x28]" in one.operands, "-fstack-protector-strong (CONFIG_STACKPROTECTOR_STRONG)"),
    (lambda one: one.target == "__stack_chk_fail", "-fstack-protector (CONFIG_STACKPROTECTOR)"),
    (
        lambda one: re.match(r"__(asan|hwasan|tsan|ubsan|sanitizer_cov|msan)_", one.target) is not None,
        "-fsanitize (CONFIG_KASAN, CONFIG_KCSAN, CONFIG_UBSAN, CONFIG_KCOV)",
    ),
)
NO_OBJTOOL = "objtool has not rewritten the object's jump labels, or did with other flags"


@dataclass(frozen=True, slots=True)
class _Pair:
    """The instructions of both sides at the first difference of a function."""

    ours: Instruction
    theirs: Instruction

    def flag(self) -> str:
        """The compiler flag whose trace only one side shows, or empty."""
        for trace, flag in FLAGS:
            if trace(self.ours) != trace(self.theirs):
                return flag
        return ""

    def kind(self) -> str:
        ours, theirs = self.ours, self.theirs
        if _is_jump(ours) and theirs.mnemonic == "nop":
            return NO_OBJTOOL
        if _is_jump(ours) and ours.mnemonic == theirs.mnemonic and ours.size != theirs.size:
            return JUMP
        if ours.mnemonic != theirs.mnemonic:
            return CODE
        inside = re.compile(r"(?<=[+-] )(?:0x)?[0-9a-f]+(?=\])")
        if inside.sub("", ours.operands) == inside.sub("", theirs.operands) != ours.operands:
            return LAYOUT
        number = re.compile(r"\b(?:0x[0-9a-f]+|[0-9]+)\b")
        if not _is_jump(ours) and number.sub("", ours.operands) == number.sub("", theirs.operands):
            return CONSTANT
        return CODE


def _is_jump(one: Instruction) -> bool:
    return one.mnemonic.startswith("j")


def explain(context: Context, one: FunctionProof) -> tuple[FunctionProof, str]:
    """The function with its difference as instructions and with its likely cause; and the flag, if any."""
    difference, address = one.difference, one.address
    if difference is None:
        return one, ""
    if address is None or context.obj.machine != elf.EM_X86_64:
        return one, ""
    pair = _pair(context, one, difference.offset, address)
    if difference.ours.startswith("a reference to"):
        flag = pair.flag() if pair else ""
        cause = TEXT if difference.ours.startswith(('a reference to "', "a reference to bytes")) else CODE
        return replace(one, cause=f"the compiler flag {flag}" if flag else cause), flag
    if pair is None:
        return replace(one, cause=CODE), ""
    ours = f"{difference.ours} ({pair.ours})"
    theirs = f"{difference.theirs} ({pair.theirs})"
    flag = pair.flag()
    return (
        replace(
            one,
            difference=Difference(difference.offset, ours, theirs),
            cause=f"the compiler flag {flag}" if flag else pair.kind(),
        ),
        flag,
    )


def _pair(context: Context, one: FunctionProof, offset: int, address: int) -> _Pair | None:
    """The instructions around `offset`: up to there both sides have the same ones."""
    symbol = next(
        (s for s in context.obj.symbols if s.name == one.name and s.section > 0 and s.type == elf.STT_FUNC),
        None,
    )
    if symbol is None:
        return None
    section = context.obj.sections[symbol.section]
    code = section.data[symbol.value : symbol.value + symbol.size]
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    start = 0
    for _, size, _, _ in decoder.disasm_lite(code, 0):
        if start + size > offset:
            break
        start += size
    theirs = b""
    for size in range(LONGEST_INSTRUCTION, 0, -1):
        if found := context.read(address + start, size):
            theirs = found
            break
    names = _targets(context.obj, section)
    ours = next(decoder.disasm_lite(code[start:], address + start, 1), None)
    other = next(decoder.disasm_lite(theirs, address + start, 1), None)
    if ours is None or other is None:
        return None
    at = symbol.value + start
    target = next((names[at + k] for k in range(ours[1]) if at + k in names), "")
    return _Pair(
        Instruction(ours[2], ours[3], ours[1], target),
        Instruction(other[2], other[3], other[1], _branch_target(context, other[2], other[3])),
    )


def _targets(obj: ObjectFile, section: Section) -> dict[int, str]:
    """Offset of a relocation -> what it names."""
    return {one.offset: describe(obj, obj.symbols[one.symbol], one.addend) for one in section.relocations}


def _branch_target(context: Context, mnemonic: str, operands: str) -> str:
    if mnemonic.startswith(("call", "j")) and operands.startswith("0x"):
        return context.place_name(int(operands, 16))
    return ""


def with_causes(context: Context, proof: Proof) -> Proof:
    """The proof with a likely cause for each mismatch, and for the object as a whole."""
    functions, flags, kinds = [], Counter[str](), Counter[str]()
    for one in proof.functions:
        if one.state is State.MISMATCH:
            one, flag = explain(context, one)
            if flag:
                flags[flag] += 1
            elif one.cause:
                kinds[one.cause] += 1
        functions.append(one)
    proof = replace(proof, functions=tuple(functions))
    return replace(proof, causes=tuple(_causes(context, proof, flags, kinds)))


def _causes(context: Context, proof: Proof, flags: Counter[str], kinds: Counter[str]) -> list[str]:
    counts = proof.counts()
    wrong, compared = counts[State.MISMATCH], counts[State.MISMATCH] + counts[State.PROVEN]
    missing = [one.name for one in proof.functions if one.state is State.NOT_IN_IMAGE]
    if not wrong and not missing:
        return []
    result = []
    if wrong and (text := compiler_difference(context)):
        result.append(text)
    for flag, count in flags.most_common():
        result.append(
            f"compiler flag {flag}: {count} of {wrong} functions that differ show it on one side only"
        )
    if kinds[NO_OBJTOOL]:
        result.append(f"{NO_OBJTOOL}: {kinds[NO_OBJTOOL]} of {wrong} functions that differ show it")
    if kinds[LAYOUT] > 1:
        result.append(
            f"a configuration option that changes a structure, or another revision of a header: "
            f"{kinds[LAYOUT]} of {wrong} functions that differ do so in the offset of a field"
        )
    extra = _unknown_neighbours(context, proof)
    if missing:
        result.append(
            f"another revision of the source or another configuration: the image does not have "
            f"{_some(missing)}, which this object has"
        )
    if extra:
        result.append(
            f"another revision of the source or another configuration: the image has {_some(extra)} between "
            "this object's functions"
        )
    if wrong and not result:
        if wrong * 2 >= compared and compared > 1:
            result.append(
                f"a compiler flag (optimisation, -march) or an option for the whole kernel: {wrong} of "
                f"{compared} functions differ"
            )
        elif set(kinds) == {JUMP}:
            result.append("-ffunction-sections: compare with an object that is compiled without it as well")
        else:
            result.append(
                "another revision of the source, or an option that these functions depend on: only "
                f"{wrong} of {compared} functions differ"
            )
    return result


def compiler_difference(context: Context) -> str:
    """Text when the compilers of object (its .comment) and image (its banner) are different, or empty."""
    banner = _banner(context)
    section = next((one for one in context.obj.sections if one.name == ".comment"), None)
    if section is None or not banner:
        return ""
    for raw in section.data.split(b"\0"):
        # gcc writes `GCC: (Debian 12.2.0-14) 12.2.0`, clang `Debian clang version 14.0.6`.
        text = raw.decode(errors="replace").removeprefix("GCC: ").strip()
        if text and text not in banner:
            return f"another compiler: the object was compiled by {text}, the image says {_compiler(banner)}"
    return ""


def _banner(context: Context) -> str:
    entries = context.names.named("linux_banner")
    for size in (512, 256, 128):
        found = context.read(entries[0].address, size) if len(entries) == 1 else None
        if found and found.startswith(b"Linux version "):
            return found.split(b"\0")[0].decode(errors="replace")
    return ""


def _compiler(banner: str) -> str:
    """The part of the banner that names the compiler: its second group in parentheses."""
    depth, groups, start = 0, [], 0
    for position, letter in enumerate(banner):
        if letter == "(":
            depth += 1
            start = position + 1 if depth == 1 else start
        elif letter == ")":
            depth -= 1
            if depth == 0:
                groups.append(banner[start:position])
    return groups[1] if len(groups) > 1 else banner


def _unknown_neighbours(context: Context, proof: Proof) -> list[str]:
    """Functions that the image has between those of this object, and the object has not."""
    own = {symbol.name for symbol in context.obj.symbols}
    spans: dict[str, list[tuple[int, int]]] = {}
    for one in proof.functions:
        if one.state is State.PROVEN and one.address is not None and one.section.endswith(f".{one.name}"):
            stretch = one.section.removesuffix(f".{one.name}")
            spans.setdefault(stretch, []).append((one.address, one.address + one.size))
    result = []
    for span in spans.values():
        first, last = min(span)[0], max(span)[0]
        for symbol in _between(context.names, first, last):
            if symbol not in own:
                result.append(symbol)
    return result


def _between(names: ImageNames, first: int, last: int) -> list[str]:
    """The names of all image symbols from `first` up to `last`."""
    result = []
    address = first
    while address < last:
        result += [one.name for one in names.containing(address)]
        step = names.size(address)
        if step <= 0:
            break
        address += step
    return result


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    return shown if len(names) <= SHOWN_NAMES else f"{shown} and {len(names) - SHOWN_NAMES} more"
