# SPDX-License-Identifier: GPL-2.0-or-later
"""`kbuild-py kernel list` and `kernel show`: what is known of the project's kernels, as text."""

from __future__ import annotations

from collections.abc import Sequence

from kbuild_py.columns import aligned
from kbuild_py.errors import UserError
from kbuild_py.kernel import config, facts
from kbuild_py.kernel.lock import read_lock
from kbuild_py.kernel.prepare import prepared
from kbuild_py.manifest.model import KernelDescription, Manifest


def listing(kernels: Sequence[KernelDescription], manifests: Sequence[Manifest]) -> str:
    """A line for each kernel: name, release, version, how many manifests name it, whether it is prepared."""
    rows = [("NAME", "RELEASE", "VERSION", "MANIFESTS", "STATE")]
    for kernel in kernels:
        uses = sum(kernel.name in manifest.kernels for manifest in manifests)
        rows.append((kernel.name, kernel.release, kernel.version, str(uses), _state(kernel)))
    return "\n".join(aligned(rows)) + "\n"


def _state(kernel: KernelDescription) -> str:
    try:
        return "prepared" if prepared(kernel) else "not prepared"
    except UserError:
        return "no valid lock"


def details(kernel: KernelDescription) -> str:
    """All that is known of one kernel; what its preparation finds out is there when it is prepared.

    Raises `UserError` without a valid lock.
    """
    lock = read_lock(kernel)
    ready = prepared(kernel)
    lines = [
        f"{kernel.name}: {kernel.description}",
        f"release:   {kernel.release}",
        f"version:   {kernel.version} ({kernel.source}, {kernel.arch}, flavour {kernel.flavour})",
        f"packages:  {', '.join(package.name for package in lock.packages)}",
    ]
    if ready is None:
        lines.append(f"not prepared: `./doit kernel:{kernel.name}` fetches it, then this says more")
        return "\n".join(lines) + "\n"
    options = config.parse(ready.config.read_text())
    lines += [
        f"build ID:  {ready.build_id}",
        f"compiler:  {config.string(options, 'CC_VERSION_TEXT')}",
        f"image:     {ready.boot_image}",
        f"tree:      {ready.tree}",
        f"headers:   {ready.headers}",
    ]
    for backend in (facts.KPATCH, facts.LIVEPATCH):
        problems = facts.missing(options, ready.config, backend)
        lines.append(f"{backend + ':':10} {'no' if problems else 'yes'}")
        lines += [f"    {problem.cause}" for problem in problems]
    lines.append("what matters of its configuration:")
    lines += [f"    {name:24} {why}" for name, why in facts.MATTERS if options.get(name) == "y"]
    return "\n".join(lines) + "\n"
