# SPDX-License-Identifier: GPL-2.0-or-later
"""Why an object is not what was shipped: likely causes, each with its evidence.

A mismatch has one of four causes: another compiler, another flag, another configuration option, another
revision of the source.  What differs, and in how many functions, tells them apart rather well:

* The object says which compiler made it, and so does the image.
* A flag leaves traces (a call at the start of functions, a check at their end), and if one side has them
  nowhere and the other somewhere, that is the flag.
* An option that changes a structure shows as offsets of fields.
* An edited source shows in a few functions, or as functions that only one side has.

The first byte that differs is often the distance of a jump over the place that matters.  So both sides are
decoded and walked side by side to the first instruction that is really another.

These are hints for people.  Nothing is decided by them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import capstone

from kbuild_py.baseline.compare import Context, ImageNames, describe
from kbuild_py.baseline.proof import Difference, FunctionProof, Proof, State
from kbuild_py.elf import constants as elf

LONGEST_FUNCTION = 1 << 16  # bytes of the image that are decoded at most
SHOWN_NAMES = 5

JUMP = "only the distances of jumps differ, as they do with and without -ffunction-sections"
LAYOUT = "a field has another offset: a configuration option that changes a structure, or another header"
CONSTANT = "a constant differs: a configuration option, or another revision of the source"
TEXT = "a string or constant differs: another revision of the source, or of the version and path in it"
CODE = "other instructions: another revision of the source, a configuration option or a compiler flag"
NO_OBJTOOL = "objtool has not rewritten the object's jump labels, or did so with other flags"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One decoded instruction.

    target:  what its relocation or its branch leads to, if anything
    aliases: other names of the target
    """

    offset: int
    mnemonic: str
    operands: str
    target: str
    relocated: bool
    aliases: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.mnemonic} {self.target if self.is_branch and self.target else self.operands}".strip()

    @property
    def is_branch(self) -> bool:
        return self.mnemonic[0] == "j" or self.mnemonic == "call"


# The traces that compiler flags leave in instructions -> the flag and its option.
Trace = Callable[[Instruction], bool]
NEW_INSTRUCTIONS = re.compile(r"andn|bextr|bls(i|msk|r)|bzhi|mulx|pdep|pext|rorx|s(ar|hl|hr)x|movbe")
SANITIZERS = re.compile(r"__(asan|hwasan|tsan|ubsan|sanitizer_cov|msan)_")
FLAGS: tuple[tuple[str, Trace], ...] = (
    ("-fcf-protection=branch (CONFIG_X86_KERNEL_IBT)", lambda one: one.mnemonic == "endbr64"),
    ("-pg -mfentry (CONFIG_FUNCTION_TRACER)", lambda one: one.target in ("__fentry__", "mcount")),
    (
        "-fstack-protector-strong (CONFIG_STACKPROTECTOR_STRONG)",
        lambda one: "gs:[0x28]" in one.operands or one.target == "__stack_chk_fail",
    ),
    (
        "-mfunction-return=thunk-extern (CONFIG_RETHUNK)",
        lambda one: one.target == "__x86_return_thunk",
    ),
    (
        "-mindirect-branch=thunk-extern (CONFIG_RETPOLINE)",
        lambda one: one.target.startswith("__x86_indirect_thunk"),
    ),
    ("-mharden-sls=all (CONFIG_SLS)", lambda one: one.mnemonic == "int3"),
    ("-march (processor type)", lambda one: NEW_INSTRUCTIONS.fullmatch(one.mnemonic) is not None),
    (
        "-fsanitize (CONFIG_KASAN, CONFIG_KCSAN, CONFIG_UBSAN, CONFIG_KCOV)",
        lambda one: SANITIZERS.match(one.target) is not None,
    ),
)


