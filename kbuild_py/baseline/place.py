# SPDX-License-Identifier: GPL-2.0-or-later
"""Which place in the image is the right one.

The image's symbol table has one entry of a global name, but a dozen static functions may be called
`cleanup` and some of them may even have the same bytes.  What tells them apart is that an object goes into
the image as a whole: each of its sections has one address (its *base*), and every reference to the section,
from whichever function, gives the same one.  So certain functions say where their neighbours and variables
are, which makes more functions certain, and so on until nothing new is learnt:

1. Names fix the sections that they are in: a global one by itself, a static one together with a reference.
   A section without names is recognised by its content.
2. A function *claims* a place when the place matches, agrees with all that is known, is the only one that
   does, and is backed: by a name that occurs once, by another function's reference, or by lying exactly
   where the linker puts it after (or before) a function that has claimed its place.
3. Claims and matching data *vote* for the bases of the sections that they refer to.  In the end, whoever
   disagrees with the majority is wrong, and where there is none, all are.

Nothing is ever settled by choosing one of several possible places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kbuild_py.baseline.compare import WORD, Context, Cutter, Match, Piece, match, named_like
from kbuild_py.baseline.proof import Difference
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile, Section, Symbol

# Why: resolve_btfids writes type numbers into this section of the linked image.
FILLED_LATE = (".BTF_ids",)
COLD = ".cold"  # gcc's suffix for the unlikely part of a function, which has a section of its own


@dataclass(frozen=True, slots=True)
class Code:
    """The function that begins at one place of the object, under all its names.

    stretch:    for a function in a section of its own, the section that it is in otherwise, in which the
                functions follow each other in the order of the object; else empty.
    candidates: where the image has a function of these names (of those names that it has at all).
    unique:     one of the names occurs once in the image.
    """

    index: int
    piece: Piece
    symbols: tuple[Symbol, ...]
    stretch: str
    align: int
    candidates: tuple[int, ...]
    unique: bool
    matches: Mapping[int, Match]
    differences: Mapping[int, Difference]


@dataclass(slots=True)
class Placement:
    """What is certain: addresses of functions (by `Code.index`) and bases of sections, and who said so.

    Of the functions that matched but contradict others, `refuted` has the contradiction; `displaced` are
    those that lie outside of the object's code, so that they must be another object's.  `undecided` has, of
    those that matched but are not placed, how many places are left, and what contradicts the first if none.
    `data_differs` has the variables' sections whose content is not the image's.
    """

    addresses: dict[int, int] = field(default_factory=dict)
    bases: dict[int, int] = field(default_factory=dict)
    evidence: dict[int, str] = field(default_factory=dict)
    refuted: dict[int, Difference] = field(default_factory=dict)
    displaced: set[int] = field(default_factory=set)
    undecided: dict[int, tuple[int, Difference | None]] = field(default_factory=dict)
    data_differs: dict[int, Difference] = field(default_factory=dict)
    conflicts: dict[int, str] = field(default_factory=dict)


def codes(context: Context, cutter: Cutter) -> tuple[Code, ...]:
    """The object's functions, in its order, each compared with all places that the image has for it."""
    obj = context.obj
    starts: dict[tuple[int, int], list[Symbol]] = defaultdict(list)
    for symbol in obj.symbols:
        if symbol.type == elf.STT_FUNC and symbol.section > 0 and is_code(obj.sections[symbol.section]):
            starts[symbol.section, symbol.value].append(symbol)
    result = []
    for index, ((number, start), symbols) in enumerate(sorted(starts.items())):
        section = obj.sections[number]
        piece = cutter.piece(section, start, max(symbol.size for symbol in symbols))
        entries = {symbol.name: own_entries(context, symbol) for symbol in symbols}
        named = [addresses for addresses in entries.values() if addresses]
        candidates = sorted(set.intersection(*named)) if named and piece.size else []
        outcomes = {address: match(context, piece, address) for address in candidates}
        result.append(
            Code(
                index,
                piece,
                tuple(symbols),
                _stretch(section, symbols),
                max(section.align, 1),
                tuple(candidates),
                any(len(addresses) == 1 for addresses in named),
                {address: one for address, one in outcomes.items() if isinstance(one, Match)},
                {address: one for address, one in outcomes.items() if isinstance(one, Difference)},
            )
        )
    return tuple(result)


def is_code(section: Section) -> bool:
    """Whether functions of this section go into the image."""
    return bool(section.flags & elf.SHF_EXECINSTR and section.flags & elf.SHF_ALLOC)


def own_entries(context: Context, symbol: Symbol) -> set[int]:
    """The addresses of the image's symbols that can be this one, by name and binding."""
    return {one.address for one in context.names.named(symbol.name) if named_like(symbol, one)}


