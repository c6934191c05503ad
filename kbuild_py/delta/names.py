# SPDX-License-Identifier: GPL-2.0-or-later
"""What compilers and macros do to names, and which names promise anything.

A symbol's name says which source-level thing it is, but two compilations of one file do not always agree
on it.  Compilers number clones of functions (`f.constprop.0`), static locals (`count.17`), their own
tables (`CSWTCH.42`); macros number symbols by `__COUNTER__` (`__UNIQUE_ID_author240`).  One more
definition earlier in the file and all later numbers move.  `canonical` takes the numbers off: what is left
is equal in both objects for the same thing, though no longer unique.

Some static locals are made by macros at each place of use.  Pairing these by name is a guess, and for
none of them is it needed: `PER_COPY` lists them, each with the reason why a patched function brings its
own.  What is *not* in the list matters as much: `___done` and `___once_key` of DO_ONCE() guard work that
must not be repeated (a hash secret would be drawn again under live hash tables), so they are ordinary
state and are paired.
"""

from __future__ import annotations

import re

# Of clones and static locals; link-time optimisation adds a suffix where files share a local name.
_NUMBER = re.compile(r"(\.lto_priv)?\.\d+(?=\.|$)")
# __UNIQUE_ID_author240, since 6.19 __UNIQUE_ID_author_240; before 4.19 macros numbered by line.
_COUNTED = re.compile(r"(^|\.)(__UNIQUE_ID_|__BTF_ID__|_?__addressable_|__PASTE_)")
_COUNTER = re.compile(r"_?\d+(?=\.|$)")
# __initcall__kmod_MODULE__COUNTER_LINE_FUNCTIONLEVEL; with LTO a stub calls the function.
_INITCALL = re.compile(r"^(__initcall__|__initstub__)(.*?__)\d+_\d+(?=_)")
_COLD = re.compile(r"\.cold(?:\.\d+)*$")
_CLONE_WORD = re.compile(r"\.(isra|constprop|part|cold|lto_priv|localalias|llvm|clone)(?=\.|$)")
_DEBUG_DESCRIPTOR = re.compile(r"^__UNIQUE_ID_ddebug_?\d+$")
# A compiler's own label or table: the name means nothing, the content is all there is.
_ANONYMOUS = re.compile(
    r"^(\.L|CSWTCH\.\d+$|C\.\d+\.\d+$|switch\.table\.|reltable\.|__const\.|__func__\.[a-zA-Z_])"
)

# Static locals that every copy of a function has its own of, and why that is right.
PER_COPY: dict[str, str] = {
    "__key": "a lock class is an address; the kernel's cannot be told apart by name, a fresh one is valid",
    "__warned": "warns once more at most",
    "__already_done": "prints or warns once more at most",
    "__print_once": "prints once more at most",
    "_rs": "a rate limit starts anew",
    "_entry": "describes a printk of this very copy",
    "_entry_ptr": "lists a printk of this very copy",
    "descriptor": "a pr_debug() of the new code is a site of its own, registered with the patch module",
    "_alloc_tag": "an allocation of the new code is a site of its own, counted with the patch module",
    "_alloc_tag_cntr": "counts what is allocated at a site of the new code",
    "__func__": "the function's name as text",
    "__FUNCTION__": "the function's name as text",
    "__PRETTY_FUNCTION__": "the function's name as text",
    "___tp_str": "text for a trace point",
    "__msg": "text of an extended netlink answer",
}


def is_anonymous(name: str) -> bool:
    """The name is a compiler's label: only the content identifies the thing."""
    return _ANONYMOUS.match(name) is not None


def canonical(name: str) -> str:
    """The name without the numbers that change between two compilations of the same source.

    All static locals end in a dot: `count.` for gcc's `count.17`, `f.count.` for clang's `f.count` and
    `f.count.3`, where a number tells only that another variable of `f` has the same name.
    """
    if _COUNTED.search(name):
        return _COUNTER.sub("#", name)
    plain = _NUMBER.sub("", _INITCALL.sub(r"\1\2#", name))
    return plain + "." if is_static_local(name) and not is_clone(plain) else plain


def is_static_local(name: str) -> bool:
    """The name of a data symbol is that of a static variable inside a function.

    gcc writes `count.17`, clang `function.count` or `function.count.3`.
    """
    return "." in name[1:] and name[0] != "." and not is_anonymous(name)


def names_its_function(name: str) -> bool:
    """A static local whose name says which function declares it, as clang does: `f.count`."""
    parts = _parts(name)
    return len(parts) > 1


def _parts(name: str) -> list[str]:
    parts = name.split(".")  # canonical names end in a dot
    return [part for part in parts if part and not part.isdigit() and part not in ("lto_priv", "llvm")]


def static_local_base(name: str) -> str:
    """The variable's name in the source: `count` of `count.17` and of `function.count.3`.

    The descriptor of a pr_debug() is called `descriptor` or `__UNIQUE_ID_ddebug` with a number.
    """
    parts = _parts(name)
    base = parts[-1] if parts else name
    return "descriptor" if _DEBUG_DESCRIPTOR.match(base) else base


def per_copy(name: str) -> bool:
    """A static local of the kind that every copy of a function has its own of (see `PER_COPY`)."""
    return is_static_local(name) and static_local_base(name) in PER_COPY


def cold_parent(name: str) -> str | None:
    """`f` for `f.cold` and `f.cold.3`: the function whose unlikely part this is; None for others."""
    match = _COLD.search(name)
    return name[: match.start()] if match else None


def source_function(name: str) -> str:
    """The function in the source that a clone was made from: `f` for `f.part.0.isra.0.cold`."""
    match = _CLONE_WORD.search(name)
    return name[: match.start()] if match else name


def is_clone(name: str) -> bool:
    """The compiler made this function out of another."""
    return _CLONE_WORD.search(name) is not None


def is_padding_symbol(name: str) -> bool:
    """Names the bytes before a function (call padding, CFI hash), which belong to that function."""
    return name.startswith(("__pfx_", "__cfi_"))
