# SPDX-License-Identifier: GPL-2.0-or-later
"""A folder that looks like the kernel tree, with some files replaced and the tree itself untouched.

Kernel sources find each other by relative paths: the compile command names the source, `-I./include` and
`-include ./include/...` relative to the tree's top, and `#include "internal.h"` is looked up next to the
source.  `__FILE__` holds the path as it was given.  So the same command, run in a folder with the same
layout, makes the same object, wherever that folder is.

An overlay has real folders only on the way to the files it replaces; everything else is a symbolic link
into the tree.  For a file three folders deep that is some 300 links, made in a few milliseconds.  Programs
that run in it write (temporary files, generated headers) beside the replaced files, never into the tree.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from kbuild_py.errors import refuse
from kbuild_py.files import write_atomic


def make_overlay(
    folder: Path, tree: Path, files: Mapping[str, bytes | Path], *, also_real: Iterable[str] = ()
) -> Path:
    """Fill the new folder `folder` (replacing what was there) and return it.

    tree:      the prepared tree, an absolute path
    files:     path in the tree -> its content here, or a file to link to
    also_real: paths of files whose folders are to be real ones although nothing in them is replaced
    """
    real = {"."}
    for name in [*files, *also_real]:
        real.update(str(parent) for parent in PurePosixPath(name).parents)
    try:
        if folder.exists():
            shutil.rmtree(folder)
        for name in sorted(real, key=lambda name: name.count("/")):
            _link_entries(tree / name, folder / name, name, real, files)
        for name, content in files.items():
            if isinstance(content, Path):
                (folder / name).symlink_to(content)
            else:
                write_atomic(folder / name, content)
    except OSError as error:
        raise refuse(folder, f"cannot lay out the sources: {error.strerror}") from error
    return folder


def _link_entries(
    source: Path, folder: Path, name: str, real: set[str], replaced: Mapping[str, bytes | Path]
) -> None:
    """Make `folder` a real folder of links to the entries of `source`, but for those made apart."""
    folder.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        return  # a folder that the tree does not have
    prefix = "" if name == "." else f"{name}/"
    with os.scandir(source) as entries:
        for entry in entries:
            path = prefix + entry.name
            if path not in real and path not in replaced:
                (folder / entry.name).symlink_to(entry.path)
