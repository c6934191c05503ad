# SPDX-License-Identifier: GPL-2.0-or-later
"""record.json: what a patch was made from and what came out, for whoever finds it on a machine in a year.

It is a plain account, no proof: digests of everything that went in by hand (manifest, patches, sources),
the kernel, the compiler, how many functions were proven, and digests of the modules.  The same inputs give
the same record: no time, no host, no folder.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from kbuild_py.files import read_json, sha256_file
from kbuild_py.kernel import config
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.layout import Build
from kbuild_py.package.sign import is_signed

FORMAT = 1


def record(build: Build, target: TargetKernel, program: str) -> dict[str, Any]:
    """The record of a finished build.

    program: digest of the program that built it
    """
    manifest = build.manifest
    inputs = (manifest.path, *manifest.patches, *manifest.sources)
    proofs = {unit.source: read_json(unit.proof) for unit in build.units}
    counts = {
        source: dict(Counter(item["state"] for item in proof["functions"]))
        for source, proof in proofs.items()
    }
    options = config.parse(target.config.read_text())
    return {
        "format": FORMAT,
        "name": manifest.name,
        "version": manifest.version,
        "patch": manifest.patch_name,
        "description": manifest.description,
        "consistency": manifest.consistency.value,
        "inputs": {str(path.relative_to(manifest.folder)): sha256_file(path) for path in inputs},
        "program": program,
        "kernel": {
            "name": target.name,
            "release": target.release,
            "version": target.version,
            "arch": target.arch,
            "build_id": target.build_id,
        },
        "compiler": config.string(options, "CC_VERSION_TEXT"),
        "proofs": counts,
        "replaced": [item["name"] for item in read_json(build.contract)],
        "modules": {path.name: _module(path) for path in (build.core_module, *build.modules)},
    }


def _module(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_file(path), "signed": is_signed(path.read_bytes())}
