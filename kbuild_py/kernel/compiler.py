# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own compiler, and no other.

The configuration records what compiled the kernel, as the first line of its `--version`:
`CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"`.  Its first word is the program.  The
program must be there and must say exactly this line, distribution patch level included: a compiler with
another patch level may generate other code, and then the proof against the shipped image fails function by
function with no hint at the one cause of it all.  The check takes milliseconds and comes first.
"""

from __future__ import annotations

import re
import shutil

from kbuild_py.errors import refuse
from kbuild_py.run import run


def program(version_text: str) -> str:
    """The compiler's name from CONFIG_CC_VERSION_TEXT, for example gcc-12 (or x86_64-linux-gnu-gcc-12)."""
    name = version_text.split(maxsplit=1)[0] if version_text else ""
    if not re.fullmatch(r"(?:[a-z0-9_]+-)*gcc(?:-\d+)?", name):
        raise refuse(
            "CONFIG_CC_VERSION_TEXT",
            f"the kernel was compiled with {version_text or 'an unknown compiler'!r}",
            "only kernels compiled with gcc are supported yet",
        )
    return name


def package(name: str, version_text: str) -> str:
    """The Debian package, with its version where the text has it: gcc-12=12.2.0-14+deb12u1."""
    short = re.sub(r".*?(gcc(?:-\d+)?)$", r"\1", name)
    found = re.search(r"\(Debian ([^\s)]+)\)", version_text)
    return f"{short}={found.group(1)}" if found else short


def require(version_text: str) -> str:
    """The program that compiles for the kernel; refused unless it is the very one that compiled it."""
    name = program(version_text)
    wanted = package(name, version_text)
    if shutil.which(name) is None:
        raise refuse(name, "the kernel's compiler is not installed", f"apt-get install {wanted}")
    lines = run([name, "--version"]).stdout.splitlines()
    found = lines[0].strip() if lines else ""
    if found != version_text:
        raise refuse(
            name, f"is not the kernel's compiler: it is {found!r}, the kernel's is {version_text!r}",
            f"apt-get install {wanted}",
        )  # fmt: skip
    return name
