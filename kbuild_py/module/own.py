# SPDX-License-Identifier: GPL-2.0-or-later
"""The C sources that a manifest brings along, compiled as sources of the patch module.

They hold hooks, and whatever else the patch needs that is no change of a file of the kernel.  kbuild's own
command for a module's source compiles them (recipe.py), in a folder that has the core's kpatch.h and the
manifest's headers.  The object then goes the way of a patch object: what it refers to and the kernel does
not export is reached through an anchor.

A hook has a fixed prototype, and the linker, which joins the hook and its caller, knows no types.  So each
source starts with the prototypes of all hooks, and the compiler compares.  After them a #line directive
gives the source its own name and numbers again: what the compiler says and what __FILE__ is do not depend on
where the project lies.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from kbuild_py.errors import Problem, UserError
from kbuild_py.files import write_atomic
from kbuild_py.kernel.kbuild import environment
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import Hook, Manifest
from kbuild_py.module.recipe import compile_command
from kbuild_py.run import run
from kbuild_py.unit.patchfile import shown

_ERROR = re.compile(r"^(?P<place>[^:\n]+:\d+(?::\d+)?): (?:fatal )?error: (?P<text>.*)$", re.MULTILINE)


def compile_source(
    kernel: TargetKernel, manifest: Manifest, source: Path, headers: Sequence[Path], folder: Path
) -> Path:
    """Compile a source of the manifest in `folder`, to the object that is returned; a log lies beside it.

    headers: what it may include by their names
    Raises `UserError` with each of the compiler's errors at its line of the source.
    """
    shutil.rmtree(folder, ignore_errors=True)  # a header that is no longer listed is not to be found
    folder.mkdir(parents=True)
    name = shown_name(source)
    for header in headers:
        write_atomic(folder / header.name, header.read_bytes())
    write_atomic(folder / source.name, _prelude(manifest.hooks, name) + source.read_bytes())
    output = folder / f"{source.stem}.o"
    command = compile_command(kernel, folder, f"kpatch-{manifest.name}", source.stem)
    log = folder / f"{source.stem}.compile.log"
    result = run(
        ["sh", "-c", command], cwd=kernel.headers, env=environment(kernel.arch), log=log, check=False
    )
    if result.status != 0:
        output.unlink(missing_ok=True)
        said = result.stderr.replace(f"{folder}/", name.removesuffix(source.name))
        raise UserError(*_problems(said, name, log, manifest.hooks))
    return output


def shown_name(source: Path) -> str:
    """A manifest's source as people and __FILE__ call it: manifests/NAME/hooks.c."""
    return "/".join(source.parts[-3:])


def _prelude(hooks: Sequence[Hook], name: str) -> bytes:
    prototypes = dict.fromkeys(f"{hook.prototype};\n" for hook in hooks)
    return f'/* What the manifest\'s hooks are. */\n{"".join(prototypes)}#line 1 "{name}"\n'.encode()


def _problems(said: str, name: str, log: Path, hooks: Sequence[Hook]) -> list[Problem]:
    """The compiler's errors; one about a hook says what the hook must be."""
    found = []
    for match in _ERROR.finditer(said):
        named = re.search(r"'(\w+)'", match["text"])
        hook = next((hook for hook in hooks if named and hook.function == named[1]), None)
        wanted = f"the {hook.kind.value} hook must be: {hook.prototype}, and not static" if hook else ""
        found.append(Problem(match["place"], match["text"], wanted))
    return found or [Problem(name, f"does not compile\n{said[-2000:]}", f"see {shown(log)}")]
