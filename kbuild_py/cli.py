# SPDX-License-Identifier: GPL-2.0-or-later
"""`kbuild-py`: what is not a task of the build.

Each subcommand is one function from parsed arguments to an exit status.  `main` is the one place where
errors that a user can mend become text:

    0  done        1  refused, or bad input        2  wrong usage        3  diff: no functional change
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta, Options, Verdicts
from kbuild_py.elf.read import read_object
from kbuild_py.elf.write import write_object
from kbuild_py.errors import UserError
from kbuild_py.files import write_atomic, write_json

DONE, REFUSED, USAGE, UNCHANGED = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        return status
    except UserError as error:
        print(error, file=sys.stderr)
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kbuild-py", description="Declarative kernel live patches.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_diff(commands)
    return parser


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
    original = read_object(arguments.original)
    patched = read_object(arguments.patched)
    result = diff(original, patched, Options(dict(arguments.entry_size)))
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    if isinstance(result, Verdicts):
        raise UserError(*(verdict.problem() for verdict in result.verdicts))
    if result.object is not None:
        write_atomic(arguments.output, write_object(result.object))
    if arguments.json is not None:
        write_json(arguments.json, result.to_json())
    print(describe(result))
    return DONE if result.changed else UNCHANGED


def describe(delta: Delta) -> str:
    """The account for people: functions with the reasons, new data, references."""
    if not delta.changed:
        return "no functional change"
    lines = []
    for function in delta.functions:
        lines.append(f"{function.status.value:8} {function.name} ({function.section}, {function.size} bytes)")
        lines += [f"         because {why.text}" for why in function.why]
    lines += [f"data     {item.name} ({item.section}, {item.size} bytes): {item.why}" for item in delta.data]
    static = sorted(delta.locals)
    if static:
        lines.append(f"static symbols of this file that stay in the kernel: {', '.join(static)}")
    return "\n".join(lines)
