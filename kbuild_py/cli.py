# SPDX-License-Identifier: GPL-2.0-or-later
"""`kbuild-py`: what is not a task of the build.

Each subcommand is one function from parsed arguments to an exit status.  `main` is the one place where
errors that a user can mend become text:

    0  done        1  refused, or bad input        2  wrong usage        3  diff: no functional change
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Options, Verdicts
from kbuild_py.delta.report import report
from kbuild_py.elf.archive import members
from kbuild_py.elf.read import read_object
from kbuild_py.elf.write import write_object
from kbuild_py.errors import UserError, refuse
from kbuild_py.files import read_json, write_atomic, write_json
from kbuild_py.manifest.draft import functions_list
from kbuild_py.manifest.model import KernelDescription
from kbuild_py.progress import silence

DONE, REFUSED, USAGE, UNCHANGED = 0, 1, 2, 3
# As shells have it for SIGINT and SIGPIPE.
INTERRUPTED, BROKEN_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        silence(sys.stdout)  # Python must not try once more at its end.
        return BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kbuild-py", description="Declarative kernel live patches.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_diff(commands)
    _add_functions(commands)
    _add_kernel(commands)
    _add_doctor(commands)
    _add_schema(commands)
    return parser


def _root() -> Path:
    """The project's folder: the current one or the nearest above it that has manifests and a dodo.py."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dodo.py").exists() and (folder / "manifests").is_dir():
            return folder
    raise refuse(here, "is not inside a project (no folder with dodo.py and manifests/)", "cd to the project")


# --- diff -----------------------------------------------------------------------------------------------


def _add_diff(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "diff",
        help="make a patch object from two objects of one source file",
        description="Compare two relocatable objects of one source file and write an object with the "
        "functions that changed and what they need. Exit status: 0 written, 1 refused or bad input, "
        "2 usage, 3 no functional change.",
    )
    command.add_argument("original", type=Path, metavar="ORIGINAL.o")
    command.add_argument("patched", type=Path, metavar="PATCHED.o")
    command.add_argument("--output", type=Path, required=True, metavar="OUT.o", help="the patch object")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the account as JSON")
    command.add_argument(
        "--entry-size",
        type=_entry_size,
        action="append",
        default=[],
        metavar="SECTION=BYTES",
        help="size of the entries of a special section (may be repeated)",
    )
    command.add_argument(
        "--object",
        default="",
        metavar="NAME",
        help="what the objects are linked into: vmlinux, a module's name, or a library (lib.a)",
    )
    command.add_argument(
        "--symvers", type=Path, metavar="FILE", help="the kernel's Module.symvers: who exports what"
    )
    command.add_argument(
        "--system-map",
        type=Path,
        metavar="FILE",
        help="the kernel's System.map: refuse what it does not have",
    )
    command.set_defaults(run=_diff)


def _entry_size(text: str) -> tuple[str, int]:
    name, _, size = text.rpartition("=")
    try:
        number = int(size, 0)
    except ValueError:
        number = 0
    if not name or number <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not SECTION=BYTES, as in __bug_table=12")
    return name, number


def _diff(arguments: argparse.Namespace) -> int:
    _separate(arguments)
    original = read_object(arguments.original)
    patched = read_object(arguments.patched)
    result = diff(original, patched, _options(arguments))
    if arguments.json is not None:
        write_json(_behind_link(arguments.json), result.to_json())
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    if isinstance(result, Verdicts):
        raise UserError(*(verdict.problem() for verdict in result.verdicts))
    if result.object is not None:
        write_atomic(_behind_link(arguments.output), write_object(result.object))
    print(report(result))
    return DONE if result.changed else UNCHANGED


def _separate(arguments: argparse.Namespace) -> None:
    """Refuse an output that would overwrite an input or the other output."""
    taken = {"the original": arguments.original, "the patched object": arguments.patched}
    for option in ("output", "json"):
        path = getattr(arguments, option)
        for what, other in taken.items():
            # Devices and pipes may be given twice: nothing in them is lost.
            same = path and os.path.realpath(path) == os.path.realpath(other)
            if same and (path.is_file() or not path.exists()):
                raise refuse(path, f"--{option} is {what} too", f"give --{option} a file of its own")
        if path:
            taken[f"--{option}"] = path


def _behind_link(path: Path) -> Path:
    """The file that a link names, so that it is written and the link (/dev/stdout is one) stays."""
    return Path(os.path.realpath(path)) if path.is_symlink() and path.is_file() else path


def _options(arguments: argparse.Namespace) -> Options:
    """What the user says, and what the files around the original object say."""
    exports = known = None
    if arguments.symvers is not None:
        from kbuild_py.symbols import parse_symvers

        exports = parse_symvers(_read(arguments.symvers), str(arguments.symvers))
    if arguments.system_map is not None:
        known = {
            words[2] for line in _read(arguments.system_map).splitlines() if len(words := line.split()) > 2
        }
    return Options(dict(arguments.entry_size), arguments.object, exports, known, _library(arguments))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise refuse(path, f"cannot read: {error.strerror}") from error


def _library(arguments: argparse.Namespace) -> str:
    """The lib.a beside an object in a kernel's build folder, when the object is a member of it.

    Or the one that --object names.
    """
    if arguments.object.endswith(".a"):
        return str(arguments.object)
    path = arguments.original
    library = path.parent / "lib.a"
    try:
        found = members(library.read_bytes())
    except OSError:
        return ""
    return str(library) if any(Path(name).name == path.name for name in found) else ""


# --- functions ------------------------------------------------------------------------------------------


