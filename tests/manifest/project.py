# SPDX-License-Identifier: GPL-2.0-or-later
"""Small projects for the tests: a folder with manifests/ in it."""

from __future__ import annotations

from pathlib import Path

TOP = Path(__file__).parents[2]

KERNEL = """\
schema: 1
name: stock
description: A kernel that exists for the tests
source: debian
arch: x86_64
release: 6.1.0-50-amd64
version: 6.1.176-1
flavour: amd64
"""

MANIFEST = """\
schema: 1
name: probe
description: A patch that exists for the tests
patch: probe.patch
kernels: [stock]
objects:
  vmlinux:
    functions: [meminfo_proc_show]
"""


def make_project(root: Path) -> Path:
    """A valid project with the kernel `stock` and the manifest `probe`; returns the manifest's path."""
    kernels = root / "manifests" / "kernels"
    kernels.mkdir(parents=True)
    (kernels / "stock.yaml").write_text(KERNEL)
    folder = root / "manifests" / "probe"
    folder.mkdir()
    (folder / "probe.patch").write_text("--- a/x.c\n+++ b/x.c\n")
    (folder / "hooks.c").write_text("void go(void) { }\n")
    (folder / "hooks.h").touch()
    (folder / "manifest.yaml").write_text(MANIFEST)
    return folder / "manifest.yaml"
