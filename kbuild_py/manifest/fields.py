# SPDX-License-Identifier: GPL-2.0-or-later
"""The one declaration of what may stand in a manifest and in a kernel description.

Everything that has to know the keys reads them here: `schema.py` makes the JSON Schemas from them (which
editors use, and `check.py` at run time), `reference.py` the page docs/manifest.md, and `load.py` the
defaults.  To add a key: add a `Field` here, a field in `model.py`, a line in `load.py`, then run
`kbuild-py schema --write`.

Patterns are read by Python and by editors (ECMAScript), so they keep to what both understand.  One
difference is nasty: Python's `$` also matches before a final newline, so that "fork\\n" would pass for an
identifier.  `END` is the end in both.
"""

from __future__ import annotations

from kbuild_py.manifest.kinds import (
    Boolean,
    Either,
    Example,
    Field,
    Format,
    Integer,
    ListOf,
    Mapping,
    Text,
    Word,
)

END = r"$(?!\n)"

# A module's name, its NUL included, has 56 bytes on 64-bit kernels (MODULE_NAME_LEN); ours is kpatch_NAME.
MODULE_NAME_LEN = 56
NAME_LENGTH = MODULE_NAME_LEN - 1 - len("kpatch_")
LIVEPATCH_NAME_LENGTH = MODULE_NAME_LEN - 1 - len("livepatch_")

MANIFEST_NAME = rf"^[a-z][a-z0-9-]*{END}"
KERNEL_NAME = rf"^[a-z0-9][a-z0-9.-]*{END}"
C_IDENTIFIER = rf"^[A-Za-z_][A-Za-z0-9_]*{END}"
ONE_LINE = rf"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]*{END}"
# Relative, no empty part, no part `.` or `..`, no backslash, nothing unprintable.
_PATH = r"^(?!(?:[^/]*/)*\.{0,2}(?:/|$))[^\x00-\x1f\x7f\\]+"
RELATIVE_PATH = _PATH + END
SOURCE_PATH = rf"{_PATH}\.c{END}"
C_FILE = rf"^[A-Za-z0-9_][A-Za-z0-9_-]*\.[ch]{END}"
COMMAND = r"^(?=[\s\S]*[^\s])[^\x00-\x08\x0b-\x1f\x7f]+$"
NO_NUL = r"^[^\x00]*$"

# fmt: off
C_KEYWORDS = (
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum",
    "extern", "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict",
    "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef", "union",
    "unsigned", "void", "volatile", "while", "_Alignas", "_Alignof", "_Atomic", "_Bool", "_Complex",
    "_Generic", "_Imaginary", "_Noreturn", "_Static_assert", "_Thread_local",
)
# fmt: on


def _schema_field(version: int) -> Field:
    return Field(
        "schema",
        Integer(version, version, f"be {version}, the only version that this kbuild-py knows"),
        "The version of this file format.",
        required=True,
        example=version,
    )


_DESCRIPTION = Text(
    ONE_LINE, "be one line of text (for a folded block write >- instead of >)", max_length=200
)

_FUNCTION_NAME = Text(
    C_IDENTIFIER,
    "be the name of a C function (letters, digits and _, no digit first, no keyword)",
    max_length=255,
    forbidden=C_KEYWORDS,
)

FUNCTION = Mapping(
    (
        Field(
            "name",
            _FUNCTION_NAME,
            "The function's name in the C source. It stands for the clones that the compiler makes of it too "
            "(`NAME.isra.0`, `NAME.constprop.0`, `NAME.part.0`, `NAME.cold`).",
            required=True,
            example="meminfo_proc_show",
        ),
        Field(
            "source",
            Text(SOURCE_PATH, "be a .c file's path from the top of the kernel's source"),
            "The file that defines the function, from the top of the kernel's source. Needed where static "
            "functions of one name in several files change.",
            example="fs/proc/meminfo.c",
        ),
        Field(
            "force_unsafe",
            Boolean(),
            "Replace the function even while a task is running or sleeping in it. Only for functions that "
            "are always on some stack and where old and new code may run side by side.",
            default=False,
            example=True,
        ),
    )
)

_FUNCTIONS = Either(
    (
        Word(("auto",), "be a list of functions, or the word auto"),
        ListOf(
            Either((_FUNCTION_NAME, FUNCTION), "be a function's name, or a mapping with its name"),
            may_be_empty=True,
        ),
    ),
    "be a list of functions, or the word auto",
)


