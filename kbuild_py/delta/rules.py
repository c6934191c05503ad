# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules by which a pair of objects is refused: names, causes, remedies, explanations.

A live patch replaces functions of a running kernel.  It cannot go back in time: what was decided at boot,
what other code has already read, and memory that holds state are out of its reach.  Each such case is one
`Rule`.  The predicates that apply them are in `judge.py`; `docs/verdicts.md` is written from this table
(`python -m kbuild_py.delta.rules > docs/verdicts.md`; a test fails when the page is stale).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """name: stable, also the anchor in docs/verdicts.md; remedy: one sentence without a full stop."""

    name: str
    title: str
    remedy: str
    explanation: str


CHANGED_DATA = Rule(
    "changed-data",
    "An existing variable has other content",
    "leave its initial value alone and change the running value in a hook (pre_patch), or use a new variable",
    "The variable lives in the running kernel and holds state. Its initial value was used once, at boot. "
    "A patch that changes the initial value would either have no effect (the kernel's variable is used) or "
    "lose the state (a copy is used). The same holds for a read-only table with addresses in it (an "
    "operations table): objects in the running kernel already point to the old one. A static read-only "
    "table of numbers and strings that only code refers to is no state; it is copied, and the functions "
    "that use it are patched.",
)
CHANGED_SIZE = Rule(
    "changed-size",
    "An existing variable has another size",
    "keep the variable's type, and put what is new into a new variable or a shadow variable",
    "The running kernel has reserved the old size. Patched code would read and write past its end.",
)
CHANGED_KIND = Rule(
    "changed-kind",
    "A symbol moved to another kind of section",
    "keep the attributes (`const`, `__init`, `__read_mostly`, `__percpu`) and the initialiser as they were",
    "A variable that becomes initialised, read-only, per-CPU or __read_mostly, or a function that becomes "
    "__init, is a different thing to the kernel. The running kernel has it where it was.",
)
CHANGED_INIT = Rule(
    "changed-init",
    "Code or data of boot or unload time is changed",
    "leave it as it is, and do what is needed in a hook of the manifest (load, pre_patch, post_patch)",
    "Init code has run and has been freed, exit code runs at most once, when a module goes. Changing either "
    "in a live patch has no effect, so the patch would not do what its source says. The cause may be an "
    "inline function or a macro that init code uses as well.",
)
NO_FENTRY = Rule(
    "no-fentry",
    "A changed function cannot be redirected",
    "change its callers instead, or leave it as it is",
    "Redirection uses the call that the compiler puts at a function's start for ftrace. Functions marked "
    "`notrace` or `noinstr`, `inline` ones that the compiler did not inline (the kernel's `inline` says "
    "`notrace`), most wrappers of system calls, files that are compiled without it, and assembly have none. "
    "A static one that is called directly, and reached in no other way, is patched through its callers. This "
    "one is reached from elsewhere, or its callers have no such call either.",
)
NOINSTR = Rule(
    "noinstr-text",
    "A changed function must not be instrumented",
    "leave it as it is; change code that it calls outside of the section",
    "Code in `.noinstr.text` and `.entry.text` runs where ftrace must not: before the kernel's context is "
    "set up. It has no redirection and must not get one.",
)
FOLDED = Rule(
    "folded-function",
    "Two functions share their code in one object only",
    "make the functions differ as much (or as little) as in the original, or mark them with noipa",
    "The compiler folds functions with equal code into one and gives it both names. The kernel's two names "
    "then have one address, and only both together can be redirected; or they have two addresses, and the "
    "patched object has code for one.",
)
STATIC_LOCAL_LOST = Rule(
    "static-local-lost",
    "A static variable of a function has no counterpart",
    "keep using the variable in the patched function, in the same place and with the same type",
    "The original function keeps state in a static local variable, and none in the patched object can be "
    "paired with it. Either the patch removes the variable, or the code moved so far that the pairing "
    "failed; in the second case the patched function would start from a fresh copy, and state would be lost.",
)
AMBIGUOUS = Rule(
    "ambiguous-symbol",
    "A symbol could be two things",
    "give the functions or variables different names",
    "The object has several symbols with the same name and kind that differ in content, and it cannot be "
    "decided which belongs to which. Or shipped code refers to something in the kernel by a name that means "
    "two things there: two static symbols of this file, or a static one of this file and one of another.",
)
CHANGED_EXPORT = Rule(
    "changed-export",
    "The object's exports change",
    "export nothing new from existing files and keep what is exported, with its name, CRC and namespace",
    "Other modules are bound to the exports as they are. A new or changed entry would be read by nobody. The "
    "CRC (CONFIG_MODVERSIONS) changes with every type that the export's declaration reaches, and also when a "
    "new #include makes a type complete that was only declared before.",
)
CHANGED_MODULE_INFO = Rule(
    "changed-module-info",
    "Module information or parameters change",
    "leave module parameters, aliases and device tables as they are",
    "Parameters and module information are read when a module (or the kernel) starts. Imported namespaces "
    "are no such change: the patch object gets what it needs.",
)
CHANGED_REGISTRY = Rule(
    "changed-registry",
    "A section that is read at build, boot or load time changes",
    "leave the definition as it is (no new initcalls, trace points, system calls, boot parameters)",
    "The kernel walked through this section when it started. Entries that a patch adds, removes or changes "
    "would be seen by nobody, or announce something twice.",
)
NEW_INIT_REFERENCE = Rule(
    "init-reference",
    "Patched code needs code or data of boot time",
    "do not use __init functions or __initdata from patched code",
    "What is marked __init has been freed, and what is marked __exit may never have been loaded. A function "
    "that referred to the same thing before (__ref: it does so at boot only) may go on doing so.",
)
COMMON = Rule(
    "common-symbol",
    "A variable has no place yet",
    "compile with -fno-common, as the kernel does",
    "A common symbol gets its place from the linker, so that it cannot be known whether it is new.",
)
BAD_MARKER = Rule(
    "bad-marker",
    "A marker in the source cannot be followed",
    "name a function or section of this file in the macro, or take the macro out",
    "Macros such as KPATCH_IGNORE_FUNCTION() leave pointers in `.kpatch.*` sections for whoever builds the "
    "patch. This one points to nothing that the object defines, so what the patch's author meant cannot be "
    "done.",
)
IGNORED_FUNCTION = Rule(
    "ignored-function",
    "Changed code needs a function that is to be ignored",
    "take the function out of KPATCH_IGNORE_FUNCTION(), or leave the code that needs it as it was",
    "An ignored function stays as the running kernel has it. Code that is shipped needs the changed one: it "
    "is new, cannot be told apart from its caller, or can only be patched together with it.",
)
TLS = Rule(
    "tls",
    "Thread-local storage",
    "use a per-CPU variable or a field of struct task_struct",
    "The kernel has no thread-local storage.",
)
UNSUPPORTED_RELOCATION = Rule(
    "unsupported-relocation",
    "A relocation that the module loader cannot apply",
    "compile with the kernel's own flags (-fno-pie -mcmodel=kernel)",
    "The patched code refers to something in a way that the kernel's module loader does not implement.",
)
UNKNOWN_TABLE = Rule(
    "unknown-table",
    "A section describes instructions of a changed function in an unknown way",
    "report the section's name and the kernel's version; give --entry-size when it is an array",
    "The section points into the middle of a function that changes, so it says something about single "
    "instructions. Whether and how its entries must be copied is not known.",
)
BOOT_CONSTANT = Rule(
    "boot-constant",
    "Patched code has a constant that the kernel fills in at boot",
    "read the variable itself in the patched function, as modules do, or change a caller instead",
    "Some variables never change once the kernel runs, so that since 6.11 it writes their values into the "
    "instructions that use them (`runtime_const_ptr()`); sections named `runtime_ptr_*` and the like list "
    "these. That happens once, at boot, and in the kernel itself only. In a module the instructions would "
    "keep the value that the compiler put in their place.",
)
BAD_TABLE_ENTRY = Rule(
    "table-entry",
    "A table's entry cannot be taken apart from others",
    "give the size of the table's entries with --entry-size",
    "An entry of a table that annotates code reaches into several unrelated functions, which a single entry "
    "never does; most likely the entry size is not what it was taken for.",
)
UNNAMED_TARGET = Rule(
    "unnamed-target",
    "Patched code refers to writable memory without a name",
    "give the variable a name, or compile with -fdata-sections",
    "State stays where it is and is reached by its symbol. Here there is none.",
)
UNDECODED = Rule(
    "undecoded-code",
    "Instructions that cannot be decoded",
    "report the instruction's bytes and the kernel's version",
    "What a pc-relative relocation points to depends on where its instruction ends. The function has bytes "
    "that the decoder does not know, so a reference might be read wrongly.",
)
SHORT_BRANCH = Rule(
    "short-branch",
    "A branch between functions is too short to move",
    "change a caller of the function instead, or compile with -ffunction-sections where that separates them",
    "Two functions in one section (`.sched.text`) are connected by a branch with a distance of one byte, "
    "which the assembler has resolved. Once one of them is moved, the distance cannot be expressed.",
)
MODULE_KEY = Rule(
    "module-key",
    "A static key or static call lives in a module",
    "test a plain variable, static_key_enabled(), or call through a plain function pointer instead",
    "The kernel connects jump labels and static calls with their keys when the patch module is loaded, by "
    "the entries of `__jump_table` and `.static_call_sites`. A key in another module has no address yet at "
    "that time: that module may not even be loaded, and the address is filled in when the patch is applied. "
    "The entry would point nowhere. Without the entry, the branch would keep its initial direction for ever. "
    "Keys of trace points and of dynamic debug messages are left out with a note, for there the initial "
    "direction (off) does no harm.",
)
NEVER_PATCHED = Rule(
    "never-patched",
    "The file is no part of the running kernel",
    "leave the file alone; such code changes with a new kernel only",
    "Some files of a kernel tree are not linked into vmlinux or a module: the vDSO runs in user space, real "
    "mode, boot, purgatory and EFI stub code runs before the kernel (or after it), code of a hypervisor runs "
    "beside it. A member of a library (`lib-y`, lib.a) is taken only where something needs it, so that "
    "another definition of the same function may be the one that runs.",
)
SIBLING_CALL = Rule(
    "sibling-call",
    "A sibling call leaves the function without restoring the TOC",
    'mark the function with `__attribute__((optimize("-fno-optimize-sibling-calls")))`, or use the result '
    "of the call",
    "On ppc64le, a function that ends with a call may jump instead. What it jumps to then returns to the "
    "caller, past the place where the table of contents pointer (r2) of the module would have been restored. "
    "Within the kernel both have one table, between a patch module and the kernel they do not.",
)
STACK_RELOCATIONS = Rule(
    "stack-relocations",
    "The object is of an assembler whose relocations are not compared",
    "compile both objects with binutils 2.40 or later and gcc 13 or later, or with clang",
    "The first assemblers for LoongArch (binutils 2.38 and 2.39) describe each place in code by a small "
    "program of several relocations (R_LARCH_SOP_*), which compute its value on a stack. What such a program "
    "reaches is not worked out here, so the functions cannot be shipped.",
)
CALL_WITHOUT_ROOM = Rule(
    "call-without-room",
    "A call leaves no room for restoring the TOC",
    "call the function through a pointer to it (`int (*volatile call)(int) = f;`), or make it inline",
    "On ppc64le, a call from a patch module into the kernel changes the table of contents pointer (r2), and "
    "the module loader needs a no-operation behind the call, which it overwrites to restore r2. The compiler "
    "writes one only behind calls of other files. A function of the same file that stays in the kernel is "
    "therefore copied beside the code that calls it. This one cannot be copied, because patched code uses "
    "its address as well, or it must not be instrumented.",
)
UNRESOLVED = Rule(
    "unresolved-symbol",
    "A symbol resolves to nothing",
    "use what the target kernel has: check the spelling, the configuration, and the kernel's version",
    "The patched code refers to a symbol that the original does not, and neither the kernel's symbols nor "
    "its exports have one of that name. The module could not be loaded.",
)
DIFFERENT_UNITS = Rule(
    "different-units",
    "The objects are not two versions of one file",
    "give the original and the patched object of one source file, compiled in the same way",
    "The objects are for different processors or byte orders.",
)

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (value for value in list(globals().values()) if isinstance(value, Rule)), key=lambda rule: rule.name
    )
)


def verdicts_page() -> str:
    """The text of docs/verdicts.md."""
    lines = [
        "<!-- Written by `python -m kbuild_py.delta.rules`; change kbuild_py/delta/rules.py instead. -->",
        "# Verdicts",
        "",
        "Why a pair of objects is refused, one section a rule. All verdicts of a pair are printed at once.",
        "",
    ]
    for rule in RULES:
        lines += [f"## {rule.name}", "", f"**{rule.title}.**", "", rule.explanation, ""]
        lines += [f"Instead: {rule.remedy}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(verdicts_page(), end="")
