# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole proof of one object, from comparison to report.

The object is compiled with a section per function, the shipped one was not.  A jump from one function to
another is then sometimes encoded in fewer bytes, which moves the rest of the function.  For the functions
that do not match, the same proof is made with an object compiled without those sections (`plain`), in which
the assembler has resolved such jumps just as in the shipped one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from kbuild_py.baseline.cause import with_causes
from kbuild_py.baseline.compare import WORD, Context, Cutter, Image, ImageNames
from kbuild_py.baseline.place import Code, codes, is_weak, own_entries, place
from kbuild_py.baseline.proof import Difference, FunctionProof, Located, Proof, State
from kbuild_py.baseline.spans import Sites
from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import architecture
from kbuild_py.elf.object import ObjectFile, Symbol
from kbuild_py.errors import refuse

PlainObject = ObjectFile | Callable[[], ObjectFile] | None
PADDING = "__pfx_"
DISCARDED = (".exit.text", ".discard")  # sections that linkers of built-in code may drop


def prove(
    original: ObjectFile,
    image: Image,
    names: ImageNames,
    *,
    plain: PlainObject = None,
    apart: bool = False,
) -> Proof:
    """Prove that the functions of `original` are those of the shipped image.

    original: compiled from the unpatched source with -ffunction-sections -fdata-sections, with whatever the
              kernel does to each object (objtool) done.
    image:    the shipped image's bytes by linked address.
    names:    the image's symbols (kallsyms).
    plain:    the same source compiled without the two flags, or a function that makes it when it is needed.
    apart:    the image is a module's, whose sections move each for itself.

    Raises `UserError` for an architecture whose relocations are not known.
    """
    arch = architecture(original.machine, original.path)
    if not arch.complete:
        raise refuse(original.path, f"the baseline proof does not know the relocations of {arch.name} yet")
    proof = _Prover(original, image, names, apart).proof()
    if plain is not None and any(one.state is State.MISMATCH for one in proof.functions):
        other = plain() if callable(plain) else plain
        proof = _with_plain(proof, _Prover(other, image, names, apart).proof())
    return with_causes(Context(original, image, names), proof)