@dataclass(frozen=True, slots=True)
class _Bodies:
    """Both sides of a function, decoded."""

    ours: tuple[Instruction, ...]
    theirs: tuple[Instruction, ...]

    def first_other(self) -> tuple[Instruction, Instruction] | None:
        """The first instructions that differ in more than the distance of a jump."""
        for ours, theirs in zip(self.ours, self.theirs, strict=False):
            if ours.mnemonic != theirs.mnemonic:
                return ours, theirs
            if ours.is_branch:
                if ours.target and theirs.target and ours.relocated and not _same_target(ours, theirs):
                    return ours, theirs
            elif ours.relocated:
                if _NUMBER.sub("", ours.operands) != _NUMBER.sub("", theirs.operands):
                    return ours, theirs
            elif ours.operands != theirs.operands:
                return ours, theirs
        return None


_NUMBER = re.compile(r"\b(?:0x[0-9a-f]+|[0-9]+)\b| [+-] (?:0x[0-9a-f]+|[0-9]+)")
_FIELD = re.compile(r"(?<=[+-] )(?:0x)?[0-9a-f]+(?=\])")


def _same_target(ours: Instruction, theirs: Instruction) -> bool:
    """Whether two branches may lead to the same function, as far as a section's name can tell."""
    return ours.target.startswith(".") or ours.target in theirs.aliases


def _kind(pair: tuple[Instruction, Instruction] | None) -> str:
    if pair is None:
        return JUMP
    ours, theirs = pair
    if ours.mnemonic[0] == "j" and theirs.mnemonic == "nop":
        return NO_OBJTOOL
    if ours.mnemonic != theirs.mnemonic or ours.is_branch:
        return CODE
    if _FIELD.sub("", ours.operands) == _FIELD.sub("", theirs.operands):
        return LAYOUT
    if _NUMBER.sub("", ours.operands) == _NUMBER.sub("", theirs.operands):
        return CONSTANT
    return CODE


def _bodies(context: Context, one: FunctionProof) -> _Bodies | None:
    """The function in the object and in the image; None where the image's place is not known."""
    symbol = next(
        (s for s in context.obj.symbols if s.name == one.name and s.section > 0 and s.type == elf.STT_FUNC),
        None,
    )
    if symbol is None or one.address is None:
        return None
    size = min(context.names.size(one.address) or symbol.size, LONGEST_FUNCTION)
    # Why: what the linker fills the gap to the next function with looks like code.
    theirs = (context.read(one.address, size) or b"").rstrip(b"\xcc")
    section = context.obj.sections[symbol.section]
    fields = {
        relocation.offset - symbol.value: describe(
            context.obj, context.obj.symbols[relocation.symbol], relocation.addend
        )
        for relocation in section.relocations
        if symbol.value <= relocation.offset < symbol.value + symbol.size
    }
    code = section.data[symbol.value : symbol.value + symbol.size]
    return _Bodies(
        tuple(_decode(context, code, one.address, fields)), tuple(_decode(context, theirs, one.address, {}))
    )


def _decode(context: Context, code: bytes, address: int, fields: dict[int, str]) -> Iterator[Instruction]:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for at, size, mnemonic, operands in decoder.disasm_lite(code, address):
        offset = at - address
        names = [fields[field] for field in range(offset, offset + size) if field in fields]
        target = names[0] if names else ""
        aliases = frozenset[str]()
        if not target and operands.startswith("0x") and (mnemonic[0] == "j" or mnemonic == "call"):
            leads_to = int(operands, 16)
            target = context.place_name(leads_to)
            aliases = frozenset(one.name for one in context.names.containing(leads_to))
        yield Instruction(offset, mnemonic, operands, target, bool(names), aliases)


def with_causes(context: Context, proof: Proof) -> Proof:
    """The proof with a likely cause for each mismatch, and for the object as a whole."""
    wrong = [one for one in proof.functions if one.state is State.MISMATCH]
    if not wrong and all(one.state is not State.NOT_IN_IMAGE for one in proof.functions):
        return proof
    decoded = context.obj.machine == elf.EM_X86_64
    bodies = {one.name: found for one in wrong if decoded and (found := _bodies(context, one)) is not None}
    flags = _flags(context, proof, bodies)
    kinds = Counter[str]()
    functions = []
    for one in proof.functions:
        if one.state is State.MISMATCH:
            one = _explained(one, bodies.get(one.name), flags)
            kinds[one.cause] += 1
        functions.append(one)
    proof = replace(proof, functions=tuple(functions))
    return replace(proof, causes=tuple(_causes(context, proof, flags, kinds)))