def _hook(key: str, moment: str) -> Field:
    return Field(key, _FUNCTION_NAME, f"Runs {moment}", example=f"{key}_hook")


HOOKS = Mapping(
    (
        _hook(
            "pre_patch", "before the switch and may sleep: `int f(void)`. An error (-errno) refuses the load."
        ),
        _hook(
            "load",
            "right after the switch, while the machine is still stopped: `void f(void)`. It must not sleep, "
            "allocate, print or take locks. Only with `consistency: atomic`.",
        ),
        _hook("post_patch", "when the new functions are in use: `void f(void)`."),
        _hook(
            "pre_unpatch",
            "before the switch back: `void f(void)`. When that is refused `post_patch` runs again.",
        ),
        _hook(
            "unload",
            "right after the switch back, while the machine is still stopped, like `load`: `void f(void)`.",
        ),
        _hook(
            "post_unpatch",
            "when the old functions are in use again, and when loading was refused after `pre_patch`: "
            "`void f(void)`.",
        ),
    )
)

_OBJECT = Mapping(
    (
        Field(
            "functions",
            _FUNCTIONS,
            "The functions that the patch may change, each by its name or as a mapping. This is a contract: "
            "a function that changes and is not listed is an error, and so is a listed one that does not "
            "change. "
            "`auto` takes whatever changes; it is for drafts, `kbuild-py functions NAME` prints the list. "
            "`[]` is for a manifest that replaces no function and has hooks only.",
            required=True,
            example=["meminfo_proc_show"],
        ),
        Field(
            "hooks",
            HOOKS,
            "Functions that run when the patch is applied and removed, by name. Each is a function of a "
            "file in `sources`, or a new one in a file that the patch changes; one may be several hooks.",
            example={"post_patch": "post_patch_hook", "pre_unpatch": "pre_unpatch_hook"},
        ),
    )
)

CHECK = Mapping(
    (
        Field(
            "run",
            Text(COMMAND, "be a shell command (text without control characters)"),
            "The command, run by the guest's shell as root. It has 60 seconds and may print 1 MiB.",
            required=True,
            example="cat /proc/meminfo",
        ),
        Field(
            "stdout",
            Text(NO_NUL, "be text without NUL characters"),
            "What the command prints, whole; newlines at its end do not count. Not together with `contains` "
            "or `absent`.",
            example="VMALLOCTOTAL: 34359738367 kB",
        ),
        Field(
            "contains",
            Text(NO_NUL, "be text without NUL characters, and not empty", min_length=1),
            "Text that stands somewhere in what the command prints.",
            example="VMALLOCTOTAL",
        ),
        Field(
            "absent",
            Text(NO_NUL, "be text without NUL characters, and not empty", min_length=1),
            "Text that stands nowhere in what the command prints.",
            example="VmallocTotal",
        ),
        Field(
            "status",
            Integer(0, 255, "be an exit status, 0 to 255"),
            "The command's exit status.",
            default=0,
            example=1,
        ),
    ),
    excludes=(("stdout", ("contains", "absent")),),
)


def _checks_field(key: str, moment: str, example: Example) -> Field:
    return Field(key, ListOf(CHECK), f"Commands that run {moment}, in this order.", example=example)