class _Prover:
    """One object against the image."""

    def __init__(self, obj: ObjectFile, image: Image, names: ImageNames, apart: bool) -> None:
        self.obj = obj
        self.apart = apart
        self.context = Context(obj, image, names)
        self.cutter = Cutter(obj)
        self.sites = Sites(obj)
        self.codes = codes(self.context, self.cutter)
        self.placement = place(self.context, self.cutter, self.codes)

    def proof(self) -> Proof:
        functions = tuple(
            self._function(code, symbol)
            for code in self.codes
            for symbol in _in_order(code.symbols)
            # objtool's name for the padding before a function: compared, but no function.
            if not symbol.name.startswith(PADDING)
        )
        located, problems = self._located(functions)
        problems += [
            f"{self.obj.sections[number].name}: {difference}"
            for number, difference in sorted(self.placement.data_differs.items())
        ]
        problems += [text for _, text in sorted(self.placement.conflicts.items())]
        return Proof(self.obj.path, functions, located, tuple(problems))

    def _function(self, code: Code, symbol: Symbol) -> FunctionProof:
        section = self.obj.sections[symbol.section].name
        state, address, reason, difference = self._verdict(code, symbol)
        sympos: int | None = None
        spans: tuple[tuple[int, int], ...] = ()
        if address is not None and state is State.PROVEN:
            found = self.context.image.read(address, code.piece.size)
            spans = self.sites.spans(code.piece, address, found, self.apart)
            only = len(self.context.names.named(symbol.name)) == 1
            sympos = 0 if only else self.context.names.sympos(symbol.name, address)
        size = code.piece.size
        return FunctionProof(
            symbol.name, section, state, address, size, sympos, reason, "", difference, spans=spans
        )

    def _verdict(self, code: Code, symbol: Symbol) -> tuple[State, int | None, str, Difference | None]:
        """State, address, reason and first difference of one name of a function."""
        entries = self.context.names.named(symbol.name)
        if not entries:
            reason = "the image has no symbol of this name: its code is not there, or inlined everywhere"
            if self.obj.sections[symbol.section].name.startswith(DISCARDED):
                reason = "the linker discards this section from built-in code"
            return State.NOT_IN_IMAGE, None, reason, None
        own = own_entries(self.context, symbol)
        if not own:
            letters = ", ".join(sorted({entry.type for entry in entries}))
            if symbol.bind == elf.STB_WEAK and any(entry.type.isupper() for entry in entries):
                reason = "this definition is weak, and the image uses a strong one from another file"
                return State.OVERRIDDEN_WEAK, None, reason, None
            reason = f"the image's symbol of this name has another binding (type {letters} in kallsyms)"
            return State.MISMATCH, None, reason, None
        if not code.piece.size:
            return State.AMBIGUOUS, None, "the function's symbol has no size", None
        if code.index in self.placement.displaced:
            if is_weak(code):
                reason = "this definition is weak, and the image uses another file's"
                return State.OVERRIDDEN_WEAK, None, reason, None
            return State.MISMATCH, None, "the image has this code outside of this object's, only", None
        address = self.placement.addresses.get(code.index)
        if address is not None:
            return State.PROVEN, address, "", None
        if code.index in self.placement.refuted:
            difference = self.placement.refuted[code.index]
            return State.MISMATCH, None, "what it refers to is somewhere else in the image", difference
        if not code.candidates:
            return State.MISMATCH, None, "its names are at different addresses in the image", None
        if code.matches:
            return self._undecided(code)
        # Of several functions of this name, the one that is equal for longest is meant.
        best = max(code.differences, key=lambda one: code.differences[one].offset)
        only = best if len(code.candidates) == 1 else None
        reason = "the image has other code under this name"
        if only is None:
            reason = f"none of the image's {len(code.candidates)} functions of this name has this code"
        return State.MISMATCH, only, reason, code.differences[best]

    def _undecided(self, code: Code) -> tuple[State, int | None, str, Difference | None]:
        left, contradiction = self.placement.undecided[code.index]
        if not left:
            return State.MISMATCH, None, "what it refers to is somewhere else in the image", contradiction
        if left > 1:
            return State.AMBIGUOUS, None, f"{left} functions of this name have this code", None
        reason = (
            f"one of {len(code.candidates)} functions of this name has this code, and nothing else shows "
            "that it is this object's"
        )
        return State.AMBIGUOUS, None, reason, None

    def _located(self, functions: tuple[FunctionProof, ...]) -> tuple[tuple[Located, ...], list[str]]:
        """All symbols with a certain address, by name, and what contradicts the image's symbols."""
        proven = {one.name: one for one in functions if one.state is State.PROVEN}
        found: dict[str, Located] = {}
        problems: list[str] = []
        repeated = Counter(
            symbol.name for symbol in self.obj.symbols if symbol.bind == elf.STB_LOCAL and symbol.section > 0
        )
        for symbol in self.obj.symbols:
            if not symbol.name or symbol.type in (elf.STT_FILE, elf.STT_SECTION):
                continue
            if symbol.bind != elf.STB_LOCAL:
                where = self.context.global_addresses(symbol.name)
                if len(where) == 1:
                    found[symbol.name] = Located(symbol.name, next(iter(where)), "global name")
            elif symbol.section > 0 and repeated[symbol.name] == 1:
                if symbol.name in proven:
                    address = proven[symbol.name].address
                    assert address is not None
                    found[symbol.name] = Located(symbol.name, address, "proven function")
                else:
                    self._locate_local(symbol, found, problems)
        return tuple(found.values()), problems

    def _locate_local(self, symbol: Symbol, found: dict[str, Located], problems: list[str]) -> None:
        section = self.obj.sections[symbol.section]
        if section.flags & elf.SHF_MERGE or not section.flags & elf.SHF_ALLOC:
            return
        own = own_entries(self.context, symbol)
        base = self.placement.bases.get(section.index)
        if base is not None:
            address = (base + symbol.value) % WORD
            evidence = self.placement.evidence[section.index]
            if own and address not in own:
                at = ", ".join(f"{one:#x}" for one in sorted(own))
                problems.append(
                    f"{symbol.name}: {evidence} says that it is at {address:#x}, but the image's symbols of "
                    f"this name are at {at}"
                )
                return
            found[symbol.name] = Located(symbol.name, address, f"referenced by {evidence}")


def _in_order(symbols: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
    return tuple(sorted(symbols, key=lambda symbol: symbol.index))


def _with_plain(proof: Proof, plain: Proof) -> Proof:
    """Adopt from the plain object's proof the functions that only it proves, and what they refer to.

    Both proofs must agree on every symbol that both have located; one that they place differently is taken
    out, and a function that it belongs to is not adopted.
    """
    ours, theirs = proof.addresses, plain.addresses
    conflicts = {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
    candidates = {one.name: one for one in plain.functions if one.state is State.PROVEN}
    functions, adopted = [], False
    for one in proof.functions:
        other = candidates.get(one.name)
        if one.state is State.MISMATCH and other is not None and one.name not in conflicts:
            one = replace(other, section=one.section, plain=True)
            adopted = True
        functions.append(one)
    if not adopted:
        return proof
    located = [one for one in proof.located if one.name not in conflicts]
    known = {one.name for one in located} | conflicts
    located += [one for one in plain.located if one.name not in known]
    problems = [f"{name}: the plain object gives it another address" for name in sorted(conflicts)]
    return replace(
        proof,
        functions=tuple(functions),
        located=tuple(located),
        problems=(*proof.problems, *problems),
    )
