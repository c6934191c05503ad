# SPDX-License-Identifier: GPL-2.0-or-later
"""Object pairs: the same translation unit as the kernel has it and as the patch wants it.

Both are compiled by the kernel's compiler, with kbuild's own command, in two overlays of the same layout, so
that they differ in what the patch does and in nothing else.  Three flags are added to the recorded ones:

-ffunction-sections, -fdata-sections
    Each function and each variable gets a section of its own, which makes "what changed" a comparison of
    sections.  This can alter code a little (a jump between functions of one section may be short), so it is
    not taken on trust: the baseline proof compares each function with the shipped image, and `plain_object`
    is there for the few functions that match only without these flags.
-g0
    No debug information.  gcc promises the same code with and without it (its own test suite compares with
    -fcompare-debug), it would name the build's folders, and it triples the time.

objtool is not run on the pair.  It runs on the finished patch object (`command.module_objtool`), and on
copies of the original for the proof (`proof_object`), which compares with an image that went through it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kbuild_py.errors import Problem, UserError, refuse
from kbuild_py.kernel.kbuild import ENVIRONMENT
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.run import Completed, run
from kbuild_py.unit.check import TranslationUnit
from kbuild_py.unit.command import CompileCommand, module_objtool, unsealed
from kbuild_py.unit.overlay import make_overlay
from kbuild_py.unit.patchfile import encode, shown

PAIR_FLAGS = ("-ffunction-sections", "-fdata-sections", "-g0")
PLAIN_FLAGS = ("-g0",)
DECLARATIONS = "declarations"  # a file's name in the compiler's messages

_MESSAGE = re.compile(
    r"^(?P<file>[^:\n]+):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<text>.*)$", re.MULTILINE
)
_ANY_MESSAGE = re.compile(r"^[^:\n]+:\d+:(?:\d+:)? (?:fatal )?(?:error|warning): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Layout:
    """Two overlays of the kernel tree: with the kernel's sources, and with the patched ones."""

    original: Path
    patched: Path

    @classmethod
    def within(cls, folder: Path) -> Layout:
        """The two in `folder`, where `lay_out` makes them."""
        return cls(folder / "original", folder / "patched")


@dataclass(frozen=True, slots=True)
class ObjectPair:
    """The two objects of one translation unit, as the compiler wrote them."""

    original: Path
    patched: Path


def lay_out(kernel: TargetKernel, units: Sequence[TranslationUnit], folder: Path) -> Layout:
    """Make the two overlays, `original` and `patched`, for all units of a patch in `folder`."""
    generated: dict[str, bytes | Path] = {
        name: Path(file) for unit in units for name, file in unit.command.generated
    }
    originals = {unit.source.path: kernel.tree / unit.source.path for unit in units}
    patched = {unit.source.path: encode(unit.source.text) for unit in units}
    layout = Layout.within(folder)
    make_overlay(layout.original, kernel.tree, {**generated, **originals})
    make_overlay(layout.patched, kernel.tree, {**generated, **patched})
    return layout


def compile_pair(kernel: TargetKernel, unit: TranslationUnit, layout: Layout, folder: Path) -> ObjectPair:
    """Compile both sides of a unit, at the same time, to `original.o` and `patched.o` in `folder`.

    A log lies beside each.  Errors in the patched source are reported at the line of the patch file, or
    of the kernel's source, that they are about.
    """
    pair = ObjectPair(folder / "original.o", folder / "patched.o")
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(_compile, unit.command, layout.original, pair.original, PAIR_FLAGS)
        other = pool.submit(_compile, unit.command, layout.patched, pair.patched, PAIR_FLAGS)
        original, patched = one.result(), other.result()
    if original.status != 0:
        raise _broken_original(unit.command, original, pair.original)
    if patched.status != 0:
        raise UserError(*_explain(kernel, unit, patched, folder))
    return pair


def contradicted(command: CompileCommand, overlay: Path, declarations: Sequence[str]) -> dict[str, str]:
    """The declarations that the source's own definitions contradict, each with the compiler's words.

    overlay: the tree with the source; declarations: C, a line each
    """
    lines = [
        f'#include "{(overlay / command.source).absolute()}"',
        f'#line 1 "{DECLARATIONS}"',
        *declarations,
    ]
    words = compiler_words(command, Path(os.devnull), PAIR_FLAGS)[:-4]
    argv = [*words, "-fsyntax-only", "-x", "c", "-"]
    result = run(argv, cwd=overlay, env=ENVIRONMENT, check=False, stdin="\n".join([*lines, ""]).encode())
    found = [match for match in _MESSAGE.finditer(result.stderr) if match["file"] == DECLARATIONS]
    return {declarations[int(match["line"]) - 1]: match["text"] for match in found}