def _add_functions(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "functions",
        help="print the functions: list of a manifest, to paste",
        description="Compile what the manifest's patch touches, and print the functions that really change.",
    )
    command.add_argument("name", metavar="NAME", help="the manifest's name")
    command.set_defaults(run=_functions)


def _functions(arguments: argparse.Namespace) -> int:
    # doit and all stages: not needed for `diff`, which should start quickly.
    from kbuild_py import tasks

    root = _root()
    project = tasks.load_project(root)
    builds = [build for build in project.builds() if build.manifest.name == arguments.name]
    if not builds:
        known = [manifest.name for manifest in project.manifests]
        raise unknown("manifest", arguments.name, known)
    diffs = [f"_delta:{unit.label}" for build in builds for unit in build.units]
    if diffs and tasks.run(root, diffs) != 0:  # without a name doit would run everything
        return REFUSED
    lists: dict[str, list[str]] = {}
    for build in builds:
        changed = [
            (function["original_name"], unit.source)
            for unit in build.units
            for function in read_json(unit.delta)["functions"]
            if function["replaces"]
        ]
        declared = build.manifest.objects[0].functions or ()
        lists.setdefault(functions_list(changed, declared), []).append(build.kernel.name)
    for text, kernels in lists.items():
        if len(lists) > 1:
            print(f"# {', '.join(kernels)}")
        print(text, end="")
    return DONE


def unknown(kind: str, name: str, known: Sequence[str]) -> UserError:
    """The error for a name that is not declared."""
    near = difflib.get_close_matches(name, known, 1)
    remedy = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
    return refuse("", f"no {kind} is called {name!r}", remedy)


# --- kernel ---------------------------------------------------------------------------------------------


def _add_kernel(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    kernel = commands.add_parser("kernel", help="the kernels that manifests are for")
    actions = kernel.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add = actions.add_parser(
        "add",
        help="describe and lock another kernel of Debian",
        description="Write manifests/kernels/NAME.yaml and NAME.lock.json for the kernel with this release.",
    )
    add.add_argument("name", metavar="NAME", help="what manifests call it")
    add.add_argument("release", metavar="RELEASE", help="what `uname -r` prints on it")
    add.set_defaults(run=_kernel_add)
    lock = actions.add_parser(
        "lock",
        help="record the exact packages of a kernel",
        description="Write manifests/kernels/NAME.lock.json: version and SHA-256 of every package that the "
        "kernel's description means, or move the description to another version first.",
    )
    lock.add_argument("name", metavar="NAME", help="the kernel's name")
    which = lock.add_mutually_exclusive_group()
    which.add_argument("--version", default=None, help="move to this version of the packages")
    which.add_argument("--latest", action="store_true", help="move to the newest version in the archive")
    lock.set_defaults(run=_kernel_lock)
    listing = actions.add_parser("list", help="one line for each kernel")
    listing.set_defaults(run=_kernel_list)
    show = actions.add_parser(
        "show", help="what is known of one kernel, what its configuration means, and which backends it has"
    )
    show.add_argument("name", metavar="NAME", help="the kernel's name")
    show.set_defaults(run=_kernel_show)


def _kernel_add(arguments: argparse.Namespace) -> int:
    from kbuild_py.kernel.add import add_kernel

    folder = _root() / "manifests" / "kernels"
    lock = add_kernel(folder, arguments.name, arguments.release)
    print(f"{folder / arguments.name}.yaml: {lock.release}, version {lock.version}")
    return DONE


def _kernel_lock(arguments: argparse.Namespace) -> int:
    from kbuild_py.kernel.lock import lock_kernel, lock_path, move_lock

    description = _kernel(arguments.name)
    if arguments.latest or arguments.version is not None:
        description = move_lock(description, arguments.version or "")
    lock = lock_kernel(description)
    print(f"{lock_path(description)}: {lock.release}, version {lock.version}, {len(lock.packages)} packages")
    return DONE


def _kernel(name: str) -> KernelDescription:
    from kbuild_py.manifest.load import load_kernels

    kernels = {kernel.name: kernel for kernel in load_kernels(_root())}
    if name not in kernels:
        raise unknown("kernel", name, list(kernels))
    return kernels[name]


def _kernel_list(_: argparse.Namespace) -> int:
    from kbuild_py.kernel.show import listing
    from kbuild_py.manifest.load import load_project

    project = load_project(_root())
    print(listing(project.kernels, project.manifests), end="")
    return DONE


def _kernel_show(arguments: argparse.Namespace) -> int:
    from kbuild_py.kernel.show import details

    print(details(_kernel(arguments.name)), end="")
    return DONE


# --- doctor ---------------------------------------------------------------------------------------------


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "doctor",
        help="say what works on this machine, and how to mend what does not",
        description="Try what builds and boots need. Exit status: 0 all is well, 1 something is missing.",
    )
    command.set_defaults(run=_doctor)


def _doctor(_: argparse.Namespace) -> int:
    from kbuild_py import doctor

    return DONE if doctor.run(_root(), lambda line: print(line, flush=True)) else REFUSED


# --- schema ---------------------------------------------------------------------------------------------


def _add_schema(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("schema", help="renew or check the JSON Schemas and the reference pages")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--write", action="store_true", help="write them from the declaration")
    which.add_argument("--check", action="store_true", help="exit with status 1 when they are stale")
    command.set_defaults(run=_schema)


def _schema(arguments: argparse.Namespace) -> int:
    from kbuild_py.manifest import schema

    (schema.write if arguments.write else schema.check)(_root())
    return DONE
