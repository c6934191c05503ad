# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel configurations: reading them, and finding where one drifted from another.

`make olddefconfig` fits a configuration to the tree *and to this machine*: options depend on what the
compiler, the assembler, the linker and pahole can do, and those that lost their support are dropped without
a word.  A kernel compiled then has other structures (`struct module` loses fields without BTF) than the one
that was shipped.  So the result is compared with the shipped configuration, and every difference is refused
by name, with the package whose absence explains it.

What may differ is only what a tool says about itself when it writes none of the code: pahole's version (what
it can do are options of their own), and the Rust compiler's facts for a kernel without Rust.
"""

from __future__ import annotations

import re

from kbuild_py.errors import Problem

# Facts about tools that generate none of the code.
_MAY_DIFFER = re.compile(r"PAHOLE_VERSION")
_MAY_DIFFER_WITHOUT_RUST = re.compile(r"PAHOLE_VERSION|RUST_IS_AVAILABLE|(RUSTC|BINDGEN)_\w+")

# Patterns of option names -> (what decides about them, what to do).  The first that matches counts.
_TOOLS: tuple[tuple[str, str, str], ...] = (
    (r"(DEBUG_INFO_BTF|PAHOLE|BPF_PRELOAD|MODULE_ALLOW_BTF).*", "pahole", "apt-get install dwarves"),
    (r"(RUST|HAVE_RUST|BINDGEN).*", "rustc and bindgen", "apt-get install rustc bindgen"),
    (r".*GCC_PLUGIN.*", "the headers for plugins of gcc", "apt-get install gcc-12-plugin-dev"),
    (
        r"(AS|LD)_.*",
        "the assembler and linker",
        "apt-get install binutils, of the version that the kernel's release has",
    ),
    (r"(CC|GCC|CLANG)_.*", "the compiler", "apt-get install the kernel's compiler (CONFIG_CC_VERSION_TEXT)"),
)


def parse(text: str) -> dict[str, str]:
    """Option (without CONFIG_) -> value as written; an option that is `not set` has the value n."""
    options = {}
    for line in text.splitlines():
        found = re.fullmatch(r"CONFIG_(\w+)=(.*)", line)
        if found:
            options[found.group(1)] = found.group(2)
        elif found := re.fullmatch(r"# CONFIG_(\w+) is not set", line):
            options[found.group(1)] = "n"
    return options


def string(options: dict[str, str], name: str) -> str:
    """The value of a string option without its quotes; "" when it is not there."""
    return options.get(name, "").removeprefix('"').removesuffix('"')


def drift(shipped: str, made: str, place: object) -> tuple[Problem, ...]:
    """What differs in code-relevant ways between the shipped configuration and the one made from it.

    One problem for each option, those that this machine's tools explain first: they are causes, the others
    mostly consequences.
    """
    before, after = parse(shipped), parse(made)
    without_rust = before.get("RUST", "n") == after.get("RUST", "n") == "n"
    may_differ = _MAY_DIFFER_WITHOUT_RUST if without_rust else _MAY_DIFFER
    explained, others = [], []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, "n"), after.get(name, "n")
        if old == new or may_differ.fullmatch(name):
            continue
        cause = f"CONFIG_{name} is {new} after olddefconfig, but {old} in the shipped kernel"
        for pattern, tool, remedy in _TOOLS:
            if re.fullmatch(pattern, name):
                explained.append(Problem(str(place), f"{cause}; {tool} decides about it", remedy))
                break
        else:
            others.append(Problem(str(place), cause))
    return tuple(explained + others)


def disagreement(whole: str, part: str, place: object) -> tuple[Problem, ...]:
    """Where `part` (a published configuration with some options left out) contradicts `whole`."""
    options = parse(whole)
    return tuple(
        Problem(
            str(place), f"CONFIG_{name} is {value} here, but {options.get(name, 'n')} in the headers package"
        )
        for name, value in parse(part).items()
        if options.get(name, "n") != value
    )
