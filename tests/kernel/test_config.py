# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel import kbuild, tree
from kbuild_py.kernel.config import disagreement, drift, parse, string
from kbuild_py.kernel.target import TargetKernel

SHIPPED = """\
# Automatically generated
CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"
CONFIG_PAHOLE_VERSION=124
CONFIG_DEBUG_INFO_BTF=y
CONFIG_SMP=y
CONFIG_EXT4_FS=m
# CONFIG_DEBUG_LIST is not set
CONFIG_HZ=250
"""


def test_parse() -> None:
    options = parse(SHIPPED)
    assert options["SMP"] == "y" and options["EXT4_FS"] == "m" and options["DEBUG_LIST"] == "n"
    assert string(options, "CC_VERSION_TEXT") == "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"
    assert string(options, "ABSENT") == ""


def test_the_same_configuration_does_not_drift() -> None:
    assert drift(SHIPPED, SHIPPED, "config") == ()
    assert drift(SHIPPED, SHIPPED.replace("# CONFIG_DEBUG_LIST is not set\n", ""), "config") == ()


@pytest.mark.parametrize(
    ("old", "new", "name", "cause"),
    [
        ("CONFIG_SMP=y\n", "", "SMP", "is n after olddefconfig, but y in the shipped kernel"),
        ("CONFIG_EXT4_FS=m", "CONFIG_EXT4_FS=y", "EXT4_FS", "is y after olddefconfig, but m"),
        ("# CONFIG_DEBUG_LIST is not set", "CONFIG_DEBUG_LIST=y", "DEBUG_LIST", "is y after"),
        ("CONFIG_HZ=250", "CONFIG_HZ=1000", "HZ", "is 1000 after olddefconfig, but 250"),
        ("CONFIG_HZ=250", "CONFIG_HZ=250\nCONFIG_NEW=y", "NEW", "is y after olddefconfig, but n"),
        ("12.2.0-14+deb12u1", "12.2.0-14+deb12u2", "CC_VERSION_TEXT", "the compiler"),
    ],
)
def test_each_way_of_drifting_is_named(old: str, new: str, name: str, cause: str) -> None:
    (problem,) = drift(SHIPPED, SHIPPED.replace(old, new), "config")
    assert f"CONFIG_{name} " in problem.cause and cause in problem.cause


def test_causes_come_before_consequences_and_name_the_package() -> None:
    made = SHIPPED.replace("CONFIG_DEBUG_INFO_BTF=y\n", "").replace("CONFIG_EXT4_FS=m\n", "")
    first, second = drift(SHIPPED, made, "config")
    assert "CONFIG_DEBUG_INFO_BTF" in first.cause and "pahole" in first.cause and "dwarves" in first.remedy
    assert "CONFIG_EXT4_FS" in second.cause


def test_facts_about_tools_that_write_no_code_may_differ() -> None:
    made = SHIPPED.replace("PAHOLE_VERSION=124", "PAHOLE_VERSION=125")
    rust = "CONFIG_RUSTC_VERSION=109500\nCONFIG_RUST_IS_AVAILABLE=y\n"
    assert drift(SHIPPED, made + rust, "config") == ()
    shipped = SHIPPED + "CONFIG_RUST=y\nCONFIG_RUSTC_VERSION=108000\n"
    assert [
        problem.cause.split()[0] for problem in drift(shipped, shipped.replace("108000", "109500"), "config")
    ] == ["CONFIG_RUSTC_VERSION"]


def test_published_configurations_may_leave_out_but_not_contradict() -> None:
    assert disagreement(SHIPPED, "CONFIG_SMP=y\n# CONFIG_DEBUG_LIST is not set\n", "boot") == ()
    (problem,) = disagreement(SHIPPED, "CONFIG_HZ=100\n", "boot")
    assert "CONFIG_HZ is 100 here, but 250" in problem.cause


@pytest.fixture(scope="module")
def small_tree(debian12: TargetKernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what configuring a kernel reads: all Kconfig files and Makefiles, and the scripts."""
    small = tmp_path_factory.mktemp("tree")
    for folder, folders, files in os.walk(debian12.tree):
        here = Path(folder).relative_to(debian12.tree)
        if here == Path("Documentation"):
            folders.clear()
        whole = here.parts[:1] == ("scripts",)
        for name in files:
            if whole or name.startswith(("Kconfig", "Makefile", "Kbuild")):
                (small / here).mkdir(parents=True, exist_ok=True)
                shutil.copy2(Path(folder) / name, small / here / name)
    return small


def configure(kernel: TargetKernel, folder: Path, shipped: Path, log: Path) -> None:
    arguments = kbuild.arguments(kernel.headers / "include" / "generated", kernel.arch, kernel.compiler)
    tree.configure(folder, shipped, arguments, log, log.with_name("hold"))


@pytest.mark.kernel
def test_the_stock_configuration_comes_out_to_the_letter(
    debian12: TargetKernel, small_tree: Path, tmp_path: Path
) -> None:
    configure(debian12, small_tree, debian12.config, tmp_path / "log")
    assert (small_tree / ".config").read_text() == debian12.config.read_text()


@pytest.mark.kernel
def test_without_pahole_the_lost_options_are_refused_by_name(
    debian12: TargetKernel, small_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in reversed(os.environ["PATH"].split(":")):
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            link = programs / program.name
            if program.name != "pahole":
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    monkeypatch.setenv("PATH", str(programs))
    assert shutil.which("pahole") is None and shutil.which("gcc-12") is not None
    with pytest.raises(UserError) as caught:
        configure(debian12, small_tree, debian12.config, tmp_path / "log")
    first = caught.value.problems[0]
    assert "CONFIG_DEBUG_INFO_BTF_MODULES is n after olddefconfig, but y" in first.cause
    assert first.remedy == "apt-get install dwarves"
    assert "CONFIG_PAHOLE_HAS_SPLIT_BTF is n" in str(caught.value)


@pytest.mark.kernel
def test_the_environment_does_not_reach_the_configuration(
    debian12: TargetKernel, small_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("ARCH", "arm64"), ("KCFLAGS", "-O0"), ("KCONFIG_CONFIG", "other"), ("LLVM", "1"), ("CC", "clang"),
        ("CROSS_COMPILE", "none-"), ("MAKEFLAGS", "-n"), ("KBUILD_OUTPUT", "/nowhere"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    configure(debian12, small_tree, debian12.config, tmp_path / "log")
