# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel's configuration decides: whether this project can patch it, and in which ways.

A kernel without ftrace cannot be patched at all, and no build would notice before the module is loaded.
So every option that something here relies on is in one table, with what it is for; a kernel that lacks one
is refused by name before anything is compiled for it.  The options that only change how the work is done
are in a second table, for people who wonder.

Pure: a configuration goes in, as `config.parse` reads it.
Source of the options: the kernel's Kconfig files, and what core/ and the livepatch of kernel/livepatch/ use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kbuild_py.errors import Problem

KPATCH, LIVEPATCH = "kpatch", "livepatch"


@dataclass(frozen=True, slots=True)
class Need:
    """An option (or any one of several) that must be y, and what for.

    backend: which backend it is for; "" for both
    """

    options: tuple[str, ...]
    purpose: str
    backend: str = ""


NEEDS = (
    Need(("MODULES",), "a patch is a module"),
    Need(("MODULE_UNLOAD",), "a patch can be undone and removed"),
    Need(("KALLSYMS",), "functions are found by name and position"),
    Need(("KALLSYMS_ALL",), "variables are found by name and position"),
    Need(("DYNAMIC_FTRACE",), "ftrace sends callers to the new functions"),
    Need(("DYNAMIC_FTRACE_WITH_REGS", "DYNAMIC_FTRACE_WITH_ARGS"), "ftrace can change where a call goes on"),
    Need(("HAVE_RELIABLE_STACKTRACE",), "stacks are unwound reliably"),
    Need(("UNWINDER_ORC", "UNWINDER_FRAME_POINTER"), "stacks are unwound reliably"),
    Need(("STACKTRACE",), "stacks are unwound"),
    Need(("KPROBES",), "the core finds the kernel's functions that are not exported", KPATCH),
    Need(("LIVEPATCH",), "the kernel has a livepatch", LIVEPATCH),
)

# Must not be y, and why.
OBSTACLES = (
    ("LTO", "functions are inlined across files, so no file can be compiled alone"),
    ("RANDSTRUCT", "structures are laid out by a random number of the shipped build"),
    ("GCC_PLUGIN_RANDSTRUCT", "structures are laid out by a random number of the shipped build"),
)

# Options that change how the work is done, and how.
MATTERS = (
    ("RANDOMIZE_BASE", "the image is moved at boot; references are distances within it"),
    ("MODVERSIONS", "exports have checksums, which patch modules bring along"),
    ("MODULE_SIG_FORCE", "only signed modules load"),
    ("X86_KERNEL_IBT", "functions begin with ENDBR; objtool runs on the whole image"),
    ("CALL_PADDING", "functions have padding in front, for call thunks"),
    ("PREFIX_SYMBOLS", "that padding has symbols, __pfx_NAME"),
    ("RETHUNK", "functions return through a thunk, which objtool must know of"),
    ("RETPOLINE", "indirect calls go through thunks"),
    ("MITIGATION_RETHUNK", "functions return through a thunk, which objtool must know of"),
    ("MITIGATION_RETPOLINE", "indirect calls go through thunks"),
    ("HAVE_STATIC_CALL_INLINE", "static calls are rewritten where they are"),
    ("PARAVIRT", "some instructions are rewritten at boot"),
    ("PREEMPT_DYNAMIC", "how the kernel preempts is chosen at boot"),
    ("DEBUG_INFO_BTF", "types of the kernel are in the image"),
    ("LIVEPATCH", "the kernel's own livepatch is there"),
)


def missing(options: Mapping[str, str], place: object, backend: str = "") -> tuple[Problem, ...]:
    """Why kernels of this configuration cannot be patched through `backend`; nothing when they can.

    options: option without CONFIG_ -> value
    place:   what to call the configuration in errors
    backend: "" for what every backend needs
    """
    problems = []
    for need in NEEDS:
        if need.backend in ("", backend) and not any(options.get(name) == "y" for name in need.options):
            names = " or ".join(f"CONFIG_{name}" for name in need.options)
            problems.append(
                Problem(
                    str(place),
                    f"the kernel was built without {names}: {need.purpose}",
                    f"build the kernel with {names}=y",
                )
            )
    for name, why in OBSTACLES:
        if options.get(name) == "y":
            problems.append(
                Problem(
                    str(place),
                    f"the kernel was built with CONFIG_{name}: {why}",
                    f"build the kernel without CONFIG_{name}",
                )
            )
    return tuple(problems)
