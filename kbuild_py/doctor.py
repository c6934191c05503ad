# SPDX-License-Identifier: GPL-2.0-or-later
"""`kbuild-py doctor`: what works on this machine, one line each, with a remedy for what does not.

Each check is a function that returns findings.  It tries the very thing that a build does (the programs it
calls, the compiler of each kernel, the folder it caches in, the archive it fetches from), and changes
nothing but apt's private lists.  What a build can do without is a note and no failure.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from kbuild_py.errors import UserError
from kbuild_py.files import cache_folder
from kbuild_py.kernel import compiler, config, tree
from kbuild_py.kernel.lock import refresh, system_archive
from kbuild_py.kernel.prepare import ROOM, prepared, workshop
from kbuild_py.manifest.load import load_project
from kbuild_py.manifest.model import KernelDescription
from kbuild_py.run import find
from kbuild_py.vm.qemu import KVM_VARIABLE, QEMU, kvm_works

# What builds and boots call beside the programs that prepare a tree.
PROGRAMS = (*tree.TOOLS, "apt-get", "apt-cache", "dpkg-deb", "pahole", "setpriv", "strip", "busybox", QEMU)


class State(Enum):
    """How a check went; `BAD` stops some build."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "BAD"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, what to do."""

    state: State
    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        tail = f" ({self.remedy})" if self.remedy else ""
        return f"{self.state.value:4}  {self.what}: {self.found}{tail}"


def examine(root: Path) -> Iterator[Finding]:
    """Every finding, as soon as it is known.  root: the project"""
    yield from _programs()
    yield _cache()
    yield _virtual()
    try:
        project = load_project(root)
    except UserError as error:
        yield from _bad("manifests", error)
        return
    yield Finding(State.GOOD, "manifests", f"{len(project.manifests)} are valid")
    for kernel in project.kernels:
        yield from _kernel(kernel)
    if missing := [kernel for kernel in project.kernels if not _ready(kernel)]:
        yield from _archive(missing[0])
    yield _running(project.kernels)


def _bad(what: str, error: UserError) -> Iterator[Finding]:
    for problem in error.problems:
        place = f"{problem.place}: " if problem.place and problem.place != what else ""
        cause = " ".join(f"{place}{problem.cause}".split())
        yield Finding(State.BAD, what, cause, problem.remedy)


def _programs() -> Iterator[Finding]:
    for program in PROGRAMS:
        try:
            yield Finding(State.GOOD, program, find(program))
        except UserError as error:
            yield from _bad(program, error)


def _cache() -> Finding:
    folder = cache_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(
            State.BAD, "cache", f"cannot write to {there}", "set KBUILD_PY_CACHE to another folder"
        )
    free = shutil.disk_usage(there).free
    found = f"{folder}, {free / (1 << 30):.1f} GiB free"
    if free < ROOM:
        remedy = f"a kernel takes {ROOM >> 30} GiB: free some, or set KBUILD_PY_CACHE"
        return Finding(State.BAD, "cache", found, remedy)
    return Finding(State.GOOD, "cache", found)


def _virtual() -> Finding:
    if shutil.which(QEMU) is None:
        return Finding(State.NOTE, "kvm", f"not tried, for there is no {QEMU}")
    if kvm_works():
        return Finding(State.GOOD, "kvm", "works")
    why = f"switched off ({KVM_VARIABLE}=0)" if os.environ.get(KVM_VARIABLE) == "0" else "does not work"
    return Finding(State.NOTE, "kvm", f"{why}; virtual machines are translated, which takes some 10 s a boot")


def _ready(kernel: KernelDescription) -> bool:
    try:
        return prepared(kernel) is not None
    except UserError:
        return False


def _kernel(kernel: KernelDescription) -> Iterator[Finding]:
    """The lock, and for a kernel whose configuration is known its compiler."""
    what = f"kernel {kernel.name}"
    try:
        shop = workshop(kernel)
        if not shop.config.exists():
            yield Finding(State.NOTE, what, "not prepared yet", f"./doit kernel:{kernel.name}")
            return
        text = config.string(config.parse(shop.config.read_text()), "CC_VERSION_TEXT")
        compiler.require(text)
    except UserError as error:
        yield from _bad(what, error)
        return
    state = "prepared" if _ready(kernel) else "preparation begun"
    yield Finding(State.GOOD, what, f"{state}; compiler {text}")


def _archive(kernel: KernelDescription) -> Iterator[Finding]:
    """Asked for one kernel that is not prepared; with all of them prepared a build fetches nothing."""
    what = "Debian archive"
    try:
        archive = system_archive(kernel)
        complaints = refresh(archive)
    except UserError as error:
        yield from _bad(what, error)
        return
    if complaints or not archive.has_lists():
        said = " ".join(complaints.split()) or "no list of packages came"
        yield Finding(State.BAD, what, said, "check the network and the sources in /etc/apt")
    else:
        yield Finding(State.GOOD, what, "answers")


def _running(kernels: tuple[KernelDescription, ...]) -> Finding:
    release = platform.release()
    name = next((kernel.name for kernel in kernels if kernel.release == release), "")
    if name:
        return Finding(State.GOOD, "running kernel", f"{release}, which is {name}")
    return Finding(State.NOTE, "running kernel", f"{release}, which no file in manifests/kernels is for")


def run(root: Path, show: Callable[[str], object]) -> bool:
    """Show every finding; says whether nothing is bad."""
    good = True
    for finding in examine(root):
        show(str(finding))
        good &= finding.state is not State.BAD
    return good