def _flags(context: Context, proof: Proof, bodies: dict[str, _Bodies]) -> dict[str, set[str]]:
    """Flag -> functions that show it, for flags whose trace one side has and the other has nowhere."""
    same: set[str] = set()
    ours: dict[str, set[str]] = {}
    theirs: dict[str, set[str]] = {}
    for name, pair in bodies.items():
        for flag, trace in FLAGS:
            if any(map(trace, pair.ours)):
                ours.setdefault(flag, set()).add(name)
            if any(map(trace, pair.theirs)):
                theirs.setdefault(flag, set()).add(name)
    suspects = ours.keys() ^ theirs.keys()
    for one in proof.functions:
        if one.state is State.PROVEN and suspects - same:
            found = _bodies(context, one)
            for flag, trace in FLAGS:
                if found is not None and flag in suspects and any(map(trace, found.ours)):
                    same.add(flag)
    return {flag: ours.get(flag) or theirs[flag] for flag, _ in FLAGS if flag in suspects - same}


def _explained(one: FunctionProof, bodies: _Bodies | None, flags: dict[str, set[str]]) -> FunctionProof:
    """The function with its likely cause, and with instructions in its difference."""
    for flag, names in flags.items():
        if one.name in names:
            one = replace(one, cause=f"the compiler flag {flag}")
            break
    difference = one.difference
    if difference is None or bodies is None:
        return one
    if difference.ours.startswith("a reference to"):
        return one if one.cause else replace(one, cause=TEXT if difference.ours[15] in '"b' else CODE)
    pair = bodies.first_other()
    if pair is not None:
        shown = Difference(pair[0].offset, str(pair[0]), str(pair[1]))
        one = replace(one, difference=shown if shown.ours != shown.theirs else difference)
    return one if one.cause else replace(one, cause=_kind(pair))


def _causes(context: Context, proof: Proof, flags: dict[str, set[str]], kinds: Counter[str]) -> list[str]:
    counts = proof.counts()
    wrong, compared = counts[State.MISMATCH], counts[State.MISMATCH] + counts[State.PROVEN]
    missing = [one.name for one in proof.functions if one.state is State.NOT_IN_IMAGE]
    result = []
    if wrong and (text := compiler_difference(context)):
        result.append(text)
    for flag, names in flags.items():
        result.append(
            f"the compiler flag {flag}: one side shows it, in {_some(sorted(names))}; the other nowhere"
        )
    if kinds[NO_OBJTOOL] * 4 >= wrong > 0:
        result.append(f"{NO_OBJTOOL}: {kinds[NO_OBJTOOL]} of {wrong} functions that differ show it")
    if kinds[LAYOUT] > 1:
        result.append(
            "a configuration option that changes a structure, or another revision of a header: "
            f"{kinds[LAYOUT]} of {wrong} functions that differ do so in the offset of a field"
        )
    if not result and compared > 1 and wrong * 2 >= compared:
        result.append(
            "a compiler flag (optimisation, -march) or an option for the whole kernel: "
            f"{wrong} of {compared} functions differ"
        )
    if missing:
        result.append(
            "another revision of the source, another configuration or other optimisation: the image does not "
            f"have {_some(missing)}, which this object has"
        )
    if extra := _unknown_neighbours(context, proof):
        result.append(
            "another revision of the source, another configuration or other optimisation: the image has "
            f"{_some(extra)} between this object's functions"
        )
    if wrong and not result and set(kinds) == {JUMP}:
        result.append("-ffunction-sections: compare with an object that is compiled without it as well")
    elif wrong and not result:
        result.append(
            "another revision of the source, or an option that these functions depend on: "
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