MANIFEST = Format(
    "manifest",
    1,
    "Kernel patch manifest, version 1",
    "What a patch changes, for which kernels, and how to see in a virtual machine that it works.",
    Mapping(
        (
            _schema_field(1),
            Field(
                "name",
                Text(
                    MANIFEST_NAME,
                    f"be lower-case letters, digits and -, a letter first, at most {NAME_LENGTH} characters, "
                    "and not core, kernels or schema",
                    max_length=NAME_LENGTH,
                    forbidden=("core", "kernels", "schema"),  # folders of ours in build/ and manifests/
                ),
                "The patch's name: the manifest's folder has the same, and the module is `kpatch-NAME.ko`, "
                "or `livepatch-NAME.ko` (then at most 45 characters).",
                required=True,
                example="meminfo-string",
            ),
            Field(
                "version",
                Integer(1, 999, "be a whole number, 1 to 999"),
                "Counts the releases of this patch: raise it when machines that have the patch are to get a "
                "newer one. It begins the package's version. From 2 on it is part of the patch's name in the "
                "kernel (`NAME-2`, `kpatch-NAME-2.ko`), so that the new one replaces the old one while that "
                "is in use.",
                default=1,
                example=1,
            ),
            Field(
                "description",
                _DESCRIPTION,
                "One line that says what the patch does; `modinfo` shows it.",
                required=True,
                example="/proc/meminfo prints VMALLOCTOTAL",
            ),
            Field(
                "patch",
                Text(RELATIVE_PATH, "be the path of a file in the manifest's folder"),
                "The source patch (unified diff, `patch -p1`), a file in the manifest's folder.",
                example="meminfo-string.patch",
            ),
            Field(
                "patches",
                ListOf(Text(RELATIVE_PATH, "be the path of a file in the manifest's folder"), unique=True),
                "Instead of `patch`: several, applied in this order.",
                example=["0001-one.patch", "0002-two.patch"],
            ),
            Field(
                "sources",
                ListOf(
                    Text(
                        C_FILE,
                        "be the name of a C file in the manifest's folder (letters, digits, _ and -, then .c "
                        "or .h), and not kpatch.h",
                        max_length=64,
                        forbidden=("kpatch.h",),
                    ),
                    unique=True,
                ),
                "C files in the manifest's folder that become part of the patch module: hooks, and functions "
                "that patched code calls. They are compiled like a module's sources; headers (.h) lie beside "
                "them. Enough without a patch, for a manifest that has hooks only.",
                example=["hooks.c"],
            ),
            Field(
                "kernels",
                ListOf(
                    Text(KERNEL_NAME, "be the name of a kernel (lower-case letters, digits, . and -)"),
                    unique=True,
                ),
                "The kernels to build for, each described in `manifests/kernels/NAME.yaml`.",
                required=True,
                example=["debian-12-amd64"],
            ),
            Field(
                "backend",
                Either(
                    (
                        Word(("kpatch", "livepatch"), "be kpatch or livepatch"),
                        ListOf(Word(("kpatch", "livepatch"), "be kpatch or livepatch"), unique=True),
                    ),
                    "be kpatch, livepatch, or a list of both",
                ),
                "Which kernel side applies the patch: `kpatch` is this project's core module, `livepatch` "
                "the kernel's own, which needs `consistency: per-task`. With `[kpatch, livepatch]` there is "
                "a module for each, and either of them may be loaded.",
                default="kpatch",
                example="kpatch",
            ),
            Field(
                "consistency",
                Word(("atomic", "per-task"), "be atomic or per-task"),
                "What the patch needs to be safe. `atomic`: all tasks go over to the new functions at one "
                "instant. `per-task`: each may go over at its own.",
                default="atomic",
                example="atomic",
            ),
            Field(
                "objects",
                Mapping(
                    (
                        Field(
                            "vmlinux",
                            _OBJECT,
                            "The kernel image.",
                            example={
                                "functions": ["meminfo_proc_show"],
                                "hooks": {"post_patch": "post_patch_hook"},
                            },
                        ),
                    ),
                    unknown="must be vmlinux or the name of a module",
                    rest=Field(
                        "MODULE",
                        _OBJECT,
                        "A module of the kernel, by its name as `lsmod` prints it (with `_`, not `-`). It is "
                        "patched when the patch is loaded, or else when the module is.",
                        example={"functions": ["loop_attr_offset_show"]},
                    ),
                    rest_pattern=rf"^(?!vmlinux{END})[A-Za-z0-9_]{{1,55}}{END}",
                ),
                "The objects that the patch changes: the kernel image, `vmlinux`, and modules. At least one. "
                "The files that the patch changes say which objects those are.",
                required=True,
                example={
                    "vmlinux": {
                        "functions": ["meminfo_proc_show"],
                        "hooks": {"post_patch": "post_patch_hook"},
                    }
                },
            ),
            Field(
                "checks",
                Mapping(
                    (
                        _checks_field(
                            "before_load",
                            "before the patch module is loaded",
                            [{"run": "cat /proc/meminfo", "contains": "VmallocTotal"}],
                        ),
                        _checks_field(
                            "after_load",
                            "while the patch is applied",
                            [{"run": "cat /proc/meminfo", "contains": "VMALLOCTOTAL"}],
                        ),
                        _checks_field(
                            "after_unload",
                            "after the patch module is unloaded",
                            [{"run": "cat /proc/meminfo", "absent": "VMALLOCTOTAL"}],
                        ),
                    )
                ),
                "Commands that `doit verify` runs in a virtual machine with the stock kernel, and what they "
                "must print.",
                example={
                    "before_load": [{"run": "cat /proc/meminfo", "contains": "VmallocTotal"}],
                    "after_load": [{"run": "cat /proc/meminfo", "contains": "VMALLOCTOTAL"}],
                    "after_unload": [{"run": "cat /proc/meminfo", "absent": "VMALLOCTOTAL"}],
                },
            ),
        ),
        at_most_one=("patch", "patches"),
        at_least_one=("patch", "patches", "sources"),
    ),
)

