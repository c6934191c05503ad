# SPDX-License-Identifier: GPL-2.0-or-later
"""Random C of a kernel's kind, and random edits of it, for running rather than for reading.

A `Program` is a list of functions made of small statements.  An edit gives another program.  `source()`
writes one of them as a translation unit.  `reference()` writes both as one program whose edited functions ask
which version is in force: what a live patch should do, said in C.  Both share every static variable there.

The arithmetic is unsigned, every index is bounded and no function calls a later one, so each program has one
meaning, and ends.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

WORDS = ("open", "close", "reset", "queue", "flush %u", "retry", "timeout", "link is down", "busy", "a")
STATICS = ("count", "state", "seen", "last")
VARIABLES, TABLES, ENTRIES = 6, 3, 3


@dataclass(frozen=True, slots=True)
class Statement:
    """kind: a method of `_Writer`; numbers: what makes it this one; body: what it guards."""

    kind: str
    numbers: tuple[int, ...]
    body: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    number: int
    attributes: str
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """order: how the functions follow each other in the source; lines: blank lines before each of them."""

    functions: tuple[Function, ...]
    tables: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    lines: int = 0


_PLAIN = ("add", "mix", "write", "read", "local", "table", "text", "choose", "dispatch", "call", "pointer")
_MORE = ("print", "warn", "fault", "key", "once", "array", "constant", "name", "register", "replace", "pick")
_FIXED = ("local", "call_new", "register_new")  # the first two numbers say which one is meant
_BLOCKS = ("loop", "rare", "leave", "cold", "when")
_ATTRIBUTES = (
    "static noinline", "static noinline", "static", "static", "static inline", "", "", "noinline",
    "__attribute__((weak))", "static __attribute__((cold))", "static notrace",
)  # fmt: skip


def program(rng: random.Random) -> Program:
    """A random program; its last `ENTRIES` functions are the ones that the harness calls."""
    count = rng.randrange(5, 14)
    functions = []
    for number in range(count):
        entry = number >= count - ENTRIES
        attributes = "" if entry else rng.choice(_ATTRIBUTES)
        size = rng.randrange(1, 3) if rng.random() < 0.3 and not entry else rng.randrange(2, 9)
        functions.append(Function(number, attributes, _statements(rng, number, size)))
    tables = tuple(tuple(rng.randrange(1000) for _ in range(8)) for _ in range(TABLES))
    order = list(range(count))
    if rng.random() < 0.3:
        rng.shuffle(order)
    return Program(tuple(functions), tables, tuple(order))


def _statements(rng: random.Random, number: int, size: int, depth: int = 0) -> tuple[Statement, ...]:
    return tuple(_statement(rng, number, depth) for _ in range(size))


def _statement(rng: random.Random, number: int, depth: int) -> Statement:
    kind = rng.choice(_PLAIN + _PLAIN + _MORE + (_BLOCKS if depth < 2 else ()))
    if kind in ("call", "pointer", "register") and not number:
        kind = "add"
    numbers = tuple(rng.randrange(1, 1 << 16) for _ in range(3))
    body = _statements(rng, number, rng.randrange(1, 4), depth + 1) if kind in _BLOCKS else ()
    return Statement(kind, numbers, body)


# --- edits ----------------------------------------------------------------------------------------------


def edited(rng: random.Random, old: Program) -> Program:
    """The program after one to three small edits.  Functions keep their numbers; new ones get new numbers."""
    new = old
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        new = rng.choice(_EDITS)(rng, new)
    return new


def with_body(old: Program, number: int, body: Sequence[Statement]) -> Program:
    """The program in which one function has another body."""
    functions = tuple(
        replace(function, body=tuple(body)) if function.number == number else function
        for function in old.functions
    )
    return replace(old, functions=functions)


def _number(rng: random.Random, old: Program) -> Program:
    """A constant of one statement, wherever it is nested."""
    function = rng.choice(old.functions)

    def change(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
        if not body:
            return body
        place = rng.randrange(len(body))
        one = body[place]
        if one.body and rng.random() < 0.7:
            one = replace(one, body=change(one.body))
        else:
            index = 2 if one.kind in _FIXED else rng.randrange(3)
            numbers = list(one.numbers)
            numbers[index] = rng.randrange(1, 1 << 16)
            one = replace(one, numbers=tuple(numbers))
        return (*body[:place], one, *body[place + 1 :])

    return with_body(old, function.number, change(function.body))


def _insert(rng: random.Random, old: Program) -> Program:
    function = rng.choice(old.functions)
    place = rng.randrange(len(function.body) + 1)
    new = _statement(rng, function.number if function.number < 100 else 0, 0)  # a new function calls none
    return with_body(old, function.number, (*function.body[:place], new, *function.body[place:]))


def _remove(rng: random.Random, old: Program) -> Program:
    function = rng.choice(old.functions)
    place = rng.randrange(len(function.body) or 1)
    return with_body(old, function.number, function.body[:place] + function.body[place + 1 :])


def _exchange(rng: random.Random, old: Program) -> Program:
    function = rng.choice(old.functions)
    body = list(function.body)
    if len(body) > 1:
        place = rng.randrange(len(body) - 1)
        body[place : place + 2] = reversed(body[place : place + 2])
    return with_body(old, function.number, body)


def _function(rng: random.Random, old: Program) -> Program:
    """A new function and its first call; its number is beyond all others, but it calls none of them."""
    number = 100 + len(old.functions)
    callee = Function(number, rng.choice(_ATTRIBUTES), _statements(rng, 0, rng.randrange(2, 6)))
    caller = rng.choice(old.functions)
    place = rng.randrange(len(caller.body) + 1)
    call = Statement(rng.choice(("call_new", "register_new")), (number, 1, 2))
    body = (*caller.body[:place], call, *caller.body[place:])
    changed = with_body(old, caller.number, body)
    order = list(old.order)
    order.insert(rng.randrange(len(order) + 1), number)
    return replace(changed, functions=(*changed.functions, callee), order=tuple(order))


def _table(rng: random.Random, old: Program) -> Program:
    tables = [list(table) for table in old.tables]
    rng.choice(tables)[rng.randrange(8)] = rng.randrange(1000)
    return replace(old, tables=tuple(tuple(table) for table in tables))


def _lines(rng: random.Random, old: Program) -> Program:
    return replace(old, lines=old.lines + rng.randrange(1, 30))


def _order(rng: random.Random, old: Program) -> Program:
    order = list(old.order)
    rng.shuffle(order)
    return replace(old, order=tuple(order))


Edit = Callable[[random.Random, Program], Program]
_EDITS: tuple[Edit, ...] = (_number, _number, _number, _insert, _insert, _insert, _remove, _exchange,
                            _function, _function, _table, _lines, _order)  # fmt: skip


# --- C --------------------------------------------------------------------------------------------------


def source(old: Program) -> str:
    """The program as one translation unit, its static locals inside of their functions."""
    writer = _Writer()
    functions = {function.number: function for function in old.functions}
    lines = [*_head(old.functions), *_tables(old, "t"), *_pointers(old.functions)]
    for number in old.order:
        function = functions[number]
        lines += ["\n" * old.lines, f"{_prototype(function)}\n{{", "\tu32 r = a;"]
        lines += [*writer.body(function, function.body), "\treturn r;", "}"]
    return "\n".join((*lines, ""))


def reference(old: Program, new: Program) -> str:
    """Both programs: an edited function does what the version in force says.  All state is shared."""
    writer = _Writer(shared=True)
    before = {function.number: function for function in old.functions}
    lines = []
    for function in new.functions:
        lines.append(f"{_prototype(function)}\n{{\n\tu32 r = a;")
        lines += ["\tif (patched) {", *writer.body(function, function.body), "\t} else {"]
        writer.table = "t"
        if function.number in before:
            lines += writer.body(function, before[function.number].body)
        writer.table = "n"
        lines += ["\t}", "\treturn r;", "}"]
    statics = [f"static u32 {name} = {value};" for name, value in writer.statics.items()]
    head = [*_head(new.functions), "extern int patched;", *_tables(old, "t"), *_tables(new, "n")]
    return "\n".join((*head, *_pointers(new.functions), *statics, *lines, ""))


def _head(functions: Sequence[Function]) -> Iterator[str]:
    yield '#include "live.h"'
    for function in functions:
        yield f"{_prototype(function)};"
    for i in range(VARIABLES):
        yield f"{'static ' if i % 3 else ''}u32 v{i}{f' = {i}' if i % 2 else ''};"
    # Why: of a variable that nothing writes any more the compiler says that it has its initial value.
    kept = " ".join(f"r ^= v{i}; v{i} += a;" for i in range(VARIABLES))
    yield f"u32 keep(u32 a) {{ u32 r = 0; {kept} return r; }}"
    yield f"static const char *const words[] = {{ {', '.join(_quoted(word) for word in WORDS)} }};"


def _tables(old: Program, name: str) -> list[str]:
    return [
        f"static const u32 {name}{i}[8] = {{ {', '.join(map(str, table))} }};"
        for i, table in enumerate(old.tables)
    ]


def _pointers(functions: Sequence[Function]) -> Iterator[str]:
    """Tables of operations, as a driver has them; new functions are not in them."""
    known = [function.number for function in functions if function.number < 100]
    for i in range(2):
        chosen = ", ".join(f"f{number}" for number in known[i : len(known) - ENTRIES : 2] or known[:1])
        yield f"static {'const ' if i else ''}operation o{i}[] = {{ {chosen} }};"


def _prototype(function: Function) -> str:
    return f"{function.attributes} u32 f{function.number}(u32 a, u32 b)".strip()


def _quoted(word: str) -> str:
    return f'"{word}\\n"'


class _Writer:
    """Statements as C."""

    def __init__(self, shared: bool = False) -> None:
        self.shared = shared
        self.table = "n" if shared else "t"
        self.statics: dict[str, int] = {}
        self.function = Function(0, "", ())

    def body(self, function: Function, body: Sequence[Statement]) -> list[str]:
        self.function = function
        return [self.statement(one) for one in body]

    def statement(self, one: Statement) -> str:
        k, m, n = one.numbers
        text: str = getattr(self, f"_{one.kind}")(one, k, m, n)
        return f"\t{{ {text} }}"

    def _block(self, one: Statement) -> str:
        return " ".join(self.statement(inner).strip() for inner in one.body)

    def _add(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"r = r * {k | 1} + (b ^ {m});"

    def _mix(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"r ^= r >> {k % 15 + 1}; r += {m}; b += r;"

    def _write(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"v{k % VARIABLES} += r ^ {m};"

    def _read(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"r += v{k % VARIABLES} * {m | 1};"

    def _local(self, one: Statement, k: int, m: int, n: int) -> str:
        """A static variable; its identity is its first two numbers, the rest may be edited."""
        name, value = f"{STATICS[k % len(STATICS)]}{(k ^ m) % 97}", m % 3
        if self.shared:
            name = f"s{self.function.number}_{k}_{m}"
            self.statics[name] = value
            return f"{name} += r + {n}; r ^= {name};"
        return f"static u32 {name} = {value}; {name} += r + {n}; r ^= {name};"

    def _table(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"r += {self.table}{k % TABLES}[(r ^ {m}) & 7];"

    def _text(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"r += hash({_quoted(WORDS[k % len(WORDS)])}) + {m};"

    def _choose(self, one: Statement, k: int, m: int, n: int) -> str:
        cases = " ".join(f"case {i}: b = {(k * (i + 3) ^ m) & 0xFFF}; break;" for i in range(6))
        return f"switch (r & 7) {{ {cases} default: b = {n}; }} r += b;"

    def _dispatch(self, one: Statement, k: int, m: int, n: int) -> str:
        cases = " ".join(f"case {i}: r = step{(k >> i) & 1}(r, {m + i * n}); break;" for i in range(6))
        return f"switch (r & 7) {{ {cases} default: v1 += {n}; }}"

    def _call(self, one: Statement, k: int, m: int, n: int) -> str:
        second = f"{m}" if k & 1 else "b"
        return f"r += f{k % self.function.number}(r, {second});"

    def _call_new(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"r += f{k}(r, {m});"

    def _pointer(self, one: Statement, k: int, m: int, n: int) -> str:
        # Why: the tables may hold any function, so only the harness calls through them.
        return f"later(o{k & 1}[(r ^ {m}) % (sizeof(o{k & 1}) / sizeof(operation))]);"

    def _register(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"later(f{k % self.function.number});"

    def _register_new(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"later(f{k});"

    def _print(self, one: Statement, k: int, m: int, n: int) -> str:
        return f'_printk("{WORDS[k % len(WORDS)]} {m % 50}: %u\\n", r, r, {n});'

    def _warn(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"if (WARN_ON((r & 15) == {k & 15})) r += {m};"

    def _fault(self, one: Statement, k: int, m: int, n: int) -> str:
        # Why: load() does not tell the compiler that it reads memory.
        place = f"(r & 3) == {k & 3} ? (u32 *)16 : &v{m % VARIABLES}"
        return f'int e; asm volatile("" : : : "memory"); r += load({place}, e); r ^= e * {n};'

    def _key(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"if (static_branch(&key{k & 1})) r += {m}; else r ^= {n};"

    def _replace(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"choice(r, {m}, {n}, {k & 1});"

    def _once(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"once({k});"

    def _array(self, one: Statement, k: int, m: int, n: int) -> str:
        values = ", ".join(str((k * (i + 1) ^ m) & 0xFFFF) for i in range(8))
        return f"const u32 local[8] = {{ {values} }}; r += local[r & 7];"

    def _constant(self, one: Statement, k: int, m: int, n: int) -> str:
        values = ", ".join(str((k * (i + 1) ^ m) & 0xFFFF) for i in range(8))
        return f"static const u32 map[8] = {{ {values} }}; r += map[r & 7] + {n};"

    def _name(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"r += hash(__func__) * {k | 1};"

    def _pick(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"r += hash(words[(r ^ {k}) % {len(WORDS)}]);"

    def _loop(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"for (u32 i = 0; i < (b & 3); i++) {{ r += i * {k}; {self._block(one)} }}"

    def _rare(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"if (unlikely((r & 7) == {k & 7})) {{ {self._block(one)} }}"

    def _leave(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"if ((r & 31) == {k & 31}) {{ {self._block(one)} return r + {m}; }}"

    def _cold(self, one: Statement, k: int, m: int, n: int) -> str:
        return f'if (r % 5 == {k % 5}) {{ {self._block(one)} _printk("rare {m % 9}\\n"); }}'

    def _when(self, one: Statement, k: int, m: int, n: int) -> str:
        return f"if (b > {k % 40}) {{ {self._block(one)} }}"
