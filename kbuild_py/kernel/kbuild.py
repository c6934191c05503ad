# SPDX-License-Identifier: GPL-2.0-or-later
"""How make is called for a kernel, so that nothing but the kernel decides about the result.

kbuild takes settings from the environment (KCFLAGS, ARCH, LLVM, LOCALVERSION, ...) and generates headers
from variables on the command line (who compiled, which release).  Both are pinned here, in one place,
to what the kernel was shipped with: the packaged headers say it.  The same arguments serve the prepared
tree, single objects compiled from it, and external modules built against the headers.
"""

from __future__ import annotations

import re
from pathlib import Path

# The kernel's name of an architecture -> the folder below arch/ that kbuild wants as ARCH.
_SOURCE_ARCHITECTURES = {"x86_64": "x86"}

# Variables of the caller's environment which kbuild (with Debian's additions), make or gcc reads: emptied.
_EMPTIED = """
    CFLAGS_KERNEL CFLAGS_MODULE CPATH CROSS_COMPILE C_INCLUDE_PATH DEBIAN_KERNEL_USE_CCACHE DEB_BUILD_ARCH
    DEB_HOST_ARCH GNUMAKEFLAGS HOSTCFLAGS HOSTLDFLAGS
    KAFLAGS KBUILD_AFLAGS KBUILD_CFLAGS KBUILD_EXTMOD KBUILD_EXTRA_SYMBOLS KBUILD_EXTRA_WARN
    KBUILD_MODPOST_WARN KBUILD_OUTPUT KBUILD_VERBOSE KCFLAGS KCPPFLAGS LDFLAGS_MODULE LLVM LLVM_IAS
    LOCALVERSION MAKEFILES MAKEFLAGS MFLAGS
"""
ENVIRONMENT = dict.fromkeys(_EMPTIED.split(), "")


def source_architecture(arch: str) -> str:
    """kbuild's ARCH for the kernel's name of the architecture: x86 for x86_64."""
    return _SOURCE_ARCHITECTURES[arch]


def environment(arch: str) -> dict[str, str]:
    """What make exports to the commands that it runs: for running one of them without make.

    Debian's objtool of some kernels asks it for the architecture.
    """
    folder = source_architecture(arch)
    return {**ENVIRONMENT, "ARCH": folder, "SRCARCH": folder}


def arguments(generated: Path, arch: str, compiler: str) -> tuple[str, ...]:
    """The variables for make's command line.

    generated: include/generated of the packaged headers (or of the tree prepared from them)
    """

    def value(name: str, macro: str) -> str:
        found = re.search(rf'#define {macro}\s+"(.*)"', (generated / name).read_text())
        return found.group(1) if found else ""

    words = [
        f"ARCH={source_architecture(arch)}",
        "CROSS_COMPILE=",
        f"CC={compiler}",
        f"KERNELRELEASE={value('utsrelease.h', 'UTS_RELEASE')}",
        f"KBUILD_BUILD_USER={value('compile.h', 'LINUX_COMPILE_BY')}",
        f"KBUILD_BUILD_HOST={value('compile.h', 'LINUX_COMPILE_HOST')}",
        "KCONFIG_CONFIG=.config",
    ]
    if (generated / "package.h").exists():
        # Debian's own addition: ` Debian 6.1.176-1`, made from these three.
        distributor, _, version = value("package.h", "LINUX_PACKAGE_ID").strip().partition(" ")
        words += [
            "DISTRIBUTION_OFFICIAL_BUILD=1",
            f"DISTRIBUTOR={distributor}",
            f"DISTRIBUTION_VERSION={version}",
        ]
    return tuple(words)
