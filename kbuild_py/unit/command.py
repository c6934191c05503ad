# SPDX-License-Identifier: GPL-2.0-or-later
"""The compile command of a source file, as kbuild itself would run it, and the object it belongs to.

kbuild is a program in make's language: flags depend on folder, file, configuration and compiler, and nothing
but make can say what they come to.  So make is asked: `record-top.mk` and `record-folder.mk` read kbuild's
own makefiles and, where it would compile, write the command down instead.  Nothing is configured, prepared
or compiled, and the answer for any number of files takes about a second.

The same run answers what a file belongs to.  kbuild compiles any file by name, built or not; but the folder's
makefile, evaluated, lists what goes into vmlinux and into modules, and the way kbuild came to the folder
says whether that list counts.  A file that is on no list is refused.

Some sources include a header that kbuild generates when it comes to them (lib/crc32table.h).  make does so
in the overlay, and the headers are kept with the record.

Records lie in the cache folder, one for each kernel and file, under a key that changes with everything that
the answer depends on: tree, configuration, compiler, makefiles, and this recorder.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from kbuild_py.files import cache_folder, read_json, scratch, sha256, write_atomic, write_json
from kbuild_py.kernel.hold import taken
from kbuild_py.kernel.kbuild import ENVIRONMENT, source_architecture
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.run import run
from kbuild_py.unit.overlay import make_overlay

RECORDER = tuple(Path(__file__).with_name(name) for name in ("record-top.mk", "record-folder.mk"))
VMLINUX = "vmlinux"


@dataclass(frozen=True, slots=True)
class CompileCommand:
    """How kbuild makes one object.

    source:    in the tree, for example fs/proc/meminfo.c
    object:    what the code is part of: `vmlinux` or a module's name
    recorded:  the shell line that kbuild would run, objtool included
    compiler:  the compiler's words, from the program's name to the source's
    objtool:   the words of the objtool that kbuild runs on the compiled object, without the object's name;
               empty where it runs none
    delayed:   kbuild runs objtool not on each object but once on all of vmlinux (kernels with IBT)
    generated: headers that kbuild generates for it: path in the tree -> file in the cache folder
    """

    source: str
    object: str
    recorded: str
    compiler: tuple[str, ...]
    objtool: tuple[str, ...]
    delayed: bool
    generated: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class NotPatchable:
    """Why a source has no command: `cause` continues a sentence that begins with the source's name."""

    cause: str
    remedy: str


def record(kernel: TargetKernel, sources: Sequence[str]) -> dict[str, CompileCommand | NotPatchable]:
    """The commands of the sources (paths in the tree, ending in .c, of files that exist).

    Recorded ones come from the cache folder; the rest are asked for in one run of make.
    """
    folders = {source: _record_folder(kernel, source) for source in sources}
    missing = [source for source in sources if not (folders[source] / "answer.json").exists()]
    if missing:
        _ask(kernel, {source: folders[source] for source in missing})
    return {
        source: _understand(kernel, source, read_json(folder / "answer.json"), folder)
        for source, folder in folders.items()
    }


def module_objtool(kernel: TargetKernel) -> tuple[str, ...]:
    """The words of the objtool that this kernel's kbuild runs on a module's object; without its name.

    Empty for a kernel that is built without objtool.
    """
    folder = _record_folder(kernel, "kbuild-py-module.c")
    path = folder / "answer.json"
    if not path.exists():
        _ask(kernel, {"kbuild-py-module.c": folder})
    _, objtool = _split_command(str(read_json(path)["command"]), "kbuild-py-module.o")
    return objtool


def unsealed(objtool: Sequence[str]) -> tuple[str, ...]:
    """objtool's words for one object of a module with several, or of a module that others call.

    With --ibt objtool lists the functions whose address nothing takes, and the kernel then spoils their
    landing pads for indirect calls.  It sees one object only, and the address may be taken in another.
    """
    return tuple(word for word in objtool if word != "--ibt")


