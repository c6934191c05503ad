# SPDX-License-Identifier: GPL-2.0-or-later
"""The packaged headers, laid out so that external modules build from the cache folder, without root.

Three packages make one build folder: the flavour's headers (configuration, Module.symvers, generated
headers), the common headers (all else), and kbuild (the scripts and the compiled tools: modpost, objtool).
They are unpacked below one root, so that their relative links (`scripts -> ../../lib/linux-kbuild-6.1/...`)
lead where they should.  What remains is one absolute path: the flavour's Makefile is nothing but an
`include /usr/src/linux-headers-...-common/Makefile`.  It becomes relative, which is the same text wherever
the cache lies.
"""

from __future__ import annotations

import re
from pathlib import Path

from kbuild_py.errors import refuse
from kbuild_py.files import write_atomic


def headers_folder(root: Path, release: str) -> Path:
    """Where, below the root that the packages are unpacked in, `make -C` works."""
    return root / "usr" / "src" / f"linux-headers-{release}"


def common_folder(headers: Path) -> Path:
    """The folder of the common headers that belong to `headers`."""
    found = re.search(r"^include (\S+)/Makefile$", (headers / "Makefile").read_text(), re.M)
    if found is None:
        raise refuse(headers / "Makefile", "does not include the common headers' Makefile")
    return (headers / found.group(1)).resolve()


def relocate(headers: Path) -> None:
    """Make the unpacked headers independent of /usr/src, and check that all parts are there."""
    makefile = headers / "Makefile"
    if not makefile.exists():
        raise refuse(headers, "the headers package has no Makefile; its layout is not known")
    text = re.sub(r"^include /usr/src/", "include ../", makefile.read_text(), flags=re.M)
    if "/usr/" in text:
        raise refuse(makefile, "has an absolute path that is not known here")
    write_atomic(makefile, text)
    needed = (
        common_folder(headers) / "Makefile",
        headers / ".config",
        headers / "Module.symvers",
        headers / "include/generated/autoconf.h",
        headers / "scripts/mod/modpost",
        headers / "tools/objtool/objtool",
    )
    for path in needed:
        if not path.exists():
            raise refuse(path, "the headers packages do not have this file; their layout is not known")
