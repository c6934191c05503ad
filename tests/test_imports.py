# SPDX-License-Identifier: GPL-2.0-or-later
"""What may import what: the pure core stays pure, and each library and each side effect has one door."""

from __future__ import annotations

import ast
import builtins
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kbuild_py"

# Modules of the pure core, by prefix, with what each may import of this project.
PURE = {
    "kbuild_py.errors": (),
    "kbuild_py.elf": ("kbuild_py.errors", "kbuild_py.elf"),
    "kbuild_py.delta": ("kbuild_py.errors", "kbuild_py.elf", "kbuild_py.delta"),
    "kbuild_py.baseline": (
        "kbuild_py.errors",
        "kbuild_py.elf",
        "kbuild_py.delta",
        "kbuild_py.kernel.image",
        "kbuild_py.baseline",
    ),
    "kbuild_py.kernel.facts": ("kbuild_py.errors",),
    "kbuild_py.contract": ("kbuild_py.errors", "kbuild_py.baseline", "kbuild_py.manifest.model"),
    "kbuild_py.symbols": ("kbuild_py.errors", "kbuild_py.elf", "kbuild_py.kernel.image"),
    "kbuild_py.module.render": ("kbuild_py.errors",),
    "kbuild_py.module.hooks": (
        "kbuild_py.errors",
        "kbuild_py.elf",
        "kbuild_py.delta.model",
        "kbuild_py.manifest.model",
        "kbuild_py.symbols",
    ),
    "kbuild_py.module.dynrela": (
        "kbuild_py.errors",
        "kbuild_py.elf",
        "kbuild_py.delta",
        "kbuild_py.baseline",
        "kbuild_py.symbols",
    ),
    "kbuild_py.module.kpatch": (
        "kbuild_py.errors",
        "kbuild_py.symbols",
        "kbuild_py.module.render",
        "kbuild_py.module.hooks",
        "kbuild_py.module.dynrela",
    ),
    "kbuild_py.module.livepatch": (
        "kbuild_py.errors",
        "kbuild_py.symbols",
        "kbuild_py.module.hooks",
        "kbuild_py.module.kpatch",
        "kbuild_py.module.render",
    ),
    "kbuild_py.module.late": ("kbuild_py.elf", "kbuild_py.symbols"),
}
# Libraries that touch disk, clock, environment or processes.
IMPURE = {
    "asyncio", "fcntl", "io", "multiprocessing", "os", "platform", "random", "resource", "shutil", "signal",
    "socket", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip
# Library -> the modules that may import it.
DOORS = {
    "subprocess": ("kbuild_py.run", "kbuild_py.vm.qemu"),  # the latter for the names of its types
    "multiprocessing": (),
    "pty": (),
    "elftools": ("kbuild_py.elf",),
    "jinja2": ("kbuild_py.module.render",),
    "doit": ("kbuild_py.tasks",),
    "capstone": ("kbuild_py.delta.machine", "kbuild_py.baseline"),
    "unidiff": ("kbuild_py.unit.patchfile",),
    "yaml": ("kbuild_py.manifest",),
    "jsonschema": ("kbuild_py.manifest",),
    "vmlinux_to_elf": ("kbuild_py.kernel.symbols", "kbuild_py.kernel.image"),
    "platformdirs": ("kbuild_py.files",),
    "rich": ("kbuild_py.progress",),
    "argparse": ("kbuild_py.cli",),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(full name, line) of everything that a file imports, also inside functions and TYPE_CHECKING blocks."""
    name = module_name(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                # `from package import module` names a module; `from module import value` does not.
                yield full if full in MODULES and node.module != name else str(node.module), node.lineno


def within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


@pytest.mark.parametrize("prefix", PURE)
def test_the_core_is_pure(prefix: str) -> None:
    mine = [path for name, path in MODULES.items() if within(name, (prefix,))]
    assert mine
    for path in mine:
        for imported, line in imports(path):
            where = f"{path}:{line}: {imported}"
            if imported.partition(".")[0] == "kbuild_py":
                assert within(imported, PURE[prefix]), f"{where} is no part of what {prefix} may use"
            assert imported.partition(".")[0] not in IMPURE, f"{where} is not pure"


def test_the_pure_core_starts_and_opens_nothing() -> None:
    """Beside imports: calls that reach the disk.  The readers of object files are the one exception."""
    calls = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "exists", "mkdir", "unlink"}
    found = []
    for name, path in MODULES.items():
        if not within(name, tuple(PURE)):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                text = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if text in calls:
                    found.append((name, text))
    # `read_object(path)` is where bytes come from; the rest of elf/ takes bytes.
    assert set(found) <= {("kbuild_py.elf.read", "open")}, found


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_its_door(library: str) -> None:
    users = {
        name
        for name, path in MODULES.items()
        for imported, _ in imports(path)
        if imported.partition(".")[0] == library
    }
    assert all(within(name, DOORS[library]) for name in users), users
    assert users or not DOORS[library] or library in ("jsonschema", "pty"), f"nobody uses {library}"


def test_nothing_starts_processes_but_run() -> None:
    forbidden = ("system", "popen", "fork", "posix_spawn", "exec", "spawn")
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "os":
                assert not node.attr.startswith(forbidden), f"{path}:{node.lineno}: os.{node.attr}"
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and name != "kbuild_py.run"
            ):
                assert getattr(node.func.value, "id", "") != "subprocess", f"{path}:{node.lineno}"


def test_only_vm_knows_qemu() -> None:
    """run.py has the name of the package, for the hint that it is missing."""
    for name, path in MODULES.items():
        if within(name, ("kbuild_py.vm", "kbuild_py.run")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                assert "qemu-system" not in node.value, f"{path}:{node.lineno}"


def test_no_circles() -> None:
    graph = {
        name: {found for found, _ in imports(path) if found in MODULES and found != name}
        for name, path in MODULES.items()
    }
    done: set[str] = set()
    while ready := {name for name, needs in graph.items() if name not in done and needs <= done}:
        done |= ready
    assert not set(graph) - done, f"circles among {sorted(set(graph) - done)}"


def test_third_party_imports_are_declared() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[^A-Za-z0-9_.-]", text)[0].lower() for text in project["dependencies"]}
    installed = packages_distributions()
    declared = {top for top, names in installed.items() if wanted & {name.lower() for name in names}}
    for path in MODULES.values():
        for imported, line in imports(path):
            top = imported.partition(".")[0]
            assert top in declared | {"kbuild_py"} | sys.stdlib_module_names, f"{path}:{line}: {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_each_module_opens_with_its_licence(name: str) -> None:
    lines = MODULES[name].read_text().splitlines()
    assert lines[0] == "# SPDX-License-Identifier: GPL-2.0-or-later"
    assert ast.get_docstring(ast.parse("\n".join(lines))) or len(lines) <= 2, "no prose at its head"
    assert "exec" not in {node.id for node in ast.walk(ast.parse("\n".join(lines)))
                          if isinstance(node, ast.Name) and hasattr(builtins, node.id)}  # fmt: skip