def nearest_source(tree: Path, path: str) -> str | None:
    """The C source of the tree whose path is most like `path`: same file name first, then same folder."""
    name = PurePosixPath(path).name
    same = [str((Path(found) / name).relative_to(tree)) for found, _, names in os.walk(tree) if name in names]
    close = difflib.get_close_matches(path, same, 1, 0.0)
    if not close:
        folder = (tree / path).parent
        beside = [str(found.relative_to(tree)) for found in folder.glob("*.c")] if folder.is_dir() else []
        close = difflib.get_close_matches(path, beside, 1)
    return close[0] if close else None


def _record_folder(kernel: TargetKernel, source: str) -> Path:
    """Where the record of `source` is or will be."""
    facts = [str(kernel.tree.resolve()), kernel.compiler, kernel.arch, kernel.version]
    folders = [kernel.tree / parent for parent in PurePosixPath(source).parents]
    read = [kernel.tree, kernel.tree / "include/config/auto.conf"]
    read += [folder / name for folder in folders for name in ("Makefile", "Kbuild")]
    for path in read:
        if path.exists():
            status = path.stat()
            facts.append(f"{path.name} {status.st_ino} {status.st_size} {status.st_mtime_ns}")
    facts += [path.read_text() for path in RECORDER]
    return cache_folder() / "commands" / sha256("\n".join(facts).encode())[:24] / source


def _ask(kernel: TargetKernel, folders: dict[str, Path]) -> None:
    """Let make answer for the sources and write each answer into its folder."""
    objects = {source: source.removesuffix(".c") + ".o" for source in folders}
    records = cache_folder() / "commands"
    waiting = "waiting for another build that records compile commands"
    with taken(records / ".lock", waiting), scratch(records) as temporary:
        top = temporary / "tree"
        inside = {f".kbuild-py/{path.name}": path.read_bytes() for path in RECORDER}
        inside[".kbuild-py/answers/none"] = b""
        make_overlay(top, kernel.tree, inside, also_real=folders)
        run(
            [
                "make",
                # Since 6.12 the top Makefile starts itself again without this.
                "--no-print-directory",
                "-f",
                ".kbuild-py/record-top.mk",
                "kbuild-py-record",
                "kbuild-py-folder=.kbuild-py",
                "kbuild-py-output=.kbuild-py/answers",
                f"kbuild-py-objects={' '.join(objects.values())}",
                f"CC={kernel.compiler}",
                f"ARCH={source_architecture(kernel.arch)}",
                "CROSS_COMPILE=",
                # The tree is prepared: no new configuration, no new folders.
                "may-sync-config=",
                "need-compiler=1",  # which has the same value otherwise since 6.3
                "obj-dirs=",
            ],
            cwd=top,
            env=ENVIRONMENT,
        )
        for source, folder in folders.items():
            answer = _read_answer(top / ".kbuild-py/answers" / objects[source].replace("/", "!"))
            generated = _generated(top, answer.get("needs", "").split())
            for name in generated:
                write_atomic(folder / "generated" / name, (top / name).read_bytes())
            write_json(folder / "answer.json", {**answer, "generated": generated})


def _read_answer(path: Path) -> dict[str, str]:
    """The fields that record-folder.mk wrote; empty when kbuild has no rule for the object."""
    if not path.exists():
        return {}
    fields = (line.partition(":") for line in path.read_text().splitlines())
    return {key: value.strip() for key, _, value in fields}


def _generated(top: Path, needs: Iterable[str]) -> list[str]:
    """The headers that make has generated: those an object needs, and what was made along with them."""
    made = [name for name in needs if (top / name).is_file() and _lies_in(top, top / name)]
    folders = {(top / name).parent for name in made}
    return sorted(
        str(path.relative_to(top))
        for folder in folders
        for path in folder.iterdir()
        if path.is_file() and _lies_in(top, path) and not path.name.startswith(".") and _is_text(path)
    )


def _lies_in(top: Path, path: Path) -> bool:
    """Whether a file of an overlay is one of its own, not one of the tree seen through a link."""
    return path.resolve().is_relative_to(top.resolve())