KERNEL = Format(
    "kernel",
    1,
    "Kernel description, version 1",
    "Which kernel a patch is built for: where it comes from and its exact version.",
    Mapping(
        (
            _schema_field(1),
            Field(
                "name",
                Text(KERNEL_NAME, "be lower-case letters, digits, . and -", max_length=64),
                "The name that manifests use; the file is `manifests/kernels/NAME.yaml`.",
                required=True,
                example="debian-12-amd64",
            ),
            Field(
                "description",
                _DESCRIPTION,
                "One line that says which kernel this is.",
                required=True,
                example="The stock kernel of Debian 12 on amd64",
            ),
            Field(
                "source",
                Word(("debian",), "be debian; other sources come with a later version"),
                "Where the kernel comes from: `debian` is Debian's archive, through apt.",
                required=True,
                example="debian",
            ),
            Field(
                "arch",
                Word(("x86_64",), "be x86_64; other architectures come with a later version"),
                "The architecture, by the kernel's name for it.",
                required=True,
                example="x86_64",
            ),
            Field(
                "release",
                Text(
                    rf"^[0-9]+\.[0-9]+[0-9a-z.+~-]*-[a-z0-9+-]+{END}",
                    "be what `uname -r` prints, for example 6.1.0-50-amd64",
                    max_length=64,
                ),
                "What `uname -r` prints on that kernel. The image and headers packages are named after it.",
                required=True,
                example="6.1.0-50-amd64",
            ),
            Field(
                "version",
                Text(
                    rf"^[0-9][0-9A-Za-z.+~-]*{END}",
                    "be the version of a Debian package, for example 6.1.176-1",
                    max_length=64,
                ),
                "The exact version of the kernel's Debian packages.",
                required=True,
                example="6.1.176-1",
            ),
            Field(
                "flavour",
                Text(rf"^[a-z0-9][a-z0-9-]*{END}", "be a flavour, for example amd64", max_length=64),
                "Debian's flavour of the kernel, with which `release` ends.",
                required=True,
                example="amd64",
            ),
        )
    ),
)

MAINTAINER = "Unknown maintainer <unknown@example.org>"

BUILD = Format(
    "build",
    1,
    "Build configuration, version 1",
    "Who builds, and with which key: what a manifest must not decide. The file may be missing.",
    Mapping(
        (
            _schema_field(1),
            Field(
                "maintainer",
                Text(
                    rf"^[^\x00-\x20\x7f<>,][^\x00-\x1f\x7f<>,]* "
                    rf"<[^\x00-\x20\x7f<>@,]+@[^\x00-\x20\x7f<>@,]+>{END}",
                    "be a name and a mail address: Name <name@example.org>, without a comma",
                    max_length=200,
                ),
                "The maintainer of the packages that `doit package` makes.",
                default=MAINTAINER,
                example="Kernel Team <kernel@example.org>",
            ),
            Field(
                "signing",
                Mapping(
                    (
                        Field(
                            "key",
                            Text(ONE_LINE, "be a file's path, or a PKCS#11 URI"),
                            "The private key: a PEM file, seen from the project's top folder, or a PKCS#11 "
                            "URI (`pkcs11:...`). The kernel's sign-file takes a key's PIN from the "
                            "environment variable KBUILD_SIGN_PIN.",
                            required=True,
                            example="keys/signing.pem",
                        ),
                        Field(
                            "certificate",
                            Text(ONE_LINE, "be a file's path"),
                            "The key's X.509 certificate, PEM or DER, which the machines' kernels trust.",
                            required=True,
                            example="keys/signing.crt",
                        ),
                    )
                ),
                "Signs every module with the sign-file of the kernel's own build. Without it modules are "
                "unsigned.",
                example={"key": "keys/signing.pem", "certificate": "keys/signing.crt"},
            ),
            Field(
                "signatures_enforced",
                Boolean(),
                "The machines load signed modules only (Secure Boot with lockdown, module.sig_enforce=1): no "
                "package is made of unsigned ones.",
                default=False,
                example=True,
            ),
        )
    ),
    schema_folder="manifests/schema",
)

FORMATS = (MANIFEST, KERNEL, BUILD)
