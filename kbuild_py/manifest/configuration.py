# SPDX-License-Identifier: GPL-2.0-or-later
"""kbuild-py.yaml: what belongs to whoever builds, and not to a patch.

A manifest travels: it is reviewed, shared, taken from somebody else.  So it must not be able to name a key to
sign with, nor the maintainer of packages.  Those stand in one file at the project's top, or in the one that
$KBUILD_PY_CONFIG names, which is read as strictly as a manifest.
"""

from __future__ import annotations

import os
from pathlib import Path

from kbuild_py.manifest import fields
from kbuild_py.manifest.document import Document, Step
from kbuild_py.manifest.model import BuildConfiguration, Signing
from kbuild_py.manifest.text import short

FILE = "kbuild-py.yaml"
VARIABLE = "KBUILD_PY_CONFIG"


def load_configuration(root: Path) -> BuildConfiguration:
    """The configuration of the project at `root`; `UserError` with every problem of the file."""
    named = os.environ.get(VARIABLE)
    path = Path(named).absolute() if named else root / FILE
    if not named and not os.path.lexists(path):
        return BuildConfiguration(fields.MAINTAINER, None, False)
    document = Document(path, named or FILE, fields.BUILD)
    for key in ("key", "certificate"):
        if document.sound("signing", key):
            _check_file(document, root, ("signing", key))
    document.raise_if_wrong()
    content = document.data
    return BuildConfiguration(
        maintainer=content.get("maintainer", fields.MAINTAINER),
        signing=_signing(content["signing"], root) if "signing" in content else None,
        signatures_enforced=content.get("signatures_enforced", False),
    )


def _signing(content: dict[str, str], root: Path) -> Signing:
    key = content["key"]
    return Signing(
        key=key if key.startswith("pkcs11:") else str(root / key), certificate=root / content["certificate"]
    )


def _check_file(document: Document, root: Path, path: tuple[Step, ...]) -> None:
    name = document.value(*path)
    if path[-1] == "key" and name.startswith("pkcs11:"):
        return
    if not (root / name).is_file():
        document.wrong(path, f"there is no file {short(name)}", "paths start at the project's top folder")
    elif not os.access(root / name, os.R_OK):
        document.wrong(path, f"cannot read {short(name)}: Permission denied", "build as a user who may")
