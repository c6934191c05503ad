# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own way to build a patch module, recorded once for each kernel.

An external module goes through kbuild: make starts make starts make, and reads makefiles for longer than
the tools that it calls in the end run.  But every patch module is built in the same way: compile
`patch.c`, link it with the patch objects, let modpost write the module's last source file, compile that,
link.  So kbuild builds one sample, and leaves the command of each step in a file beside its result
(scripts/Kbuild.include, if_changed).  These commands, with names and folders put in, build every other
patch module for this kernel, and compile the C sources that a manifest brings along.
A test compares what both ways give, byte for byte.

One thing is done in another order.  Kernels with IBT run objtool on a module when it is linked, instead of
on each of its objects.  Patch objects have been through objtool by then (their references no longer have the
names by which it knows functions that do not return), and it passes over a table that it finds there
already.  So objtool moves from the link to the compile, and every object goes through it once.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from kbuild_py.errors import refuse
from kbuild_py.files import cache_folder, read_json, scratch, sha256, write_atomic, write_json
from kbuild_py.kernel.hold import taken
from kbuild_py.kernel.kbuild import environment
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.module import build
from kbuild_py.module.build import kbuild
from kbuild_py.run import run
from kbuild_py.unit.command import unsealed

SAMPLE = "kpatch-kbuild-py-sample"
SAMPLE_STEM = "kbuild-py-sample-source"
UNIT = "kbuild-py-sample-unit.o"
SAMPLE_SOURCE = """\
#include <linux/module.h>
MODULE_LICENSE("GPL");
"""
# The results of the steps, in order; each has its command in a file `.RESULT.cmd`.
COMPILE, LINK = "{source}.o", "{name}.o"
COMMON = (
    ".module-common.o"  # what is the same in all modules; kernels before 6.13 (and its backports) have none
)
STEPS = (
    "{name}.mod",
    COMPILE,
    LINK,
    "modules.order",
    "Module.symvers",
    "{name}.mod.o",
    COMMON,
    "{name}.ko",
)
# What stands for the things that differ between modules.
FOLDER, NAME, IDENTIFIER, OBJECTS, SYMBOLS = "@FOLDER@", "@NAME@", "@IDENTIFIER@", "@OBJECTS@", "@SYMBOLS@"
SOURCE, SOURCE_IDENTIFIER = "@SOURCE@", "@SOURCE_IDENTIFIER@"


def replay(
    kernel: TargetKernel, folder: Path, name: str, objects: Sequence[str], extra_symbols: Path
) -> Path:
    """Build `folder`/`name`.ko from patch.c and the patch objects in `folder`, which are its `objects`.

    extra_symbols: a Module.symvers with the exports of other modules that this one uses.
    Raises `UserError` with the tool's output when a step fails.
    """
    values = {
        **_names(folder, name, "patch"),
        OBJECTS: " ".join(objects),
        SYMBOLS: shlex.quote(str(extra_symbols)),
    }
    for item in objects:
        shutil.copyfile(folder / f"{item}_shipped", folder / item)
    for item in ("patch.o", *objects):
        # modpost wants kbuild's record of how each object was made to be there.
        (folder / f".{item}.cmd").touch()
    log = f"$ cd {shlex.quote(str(kernel.headers))}\n"
    for step in filter(None, recipe(kernel)):
        command = fill(step, values)
        result = run(["sh", "-c", command], cwd=kernel.headers, env=environment(kernel.arch))
        log += f"$ {command}\n{result.stdout}{result.stderr}"
    write_atomic(folder / "build.log", log)
    return folder / f"{name}.ko"


def compile_command(kernel: TargetKernel, folder: Path, name: str, stem: str) -> str:
    """The shell command that compiles `folder`/STEM.c to STEM.o as a source of the module `name`.

    It runs in the folder of the kernel's headers.
    """
    return fill(recipe(kernel)[STEPS.index(COMPILE)], _names(folder, name, stem))


def _names(folder: Path, name: str, stem: str) -> dict[str, str]:
    return {
        FOLDER: shlex.quote(str(folder)),
        NAME: name,
        IDENTIFIER: name.replace("-", "_"),
        SOURCE: stem,
        SOURCE_IDENTIFIER: stem.replace("-", "_"),
    }


def fill(command: str, values: Mapping[str, str]) -> str:
    """The command with each placeholder replaced."""
    for placeholder, value in values.items():
        command = command.replace(placeholder, value)
    return command


def recipe(kernel: TargetKernel) -> list[str]:
    """The commands of `STEPS` with placeholders; recorded when this kernel has none yet.

    The command of a step that this kernel's kbuild does not have is empty.
    """
    recorders = [Path(file).read_text() for file in (__file__, build.__file__)]
    here = "\n".join([str(kernel.headers), kernel.build_id, *recorders])
    recipes = cache_folder() / "modules"
    path = recipes / f"{sha256(here.encode())[:24]}.json"
    with taken(recipes / ".lock", "waiting for another build that records how modules are built"):
        if not path.exists():
            write_json(path, _record(kernel))
    commands: list[str] = read_json(path)
    return commands


def _record(kernel: TargetKernel) -> list[str]:
    """Build the sample with kbuild and read its commands."""
    with scratch(cache_folder() / "modules") as folder:
        (folder / f"{SAMPLE_STEM}.c").write_text(SAMPLE_SOURCE)
        (folder / "unit.c").write_text("")
        (folder / "Kbuild").write_text(f"obj-m := {SAMPLE}.o\n{SAMPLE}-y := {SAMPLE_STEM}.o {UNIT}\n")
        symbols = folder / "extra.symvers"
        symbols.write_text("")
        run([kernel.compiler, "-c", "-o", f"{UNIT}_shipped", "unit.c"], cwd=folder)
        kbuild(kernel, folder, extra_symbols=symbols)
        values = {
            str(symbols): SYMBOLS,
            str(folder): FOLDER,
            UNIT: OBJECTS,
            SAMPLE: NAME,
            SAMPLE.replace("-", "_"): IDENTIFIER,
            SAMPLE_STEM: SOURCE,
            SAMPLE_STEM.replace("-", "_"): SOURCE_IDENTIFIER,
        }
        results = [step.format(name=SAMPLE, source=SAMPLE_STEM) for step in STEPS]
        commands = [fill(_saved(folder / f".{result}.cmd"), values) for result in results]
        return _objtool_on_objects(commands)


def _objtool_on_objects(commands: list[str]) -> list[str]:
    """The commands of `STEPS` with objtool run on each compiled object instead of on the linked ones."""
    compiling, linking = STEPS.index(COMPILE), STEPS.index(LINK)
    found = re.fullmatch(r"(.*?)\s*;\s*(\S*/objtool\s.*)\s(\S+)", commands[linking])
    if found is None:
        return commands
    link, objtool, _ = found.groups()
    words = " ".join(unsealed(objtool.split()))
    changed = {compiling: f"{commands[compiling]} ; {words} {FOLDER}/{SOURCE}.o", linking: link}
    return [changed.get(number, command) for number, command in enumerate(commands)]


def _saved(path: Path) -> str:
    """The command that kbuild saved, unescaped (scripts/Kbuild.include: make-cmd)."""
    if path.name == f".{COMMON}.cmd" and not path.exists():
        return ""
    try:
        line = path.read_text().partition("\n")[0]
    except OSError as error:
        raise refuse(
            path.name,
            "the kernel's build left no such command file",
            "its kbuild works in a way not known yet",
        ) from error
    return line.partition(":=")[2].strip().replace("$(pound)", "#").replace("$$", "$")
