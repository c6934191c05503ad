# SPDX-License-Identifier: GPL-2.0-or-later
"""kbuild's recorded commands against kbuild itself."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.files import CACHE_VARIABLE, cache_folder
from kbuild_py.kernel.kbuild import ENVIRONMENT
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.module.build import kbuild, write_module
from kbuild_py.module.recipe import COMMON, COMPILE, STEPS, compile_command, fill, recipe, replay
from kbuild_py.run import run
from tests.module.conftest import EXAMPLE
from tests.projects import Throwaway, throw_away

SIMPLE = '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nint part(void);\nint value = 3;\n'


def test_fill() -> None:
    assert fill("cc -o @FOLDER@/@NAME@.o", {"@FOLDER@": "/a b", "@NAME@": "n"}) == "cc -o /a b/n.o"


@pytest.mark.kernel
def test_the_commands_name_no_sample_and_no_folder(debian12: TargetKernel) -> None:
    commands = recipe(debian12)
    assert len(commands) == len(STEPS)
    for command in commands:
        assert "sample" not in command and str(cache_folder() / "modules") not in command, command


@pytest.mark.kernel
def test_objtool_runs_on_each_object_where_the_kernel_runs_it_on_the_module(
    debian12_newer: TargetKernel,
) -> None:
    commands = dict(zip(STEPS, recipe(debian12_newer), strict=True))
    assert [step for step, command in commands.items() if "objtool" in command] == [COMPILE]
    compiler, objtool = commands[COMPILE].split(" ; ")
    assert "gcc-12 " in compiler and objtool.endswith(" @FOLDER@/@SOURCE@.o")
    # What one object does not call through its address, another one may.
    assert "--orc" in objtool.split() and "--ibt" not in objtool.split()
    assert commands[COMMON]


@pytest.mark.kernel
def test_what_the_commands_depend_on(
    debian12: TargetKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the caller's environment, nor a folder for temporary files that kbuild cannot work in; but
    how this program calls kbuild."""
    usual = recipe(debian12)
    project = throw_away(tmp_path / "project", [])
    (tmp_path / "a b").mkdir()
    settings = {
        "TMPDIR": str(tmp_path / "a b"),
        CACHE_VARIABLE: str(tmp_path / "cache"),
        "KCFLAGS": "-O1",
        "DEBIAN_KERNEL_USE_CCACHE": "true",
        "DEB_HOST_ARCH": "arm64",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    def recorded() -> list[str]:
        script = (
            "import json; from pathlib import Path; from kbuild_py.kernel.target import TargetKernel\n"
            "from kbuild_py.module.recipe import recipe\n"
            "print(json.dumps(recipe(TargetKernel.load(Path('kernel.json')))))"
        )
        commands: list[str] = json.loads(run([sys.executable, "-c", script], cwd=project.root).stdout)
        return commands

    debian12.save(project.root / "kernel.json")
    assert recorded() == usual
    path = project.root / "kbuild_py" / "module" / "build.py"
    path.write_text(path.read_text().replace("KCFLAGS=-g0 ", "KCFLAGS=-g0 -DPROBE "))
    assert any(" -DPROBE " in command for command in recorded())


@pytest.mark.kernel
def test_the_same_bytes_as_kbuild(example: Throwaway, debian12: TargetKernel, tmp_path: Path) -> None:
    stage = example.folder(EXAMPLE) / "05-module"
    texts = [(name, (stage / name).read_text()) for name in ("patch.c", "kpatch.h", "Kbuild")]
    objects = [(path.name.removesuffix("_shipped"), path.read_bytes()) for path in stage.glob("*.o_shipped")]
    assert objects
    write_module(tmp_path / "kbuild", texts, objects)
    kbuild(debian12, tmp_path / "kbuild", extra_symbols=example.core.parent / "Module.symvers")
    made = (tmp_path / "kbuild" / f"kpatch-{EXAMPLE}.ko").read_bytes()
    assert made == example.module(EXAMPLE).read_bytes()


@pytest.mark.kernel
def test_several_objects_in_their_order(debian12: TargetKernel, tmp_path: Path, example: Throwaway) -> None:
    """Two patch objects, a name with dashes and digits, another folder: still what kbuild makes."""
    obj = tmp_path / "part.o"
    source = tmp_path / "part.c"
    source.write_text("int part(void) { return 4; }\n")
    other = tmp_path / "other.o"
    flags = ["-c", "-mcmodel=kernel", "-fno-pic", "-fcf-protection=none"]
    run([debian12.compiler, *flags, "-o", obj, source])
    run([debian12.compiler, *flags, "-Dpart=another", "-o", other, source])
    objects = [("2_x.o", obj.read_bytes()), ("1_y.o", other.read_bytes())]
    name = "kpatch-a-1-b"
    listed = " ".join(["patch.o", *(item for item, _ in objects)])
    texts = [("patch.c", SIMPLE), ("Kbuild", f"obj-m := {name}.o\n{name}-y := {listed}\n")]
    symbols = example.core.parent / "Module.symvers"
    for folder in ("kbuild", "replay"):
        write_module(tmp_path / folder, texts, objects)
    kbuild(debian12, tmp_path / "kbuild", extra_symbols=symbols)
    made = replay(debian12, tmp_path / "replay", name, [item for item, _ in objects], symbols)
    assert made.read_bytes() == (tmp_path / "kbuild" / f"{name}.ko").read_bytes()


@pytest.mark.kernel
def test_a_source_is_compiled_as_kbuild_does(debian12: TargetKernel, tmp_path: Path) -> None:
    """Its name, with characters that kbuild changes, and the module's reach it in the same way."""
    text = '#include <linux/module.h>\nchar names[] = KBUILD_BASENAME " " KBUILD_MODNAME " " __FILE__;\n'
    for folder in ("kbuild", "replay"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a-source_2.c").write_text(text)
    (tmp_path / "kbuild" / "patch.c").write_text(SIMPLE)
    name = "kpatch-a-1-b"
    listed = f"obj-m := {name}.o\n{name}-y := patch.o a-source_2.o part.o\n"
    (tmp_path / "kbuild" / "Kbuild").write_text(listed)
    (tmp_path / "kbuild" / "part.c").write_text("int part(void);\nint part(void) { return 4; }\n")
    kbuild(debian12, tmp_path / "kbuild")
    command = compile_command(debian12, tmp_path / "replay", name, "a-source_2")
    run(["sh", "-c", command], cwd=debian12.headers, env=ENVIRONMENT)
    made = (tmp_path / "replay" / "a-source_2.o").read_bytes()
    assert b"a_source_2 kpatch_a_1_b a-source_2.c\0" in made
    assert made == (tmp_path / "kbuild" / "a-source_2.o").read_bytes()


@pytest.mark.kernel
def test_a_step_that_fails_shows_the_tools_words(debian12: TargetKernel, tmp_path: Path) -> None:
    write_module(tmp_path / "m", [("patch.c", "#error wrong on purpose\n")], [])
    with pytest.raises(UserError, match="wrong on purpose"):
        replay(debian12, tmp_path / "m", "kpatch-x", [], tmp_path / "none")
    assert not (tmp_path / "m" / "kpatch-x.ko").exists()


@pytest.mark.kernel
def test_a_symbol_that_nobody_exports_is_refused(
    debian12: TargetKernel, tmp_path: Path, example: Throwaway
) -> None:
    text = SIMPLE + "void nobody_has_this(void);\nvoid go(void) { nobody_has_this(); }\n"
    write_module(tmp_path / "m", [("patch.c", text)], [])
    with pytest.raises(UserError, match="nobody_has_this"):
        replay(debian12, tmp_path / "m", "kpatch-x", [], example.core.parent / "Module.symvers")
    shutil.rmtree(tmp_path / "m")