def _stretch(section: Section, symbols: Iterable[Symbol]) -> str:
    for symbol in symbols:
        for name in (symbol.name, symbol.name.removesuffix(COLD)):
            if section.name.endswith(f".{name}"):
                return section.name.removesuffix(f".{name}")
    return ""


@dataclass(slots=True)
class _Votes:
    """Section -> base -> who says so.  Where there are global names, only they count."""

    decided: dict[int, dict[int, list[str]]]
    cast: dict[int, dict[int, dict[str, None]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )

    def add(self, section: int, base: int, voter: str) -> None:
        self.cast[section][base][voter] = None

    def bases(self) -> dict[int, int | None]:
        """Section -> base, None where there is no majority."""
        result: dict[int, int | None] = {}
        for section in {**self.cast, **self.decided}:
            found = self.decided.get(section) or self.cast[section]
            ranked = sorted(found.items(), key=lambda item: -len(item[1]))
            tie = len(ranked) > 1 and len(ranked[0][1]) == len(ranked[1][1])
            result[section] = None if tie else ranked[0][0]
        return result

    def others(self, section: int, base: int, voter: str) -> bool:
        """Whether anyone but `voter` votes for this base."""
        if base in self.decided.get(section, {}):
            return True
        return any(one != voter for one in self.cast.get(section, {}).get(base, ()))

    def evidence(self, section: int, base: int) -> str:
        """Who says that the section is there, for people."""
        if base in self.decided.get(section, {}):
            return f"global symbol {self.decided[section][base][0]}"
        voters = list(self.cast.get(section, {}).get(base, ()))
        more = f" and {len(voters) - 1} more" if len(voters) > 1 else ""
        return f"{voters[0]}{more}" if voters else ""


class _Solver:
    """The state of one search; `place` is the way in."""

    def __init__(self, context: Context, cutter: Cutter, all_codes: tuple[Code, ...]) -> None:
        self.context = context
        self.obj: ObjectFile = context.obj
        self.cutter = cutter
        self.codes = all_codes
        self.decided = _decided(context)
        self.allowed = _allowed(context)
        self.has_functions = {code.piece.section for code in all_codes}
        self.claims: dict[int, int] = {}
        self._data: dict[tuple[int, int], Match | Difference] = {}

    def votes(self, bases: Mapping[int, int | None], refuted: Iterable[int] = ()) -> _Votes:
        """All votes of the claims (but the refuted ones) and of the data sections whose base is known."""
        result = _Votes(self.decided)
        out = set(refuted)
        for index, address in self.claims.items():
            if index in out:
                continue
            code = self.codes[index]
            voter = code.symbols[0].name
            result.add(code.piece.section, (address - code.piece.start) % WORD, voter)
            for section, (base, _) in code.matches[address].implied.items():
                result.add(section, base, voter)
        for number, known in bases.items():
            outcome = self.data(number, known) if known is not None else None
            if isinstance(outcome, Match):
                for section, (base, _) in outcome.implied.items():
                    result.add(section, base, self.obj.sections[number].name)
        return result

    def data(self, number: int, base: int) -> Match | Difference | None:
        """A section without functions compared with the image at its base; None if it has no content."""
        section = self.obj.sections[number]
        if number in self.has_functions or not section.data or section.flags & elf.SHF_MERGE:
            return None
        if section.name in FILLED_LATE:
            return None
        key = (number, base)
        if key not in self._data:
            self._data[key] = match(self.context, self.cutter.piece(section, 0, section.size), base)
        return self._data[key]

    def search(self) -> Placement:
        bases: dict[int, int | None] = {}
        while True:
            before = len(self.claims), bases
            votes = self.votes(bases)
            bases = votes.bases()
            self._claim(bases, votes)
            if (len(self.claims), bases) == before:
                break
        return self._conclude(bases)

    def viable(self, code: Code, bases: Mapping[int, int | None]) -> list[int]:
        """The places that match and agree with what is known."""
        return [address for address in code.matches if self.disagreement(code, address, bases) is None]

    def disagreement(self, code: Code, address: int, bases: Mapping[int, int | None]) -> Difference | None:
        """The first contradiction of this place with the image's names, or with the known bases."""
        own = code.piece.section
        base = (address - code.piece.start) % WORD
        if bases.get(own, base) != base:
            name = self.obj.sections[own].name
            return Difference(0, f"other code before it in {name}", self.context.place_name(address))
        for section, (base, offset) in code.matches[address].implied.items():
            if bases.get(section, base) != base or not self.confirmed(section, base):
                return self._contradiction(offset, section, base, bases.get(section))
        return None

    def confirmed(self, number: int, base: int) -> bool:
        """Whether the image itself says that the section may be there, by a symbol's name or by content."""
        allowed = self.allowed.get(number)
        if allowed is not None:
            return base in allowed
        return isinstance(self.data(number, base), Match)

    def _claim(self, bases: Mapping[int, int | None], votes: _Votes) -> None:
        """Add the claims of functions with one viable place that is backed."""
        expected = self._expected()
        for code in self.codes:
            if code.index in self.claims:
                continue
            viable = self.viable(code, bases)
            if len(viable) > 1:
                viable = [one for one in viable if self._backed(code, one, votes, expected)]
            if len(viable) == 1 and (code.unique or self._backed(code, viable[0], votes, expected)):
                self.claims[code.index] = viable[0]

    def _backed(self, code: Code, address: int, votes: _Votes, expected: Mapping[int, set[int]]) -> bool:
        voter = code.symbols[0].name
        if votes.others(code.piece.section, (address - code.piece.start) % WORD, voter):
            return True
        if any(
            votes.others(section, base, voter) for section, (base, _) in code.matches[address].implied.items()
        ):
            return True
        return address in expected.get(code.index, ())

    def _expected(self) -> dict[int, set[int]]:
        """Where the linker puts the functions next to those that have claimed a place.

        It places sections; a function may begin behind its section's start (`piece.start`), with padding
        before it.
        """
        result: dict[int, set[int]] = defaultdict(set)
        following: dict[str, int] = {}
        preceding: dict[str, Code] = {}
        for code in self.codes:
            if not code.stretch:
                continue
            claimed = self.claims.get(code.index)
            here = following.pop(code.stretch, None)
            if here is not None:
                here += -here % code.align + code.piece.start
                result[code.index].add(here)
            start = claimed if claimed is not None else here
            if start is not None:
                # Why: a function that is not placed (an overridden weak one, say) still takes its room.
                following[code.stretch] = start + code.piece.size
            before = preceding.get(code.stretch)
            if before is not None and claimed is not None and before.index not in self.claims:
                # All starts from which this one follows, up to its alignment.
                end = claimed - code.piece.start - before.piece.size
                result[before.index] |= {
                    end - gap
                    for gap in range(code.align)
                    if (end - gap - before.piece.start) % before.align == 0
                }
            preceding[code.stretch] = code
        return result

    def _conclude(self, bases: Mapping[int, int | None]) -> Placement:
        """Take back the claims that contradict the majority, and what follows from them alone."""
        result = Placement()
        final = self.votes(bases).bases()
        for index, address in self.claims.items():
            found = self.disagreement(self.codes[index], address, final)
            if found is not None:
                result.refuted[index] = found
        result.displaced = self._displaced(result.refuted)
        out = result.refuted.keys() | result.displaced
        votes = self.votes(final, out)
        result.addresses = {index: address for index, address in self.claims.items() if index not in out}
        for number, known in votes.bases().items():
            if known is None or known != final.get(number, known):
                name = self.obj.sections[number].name
                result.conflicts[number] = f"{name}: references give it different addresses"
                continue
            outcome = self.data(number, known)
            if isinstance(outcome, Difference):
                result.data_differs[number] = outcome
                continue
            result.bases[number] = known
            result.evidence[number] = votes.evidence(number, known)
        for code in self.codes:
            if code.matches and code.index not in self.claims:
                left = len(self.viable(code, final))
                first = min(code.matches)
                result.undecided[code.index] = (
                    left,
                    self.disagreement(code, first, final) if not left else None,
                )
        if result.addresses:
            self._locate_by_name(result)
        return result

    def _displaced(self, refuted: Iterable[int]) -> set[int]:
        """Claimed or only possible places (of weak functions) that are outside of this object's code.

        The name of a strong global function is certain.  A static one may have a namesake with the same
        bytes in another file, and of several weak definitions the linker takes the first.
        """
        out = set(refuted)
        result: set[int] = set()
        stretches: dict[str, list[Code]] = defaultdict(list)
        for code in self.codes:
            if code.stretch:
                stretches[code.stretch].append(code)
        for members in stretches.values():
            placed = [self.claims.get(code.index) if code.index not in out else None for code in members]
            for position, code in enumerate(members):
                address = placed[position]
                weak = is_weak(code)
                if address is None and weak and len(code.candidates) == 1:
                    address = code.candidates[0]
                if address is None or (is_global(code) and not weak):
                    continue
                if not _fits(members, placed, position, address):
                    result.add(code.index)
        return result

    def _locate_by_name(self, result: Placement) -> None:
        """Variables that no proven code refers to, but whose name and content occur once in the image."""
        undecided = result.bases.keys() | result.data_differs.keys() | result.conflicts.keys()
        found: dict[int, set[int]] = defaultdict(set)
        voter: dict[int, str] = {}
        for symbol in self.obj.symbols:
            if symbol.type != elf.STT_OBJECT or symbol.section <= 0 or symbol.section in undecided:
                continue
            section = self.obj.sections[symbol.section]
            own = own_entries(self.context, symbol)
            if not section.flags & elf.SHF_ALLOC or section.flags & elf.SHF_MERGE or is_code(section):
                continue
            if len(own) == 1 and len(self.context.names.named(symbol.name)) == 1:
                found[section.index].add((own.pop() - symbol.value) % WORD)
                voter[section.index] = symbol.name
        for number, bases in found.items():
            if len(bases) != 1:
                continue
            (base,) = bases
            outcome = self.data(number, base)
            if isinstance(outcome, Difference):
                continue
            implied = outcome.implied.items() if outcome is not None else ()
            if all(result.bases.get(other, there) == there for other, (there, _) in implied):
                result.bases[number] = base
                result.evidence[number] = f"the only symbol {voter[number]} and the same content"

    def _contradiction(self, offset: int, number: int, base: int, known: int | None) -> Difference:
        section = self.obj.sections[number]
        symbol = next((one for one in self.obj.symbols if one.section == number and one.name), None)
        name, value = (symbol.name, symbol.value) if symbol is not None else (section.name, 0)
        ours = f"a reference to {name}"
        if known is not None and known != base:
            ours += f" at {self.context.place_name((known + value) % WORD)}"
        return Difference(offset, ours, self.context.place_name((base + value) % WORD))


def _allowed(context: Context) -> dict[int, frozenset[int]]:
    """Section -> the bases at which the image has the symbols of this section; only for those that it has.

    Where the layout of a section with several symbols is another one than the image's, no base fits all of
    them; then those that fit one symbol stay, for the sake of a message about the right function.
    """
    found: dict[int, list[frozenset[int]]] = defaultdict(list)
    for symbol in context.obj.symbols:
        if symbol.section > 0 and symbol.name and symbol.bind != elf.STB_WEAK:
            addresses = own_entries(context, symbol)
            if addresses:
                found[symbol.section].append(frozenset((one - symbol.value) % WORD for one in addresses))
    return {
        section: frozenset.intersection(*bases) or frozenset.union(*bases) for section, bases in found.items()
    }


def _decided(context: Context) -> dict[int, dict[int, list[str]]]:
    """Section -> base -> the global symbols in it that say so."""
    result: dict[int, dict[int, list[str]]] = defaultdict(dict)
    for symbol in context.obj.symbols:
        # Why: which of several weak definitions the linker took, the name does not say.
        if symbol.bind in (elf.STB_LOCAL, elf.STB_WEAK) or symbol.section <= 0 or not symbol.name:
            continue
        section = context.obj.sections[symbol.section]
        found = own_entries(context, symbol)
        if len(found) == 1 and section.flags & elf.SHF_ALLOC and not section.flags & elf.SHF_MERGE:
            result[section.index].setdefault((found.pop() - symbol.value) % WORD, []).append(symbol.name)
    return dict(result)


def is_weak(code: Code) -> bool:
    """Whether another definition may take the function's place."""
    return all(symbol.bind == elf.STB_WEAK for symbol in code.symbols)


def is_global(code: Code) -> bool:
    """Whether one of the function's names is known to the whole kernel."""
    return any(symbol.bind != elf.STB_LOCAL for symbol in code.symbols)


def _fits(members: list[Code], placed: list[int | None], position: int, address: int) -> bool:
    """Whether a place is where the object's order puts the function, as far as its placed neighbours tell."""
    code = members[position]
    before = next((at for at in range(position - 1, -1, -1) if placed[at] is not None), None)
    after = next((at for at in range(position + 1, len(members)) if placed[at] is not None), None)
    low = high = None
    if before is not None:
        low = (placed[before] or 0) + members[before].piece.size
        low += -low % code.align + code.piece.start
    if after is not None:
        high = (placed[after] or 0) - members[after].piece.start
    if low is not None and high is not None:
        return low > high or low <= address <= high - code.piece.size
    # Why: with neighbours on one side only, just the next one says exactly where the function is.
    if low is not None and before == position - 1:
        return address == low
    if high is not None and after == position + 1:
        end = address + code.piece.size
        return end + -end % members[after].align == high
    return True


def place(context: Context, cutter: Cutter, all_codes: tuple[Code, ...]) -> Placement:
    """Find out where the object's functions and sections are in the image, as far as that is certain."""
    return _Solver(context, cutter, all_codes).search()
