# SPDX-License-Identifier: GPL-2.0-or-later
"""A new description of a kernel, made from what `uname -r` prints on it.

A release names its packages, and the archive knows in which versions it has them all.  The newest of these is
taken, and locked at once: a description without a lock is of no use.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from kbuild_py.errors import refuse
from kbuild_py.files import write_atomic
from kbuild_py.kernel.lock import Lock, kernel_versions, lock_kernel, refresh, system_archive
from kbuild_py.manifest.model import KernelDescription

NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
# Numbers, an ABI and perhaps a suffix with "+", then the flavour: 6.1.0-50-cloud-amd64, 6.12.9+deb12-amd64.
RELEASE = re.compile(r"\d+(?:\.\d+)+[^-\s]*(?:-\d[^-\s]*)?-([a-z][a-z0-9-]*)", re.ASCII)
TEXT = """\
# yaml-language-server: $schema=../schema/kernel-1.schema.json
schema: 1
name: {0.name}
description: {0.description}
source: {0.source}
arch: {0.arch}
release: {0.release}
version: {0.version}
flavour: {0.flavour}
"""


def add_kernel(folder: Path, name: str, release: str) -> Lock:
    """Write `folder`/NAME.yaml and its lock for the Debian kernel with this release; nothing is downloaded.

    Raises `UserError`, and leaves nothing, for a name that is taken and a release that the archive lacks.
    """
    path = folder / f"{name}.yaml"
    if not NAME.fullmatch(name):
        raise refuse(
            name, "is not a name of small letters, digits, dots and dashes", "for example debian-12-rt"
        )
    if path.exists():
        raise refuse(
            path, f"there is a kernel {name} already", f"kbuild-py kernel lock {name} renews its lock"
        )
    found = RELEASE.fullmatch(release)
    if found is None:
        hint = "`uname -r` prints it, for example 6.1.0-50-amd64"
        raise refuse(release, "is not the release of a Debian kernel", hint)
    described = KernelDescription(
        name, f"Debian's linux {release}", path, "debian", "x86_64", release, "", found[1]
    )
    archive = system_archive(described)
    complaints = refresh(archive)
    rows = [
        row for suffix in ("", "-unsigned") for row in archive.available(f"linux-image-{release}{suffix}")
    ]
    complete = [
        version
        for row in rows[:1]
        for version, other in kernel_versions(archive, replace(described, version=row.version))
        if other == release
    ]
    if not complete:
        cause = "the apt sources do not have all packages of this kernel" if rows else "no apt source has it"
        remedy = f"apt-cache search linux-image-.*-{found[1]}"
        raise refuse(release, "\n".join(filter(None, (cause, complaints))), remedy)
    described = replace(described, version=complete[0])
    write_atomic(path, TEXT.format(described))
    try:
        return lock_kernel(described)
    except BaseException:
        path.unlink()
        raise
