# SPDX-License-Identifier: GPL-2.0-or-later
"""Which place in the image is the right one.

The image's symbol table has one entry of a global name, but a dozen static functions may be called
`cleanup` and some of them may even have the same bytes.  What tells them apart is that an object goes into
the image as a whole: each of its sections has one address (its *base*), and every reference to the section,
from whichever function, gives the same one.  So certain functions say where their neighbours and variables
are, which makes more functions certain, and so on until nothing new is learnt:

1. Global names fix the sections that they are in.
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

from kbuild_py.baseline.compare import Context, Cutter, Match, Piece, match, named_like
from kbuild_py.baseline.proof import Difference
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile, Section, Symbol

COLD = ".cold"  # gcc's suffix for the unlikely part of a function, which has a section of its own


@dataclass(frozen=True, slots=True)
class Code:
    """The function that begins at one place of the object, under all its names.

    stretch:    name of the section that it is in when each function has none of its own; these sections are
                laid out in the image in the order of the object.
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

    Of the functions that matched but contradict others, `refuted` has the contradiction.  `data_differs`
    has the variables' sections whose content is not the image's.
    """

    addresses: dict[int, int] = field(default_factory=dict)
    bases: dict[int, int] = field(default_factory=dict)
    evidence: dict[int, str] = field(default_factory=dict)
    refuted: dict[int, Difference] = field(default_factory=dict)
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
    return section.name


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
            result.add(code.piece.section, address - code.piece.start, voter)
            for section, (base, _) in code.matches[address].implied.items():
                result.add(section, base, voter)
        for number, known in bases.items():
            outcome = self.data(number, known) if known is not None else None
            if isinstance(outcome, Match):
                for section, (base, _) in outcome.implied.items():
                    result.add(section, base, self.obj.sections[number].name)
        return result

    def data(self, number: int, base: int) -> Match | Difference | None:
        """A data section compared with the image at its base; None for what has no content to compare."""
        section = self.obj.sections[number]
        if is_code(section) or not section.data or section.flags & elf.SHF_MERGE:
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

    def disagreement(
        self, code: Code, address: int, bases: Mapping[int, int | None]
    ) -> tuple[int, int, int] | None:
        """The first contradiction of this place with the known bases: offset, section, base as implied."""
        own = (code.piece.section, (address - code.piece.start, 0))
        for section, (base, offset) in (own, *code.matches[address].implied.items()):
            if bases.get(section, base) != base:
                return offset, section, base
        return None

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
        if votes.others(code.piece.section, address - code.piece.start, voter):
            return True
        if any(
            votes.others(section, base, voter) for section, (base, _) in code.matches[address].implied.items()
        ):
            return True
        return address in expected.get(code.index, ())

    def _expected(self) -> dict[int, set[int]]:
        """Where the linker puts the functions next to those that have claimed a place."""
        result: dict[int, set[int]] = defaultdict(set)
        following: dict[str, int] = {}
        preceding: dict[str, Code] = {}
        for code in self.codes:
            claimed = self.claims.get(code.index)
            here = following.pop(code.stretch, None)
            if here is not None:
                here += -here % code.align
                result[code.index].add(here)
            start = claimed if claimed is not None else here
            if start is not None:
                # Why: a function that is not placed (a weak one that is overridden, say) still takes its room.
                following[code.stretch] = start + code.piece.size
            before = preceding.get(code.stretch)
            if before is not None and claimed is not None and before.index not in self.claims:
                # All starts from which this one follows, up to its alignment.
                result[before.index] |= {
                    claimed - before.piece.size - gap
                    for gap in range(code.align)
                    if (claimed - before.piece.size - gap) % before.align == 0
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
                offset, section, base = found
                result.refuted[index] = self._contradiction(offset, section, base, final.get(section))
        votes = self.votes(final, result.refuted)
        for index, address in self.claims.items():
            if index not in result.refuted:
                result.addresses[index] = address
        # Why: a section that only refuted functions refer to has no base; one whose votes were tied keeps none.
        for number, known in votes.bases().items():
            name = self.obj.sections[number].name
            if known is None or known != final.get(number, known):
                result.conflicts[number] = f"{name}: references give it different addresses"
                continue
            outcome = self.data(number, known)
            if isinstance(outcome, Difference):
                result.data_differs[number] = outcome
                continue
            result.bases[number] = known
            result.evidence[number] = votes.evidence(number, known)
        return result

    def _contradiction(self, offset: int, section: int, base: int, known: int | None) -> Difference:
        name = self.obj.sections[section].name
        if known is None:
            return Difference(offset, f"a reference to {name}", f"{base:#x}, and others elsewhere")
        place = self.context.place_name(known)
        return Difference(offset, f"a reference to {name}, which is {place}", self.context.place_name(base))


def _decided(context: Context) -> dict[int, dict[int, list[str]]]:
    """Section -> base -> the global symbols in it that say so."""
    result: dict[int, dict[int, list[str]]] = defaultdict(dict)
    for symbol in context.obj.symbols:
        if symbol.bind == elf.STB_LOCAL or symbol.section <= 0 or not symbol.name:
            continue
        section = context.obj.sections[symbol.section]
        found = own_entries(context, symbol)
        if len(found) == 1 and section.flags & elf.SHF_ALLOC and not section.flags & elf.SHF_MERGE:
            result[section.index].setdefault(found.pop() - symbol.value, []).append(symbol.name)
    return dict(result)


def place(context: Context, cutter: Cutter, all_codes: tuple[Code, ...]) -> Placement:
    """Find out where the object's functions and sections are in the image, as far as that is certain."""
    return _Solver(context, cutter, all_codes).search()


def viable_places(context: Context, cutter: Cutter, code: Code, placement: Placement) -> list[int]:
    """The places of an unplaced function that match and contradict nothing."""
    return _Solver(context, cutter, ()).viable(code, dict(placement.bases))