def _is_text(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"\0" not in stream.read(4096)


def _understand(
    kernel: TargetKernel, source: str, answer: dict[str, object], folder: Path
) -> CompileCommand | NotPatchable:
    """The command that an answer holds, or why the file cannot be patched."""
    if "command" not in answer:
        return NotPatchable("has no rule in kbuild that compiles it", "leave the file out of the patch")
    linked = str(answer.get("linked", "")).split()
    module = str(answer.get("module", ""))
    if "vmlinux" in linked:
        owner = VMLINUX
    elif "module" in linked and module and ":" not in module:
        owner = module.replace("-", "_")  # as the kernel calls it
    elif "module" in linked:
        return NotPatchable(
            f"is part of several modules: {module.replace(':', ', ')}",
            "leave the file out of the patch",
        )
    elif "library" in linked or "folder" in linked:
        return NotPatchable(
            f"is not linked into the image of kernel {kernel.name}: its folder makes a program or library "
            "of its own (boot code, vDSO, real mode code, ...)",
            "only code that runs in the kernel itself can be patched",
        )
    else:
        return _not_built(kernel, source)
    recorded = str(answer["command"])
    target = source.removesuffix(".c") + ".o"
    compiler, objtool = _split_command(recorded, target)
    if compiler[:1] != (kernel.compiler,) or compiler[-4:] != ("-c", "-o", target, source):
        raise AssertionError(f"{source}: kbuild's command has an unknown form: {recorded}")
    names = answer["generated"]
    assert isinstance(names, list)
    generated = tuple((name, str(folder / "generated" / name)) for name in names)
    return CompileCommand(source, owner, recorded, compiler, objtool, bool(answer.get("delayed")), generated)


def _split_command(line: str, target: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """kbuild's shell line as the compiler's words and objtool's (without `target` at their end)."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    steps: list[list[str]] = [[]]
    for word in lexer:
        if word == ";":
            steps.append([])
        else:
            steps[-1].append(word)
    steps = [step for step in steps if step]
    rest = steps[1:]
    if len(rest) > 1 or (rest and (Path(rest[0][0]).name != "objtool" or rest[0][-1] != target)):
        raise AssertionError(f"{target}: kbuild's command has an unknown step: {line}")
    return tuple(steps[0]), tuple(rest[0][:-1]) if rest else ()


def _not_built(kernel: TargetKernel, source: str) -> NotPatchable:
    """Why the configuration puts a source nowhere, with the likeliest reason as a hint."""
    including = _included_by(kernel.tree, source)
    if including:
        return NotPatchable(
            f"is no translation unit of its own: {', '.join(including)} includes it",
            "a change of an included .c file comes with a later version",
        )
    option = _option(kernel.tree, source)
    remedy = (
        f"the file belongs to {option}, which this kernel does not set"
        if option
        else "leave the file out of the patch, or name a kernel that has it"
    )
    return NotPatchable(
        f"is put neither into vmlinux nor into a module by its folder's makefile (kernel {kernel.name})",
        remedy,
    )


def _included_by(tree: Path, source: str) -> list[str]:
    """The .c files of the same folder and of its parent that include `source`."""
    name = re.escape(PurePosixPath(source).name)
    pattern = re.compile(rb'^[ \t]*#[ \t]*include[ \t]+"([^"\n]*/)?' + name.encode() + rb'"', re.MULTILINE)
    folder = (tree / source).parent
    found = []
    for path in sorted([*folder.glob("*.c"), *folder.parent.glob("*.c")]):
        for match in pattern.finditer(path.read_bytes()):
            included = match.group().decode(errors="replace").split('"')[1]
            if (path.parent / included).resolve() == (tree / source).resolve():
                found.append(str(path.relative_to(tree)))
    return found


def _option(tree: Path, source: str) -> str:
    """The option on the makefile's line that names the object: for a hint only, make has decided already."""
    word = re.compile(rf"(?<![\w-]){re.escape(PurePosixPath(source).stem)}\.o(?![\w-])")
    for name in ("Kbuild", "Makefile"):
        path = (tree / source).parent / name
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            option = re.search(r"\$\((CONFIG_\w+)\)", line)
            if option and word.search(line):
                return option.group(1)
    return ""


def as_json(command: CompileCommand) -> dict[str, object]:
    """A command as a value for a JSON file in a stage folder."""
    return asdict(command)