def compile_unit(
    command: CompileCommand, overlay: Path, output: Path, extra_flags: Sequence[str] = PAIR_FLAGS
) -> Path:
    """Run a recorded command in an overlay, with more flags, to `output`; a log lies beside it."""
    result = _compile(command, overlay, output, extra_flags)
    if result.status != 0:
        raise _broken_original(command, result, output)
    return output


def compiler_words(command: CompileCommand, output: Path, extra_flags: Sequence[str]) -> list[str]:
    """The recorded command with another output and more flags, and without kbuild's dependency file."""
    flags = [word for word in command.compiler[:-4] if not word.startswith(("-Wp,-MMD,", "-Wp,-MD,"))]
    return [*flags, *extra_flags, "-c", "-o", str(output), command.source]


def proof_object(kernel: TargetKernel, command: CompileCommand, original: Path, output: Path) -> Path:
    """A copy of `original` after the objtool that the shipped image's code has been through.

    Kernels with IBT run objtool on all of vmlinux at once; a single object gets the same treatment of its
    instructions with the flags for a module.
    """
    return _objtool(kernel, module_objtool(kernel) if command.delayed else command.objtool, original, output)


def finished_object(kernel: TargetKernel, patch_object: Path, output: Path) -> Path:
    """A copy of the patch object after the objtool that kbuild runs on a module's objects."""
    return _objtool(kernel, unsealed(module_objtool(kernel)), patch_object, output)


def _objtool(kernel: TargetKernel, words: Sequence[str], source: Path, output: Path) -> Path:
    """Copy `source` to `output` and run objtool on it; no words: the kernel is built without."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    shutil.copyfile(source, partial)
    if words:
        run([*words, partial], cwd=kernel.tree, env=ENVIRONMENT, log=_log(output, "objtool"))
    partial.rename(output)
    return output


def plain_object(kernel: TargetKernel, command: CompileCommand, overlay: Path, output: Path) -> Path:
    """The original compiled exactly as kbuild does, but for -g0: one section for all functions, and objtool.

    For functions that differ from the image only because of -ffunction-sections.
    """
    compiled = output.with_name(f"{output.stem}.compiled.o")
    compile_unit(command, overlay, compiled, PLAIN_FLAGS)
    return proof_object(kernel, command, compiled, output)


def _compile(command: CompileCommand, overlay: Path, output: Path, flags: Sequence[str]) -> Completed:
    """Compile to a temporary name and rename, so that `output` is whole or not there."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    partial = output.with_name(f".{output.name}.partial").absolute()
    words = compiler_words(command, partial, flags)
    log = _log(output, "compile")
    result = run(words, cwd=overlay, env=ENVIRONMENT, log=log, check=False)
    if result.status == 0:
        partial.rename(output)
    return result


def _log(output: Path, step: str) -> Path:
    return output.with_name(f"{output.stem}.{step}.log")


def _broken_original(command: CompileCommand, result: Completed, output: Path) -> UserError:
    """The error for a source of the kernel that does not compile."""
    first = _MESSAGE.search(result.stderr)
    cause = f": {first['file']}:{first['line']}: {first['text']}" if first else ""
    return refuse(
        command.source,
        f"the kernel's own source does not compile{cause}",
        f"the whole output is in {shown(_log(output, 'compile'))}",
    )


def _explain(
    kernel: TargetKernel, unit: TranslationUnit, result: Completed, folder: Path
) -> tuple[Problem, ...]:
    """The compiler's errors for a patched source, each at its line of the patch or of the kernel.

    With `#line` directives one number can mean two lines, so the source is compiled once more without them.
    """
    path = unit.source.path
    generated: dict[str, bytes | Path] = {name: Path(file) for name, file in unit.command.generated}
    plain = make_overlay(folder / "plain", kernel.tree, {**generated, path: encode(unit.source.plain)})
    again = _compile(unit.command, plain, folder / "plain.o", PAIR_FLAGS)
    shutil.rmtree(plain)
    log = shown(_log(folder / "plain.o", "compile"))
    problems = tuple(_mapped(unit, again.stderr, found) for found in _MESSAGE.finditer(again.stderr))
    if problems:
        return problems
    return (Problem(path, f"the patched source does not compile\n{result.stderr[-2000:]}", f"see {log}"),)


def _mapped(unit: TranslationUnit, output: str, found: re.Match[str]) -> Problem:
    """One error of the compiler at the line that the user wrote, which may be the use of a header's macro."""
    path, file, number = unit.source.path, found["file"], int(found["line"])
    if file == path:
        return Problem(unit.source.place(number), found["text"])
    following = _ANY_MESSAGE.search(output, found.end())
    notes = output[found.end() : following.start() if following else len(output)]
    use = re.search(rf"^{re.escape(path)}:(\d+):\d+: note: in expansion of macro", notes, re.MULTILINE)
    place = unit.source.place(int(use[1])) if use else path
    return Problem(place, f"{found['text']} (from {PurePosixPath(file)}:{number})")
