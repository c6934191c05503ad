# SPDX-License-Identifier: GPL-2.0-or-later
"""The prepared source tree: unpacked, configured as shipped, `make prepare` done; no kernel is built.

After `make prepare` any single object of the kernel can be compiled: the generated headers exist
(asm-offsets.h, bounds.h, autoconf.h, ...), and so do the tools (objtool, fixdep).

Two checks make sure that this is the shipped kernel's tree.  The configuration must come out of
`olddefconfig` as it was shipped (config.py).  And the headers packages have the headers of the shipped
kernel's own build, generated ones included: each of them must be in the tree with the same bytes.  This
finds a wrong source version, a wrong option, and a wrong compiler or assembler as far as headers tell.

The tree is made in its final place, since kbuild records absolute paths of the tools that it builds; until
its step is marked as done (prepare.py) nobody uses it, and an interrupted attempt is removed.  All programs
that write into it hold the lock `hold` (hold.py).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from kbuild_py.errors import Problems, UserError, refuse
from kbuild_py.files import write_atomic
from kbuild_py.kernel import config, kbuild
from kbuild_py.kernel.headers import common_folder
from kbuild_py.kernel.hold import holding
from kbuild_py.run import find, run

# What every tree's preparation runs besides the compiler.  Tools that only some configurations need (pahole)
# are not here: their absence shows as drift of the configuration, which names the options too.
TOOLS = ("make", "flex", "bison", "bc", "tar", "xz", "ld")
# What a failed make printed -> the package whose absence it means.
_LIBRARIES = (
    (r"(libelf|gelf)\.h: No such file", "libelf-dev"),
    (r"zlib\.h: No such file", "zlib1g-dev"),
    (r"openssl/\w+\.h: No such file", "libssl-dev"),
)
# Headers that the shipped kernel's build made after `make prepare`: taken from the package.
_MADE_LATER = (Path("include/generated/utsversion.h"),)
# The configuration as a header: compared option by option already, with what may differ in mind.
_COMPARED_ALREADY = (Path("include/generated/autoconf.h"),)


def require_tools() -> None:
    """Refuse, naming all at once, when a program that the preparation needs is missing."""
    problems = Problems()
    for tool in TOOLS:
        try:
            find(tool)
        except UserError as error:
            problems.extend(error.problems)
    problems.raise_if_any()


def unpack(tarball: Path, tree: Path, hold: Path) -> None:
    """Unpack the source tarball; `tree` is emptied first."""
    if tree.exists():
        shutil.rmtree(tree)
    tree.mkdir(parents=True)
    # xz can use all processors for a tarball that was compressed in blocks, as Debian's are.
    options = ("--strip-components=1", "--use-compress-program=xz -T0")
    run([*holding(hold), "tar", "-C", tree, *options, "-xf", tarball])


def configure(tree: Path, shipped: Path, arguments: tuple[str, ...], log: Path, hold: Path) -> None:
    """Give the tree the shipped configuration; refuse every option that this machine would change."""
    text = shipped.read_text()
    write_atomic(tree / ".config", text)
    _make(tree, arguments, ["olddefconfig"], log, hold)
    Problems(config.drift(text, (tree / ".config").read_text(), shipped)).raise_if_any()


def prepare(tree: Path, headers: Path, arch: str, arguments: tuple[str, ...], log: Path, hold: Path) -> None:
    """`make prepare`, and the comparison with the packaged headers."""
    _make(tree, arguments, [f"-j{os.cpu_count() or 1}", "prepare"], log, hold)
    for path in _MADE_LATER:
        if (headers / path).exists() and not (tree / path).exists():
            shutil.copyfile(headers / path, tree / path)
    different = [str(path) for path in differing_headers(tree, headers, arch)]
    if different:
        some = ", ".join(different[:5]) + (f" and {len(different) - 5} more" if len(different) > 5 else "")
        raise refuse(
            tree,
            f"{len(different)} headers are not those of the shipped kernel: {some}",
            f"the log is {log}; are the source and the headers packages of one version, "
            "and binutils and the compiler those of the kernel's release?",
        )


def differing_headers(tree: Path, headers: Path, arch: str) -> Iterator[Path]:
    """Each header in the packages for which the tree has no file with the same bytes."""
    folder = Path("arch") / kbuild.source_architecture(arch) / "include"
    for package in (headers, common_folder(headers)):
        for top in (Path("include"), folder):
            for path in sorted((package / top).rglob("*.h")):
                relative = path.relative_to(package)
                mine = tree / relative
                if relative in _COMPARED_ALREADY:
                    continue
                if not mine.is_file() or mine.read_bytes() != path.read_bytes():
                    yield relative


def _make(tree: Path, arguments: tuple[str, ...], targets: list[str], log: Path, hold: Path) -> None:
    try:
        run([*holding(hold), "make", "-C", tree, *arguments, *targets], env=kbuild.ENVIRONMENT, log=log)
    except UserError as error:
        first = error.problems[0]
        said = log.read_text() if log.exists() else ""
        missing = next((package for pattern, package in _LIBRARIES if re.search(pattern, said)), "")
        remedy = f"apt-get install {missing}" if missing else first.remedy
        raise refuse(first.place, first.cause, remedy or f"the whole log is {log}") from error
