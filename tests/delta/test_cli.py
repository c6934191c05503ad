# SPDX-License-Identifier: GPL-2.0-or-later
"""`kbuild-py diff` as a program: exit status, what is written, what is printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kbuild_py.run import Completed, run
from tests.delta.compiling import compile_case, needs_gcc

pytestmark = needs_gcc


def kbuild_py(folder: Path, *words: str) -> Completed:
    """Run `kbuild-py diff` on the objects of a case."""
    objects = [str(folder / "before" / "unit.o"), str(folder / "after" / "unit.o")]
    program = [sys.executable, "-c", "import sys; from kbuild_py.cli import main; sys.exit(main())", "diff"]
    return run([*program, *objects, *words], cwd=folder, check=False)


def test_written(tmp_path: Path) -> None:
    compile_case("warn", tmp_path)
    result = kbuild_py(tmp_path, "--output", "out.o", "--json", "out.json", "--entry-size", "__bug_table=12")
    assert (result.status, result.stderr) == (0, "")
    assert "changed" in result.stdout and "because" in result.stdout
    account = json.loads((tmp_path / "out.json").read_text())
    assert account["result"] == "changed"
    assert {function["source_name"] for function in account["functions"]} == {"f"}
    assert {"name", "why", "status", "local"} <= account["functions"][0].keys()
    assert (tmp_path / "out.o").read_bytes()[:4] == b"\x7fELF"


def test_no_change_writes_no_object(tmp_path: Path) -> None:
    compile_case("comment", tmp_path)
    result = kbuild_py(tmp_path, "--output", "out.o", "--json", "out.json")
    assert (result.status, result.stdout) == (3, "no functional change\n")
    assert not (tmp_path / "out.o").exists()
    assert json.loads((tmp_path / "out.json").read_text())["result"] == "unchanged"


def test_refused_with_everything_at_once(tmp_path: Path) -> None:
    compile_case("many", tmp_path)
    result = kbuild_py(tmp_path, "--output", "out.o")
    assert result.status == 1 and "Traceback" not in result.stderr
    assert not (tmp_path / "out.o").exists()
    for rule in ("changed-data", "changed-size", "changed-init", "no-fentry"):
        assert f"[{rule}]" in result.stderr and f"docs/verdicts.md#{rule}" in result.stderr
    assert "unit.o(.data.knob+0x0)" in result.stderr and "hint: " in result.stderr


def test_a_contradicted_entry_size_is_noticed(tmp_path: Path) -> None:
    compile_case("warn", tmp_path)
    right = kbuild_py(tmp_path, "--output", "right.o")
    wrong = kbuild_py(tmp_path, "--output", "wrong.o", "--entry-size", "__bug_table=10")
    assert right.status == wrong.status == 0
    assert "__bug_table: the entry size 10" in wrong.stderr
    assert (tmp_path / "right.o").read_bytes() == (tmp_path / "wrong.o").read_bytes()


@pytest.mark.parametrize(
    "words",
    [(), ("--output",), ("--output", "out.o", "--entry-size", "x"), ("--unknown", "--output", "out.o")],
)
def test_usage(words: tuple[str, ...], tmp_path: Path) -> None:
    compile_case("body", tmp_path)
    result = kbuild_py(tmp_path, *words)
    assert result.status == 2 and "usage: " in result.stderr


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"!<arch>\n", b"int main;\n", None])
def test_bad_input(content: bytes | None, tmp_path: Path) -> None:
    compile_case("body", tmp_path)
    after = tmp_path / "after" / "unit.o"
    after.unlink()
    if content is not None:
        after.write_bytes(content)
    result = kbuild_py(tmp_path, "--output", "out.o")
    assert result.status == 1 and str(after) in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out.o").exists()


def test_a_refusal_is_written_as_json_too(tmp_path: Path) -> None:
    compile_case("many", tmp_path)
    result = kbuild_py(tmp_path, "--output", "out.o", "--json", "out.json")
    assert result.status == 1
    account = json.loads((tmp_path / "out.json").read_text())
    assert account["result"] == "refused" and account["format"] == 1
    for verdict in account["verdicts"]:
        assert f"{verdict['place']}: {verdict['cause']} [{verdict['rule']}]" in result.stderr
        assert f"hint: {verdict['remedy']} ({verdict['anchor']})" in result.stderr


def test_what_is_known_of_the_kernel(tmp_path: Path) -> None:
    compile_case("jump-label", tmp_path)
    unknown = kbuild_py(tmp_path, "--output", "out.o")
    assert unknown.status == 0 and "not known whether vmlinux or a module has" in unknown.stderr
    known = kbuild_py(tmp_path, "--output", "out.o", "--object", "vmlinux")
    assert (known.status, known.stderr) == (0, "")
    (tmp_path / "symvers").write_text("0x1\tother\tvmlinux\tEXPORT_SYMBOL_GPL\tNS\n")
    refused = kbuild_py(tmp_path, "--output", "refused.o", "--object", "snd", "--symvers", "symvers")
    assert refused.status == 1 and "[module-key]" in refused.stderr
    imported = kbuild_py(tmp_path, "--output", "out.o", "--object", "vmlinux", "--symvers", "symvers")
    assert imported.status == 0 and b"import_ns=NS\0" in (tmp_path / "out.o").read_bytes()
    (tmp_path / "System.map").write_text("ffffffff81000000 T f\n")
    assert kbuild_py(tmp_path, "--output", "out.o", "--system-map", "System.map").status == 0
    missing = kbuild_py(tmp_path, "--output", "out.o", "--symvers", "nowhere")
    assert missing.status == 1 and "nowhere: cannot read" in missing.stderr


@pytest.mark.parametrize("kind", ["rc", "rcT"])
def test_a_member_of_a_library_beside_it(kind: str, tmp_path: Path) -> None:
    compile_case("body", tmp_path)
    run(["ar", kind, "lib.a", "unit.o"], cwd=tmp_path / "before")
    result = kbuild_py(tmp_path, "--output", "out.o")
    assert result.status == 1 and "[never-patched]" in result.stderr
    run(["ar", "d", "lib.a", "unit.o"], cwd=tmp_path / "before")
    assert kbuild_py(tmp_path, "--output", "out.o").status == 0
    named = kbuild_py(tmp_path, "--output", "out.o", "--object", "arch/x86/lib/lib.a")
    assert named.status == 1 and "member of the library arch/x86/lib/lib.a" in named.stderr
