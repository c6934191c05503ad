# SPDX-License-Identifier: GPL-2.0-or-later
"""`kbuild-py doctor`, `kernel list` and `kernel show`, on this machine and on one that lacks things."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kbuild_py.cli import DONE, REFUSED, main
from kbuild_py.files import CACHE_VARIABLE
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.vm.qemu import KVM_VARIABLE
from tests.projects import KERNEL, TOP


def copy(folder: Path) -> Path:
    """A project with the kernels' descriptions and nothing else."""
    shutil.copytree(TOP / "manifests" / "kernels", folder / "manifests" / "kernels")
    (folder / "dodo.py").touch()
    return folder


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KVM_VARIABLE, "0")  # it takes seconds


@pytest.mark.kernel
def test_a_machine_on_which_all_is_well(
    debian12: TargetKernel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = copy(tmp_path)
    for path in (project / "manifests" / "kernels").iterdir():
        if not path.name.startswith(f"{KERNEL}."):
            path.unlink()
    monkeypatch.chdir(project)
    assert main(["doctor"]) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok    ", "note  ")) for line in lines)
    assert any(line.startswith(f"ok    kernel {KERNEL}: prepared; compiler gcc-12 ") for line in lines)
    assert any(line.startswith("note  kvm: switched off (KBUILD_PY_KVM=0)") for line in lines)


def test_what_is_missing_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = copy(tmp_path / "project")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("apt-get", "apt-cache", "dpkg", "make"):
        (tools / name).symlink_to(shutil.which(name) or "/nonexistent")
    (project / "manifests" / "wrong").mkdir()
    (project / "manifests" / "wrong" / "manifest.yaml").write_text("schema: 1\nname: other\n")
    monkeypatch.chdir(project)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv(CACHE_VARIABLE, "/proc/cache")
    assert main(["doctor"]) == REFUSED
    lines = capsys.readouterr().out.splitlines()
    assert (
        "BAD   qemu-system-x86_64: this program is not installed (apt-get install qemu-system-x86)" in lines
    )
    assert "ok    make: " + str(tools / "make") in lines
    assert any(line.startswith("BAD   manifests: ") and "manifest.yaml:2" in line for line in lines)
    (cache,) = [line for line in lines if line.startswith("BAD   cache: ")]
    assert "KBUILD_PY_CACHE" in cache or os.access("/proc", os.W_OK)


@pytest.mark.kernel
def test_kernels_are_listed_and_shown(
    debian12: TargetKernel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(copy(tmp_path))
    assert main(["kernel", "list"]) == DONE
    rows = [line.split(maxsplit=4) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["NAME", "RELEASE", "VERSION", "MANIFESTS", "STATE"]
    assert [KERNEL, debian12.release, debian12.version, "0", "prepared"] in rows

    assert main(["kernel", "show", KERNEL]) == DONE
    shown = capsys.readouterr().out
    assert f"build ID:  {debian12.build_id}\n" in shown
    assert "kpatch:    yes\nlivepatch: yes\n" in shown

    assert main(["kernel", "show", "debian-12-amd65"]) == REFUSED
    assert f"did you mean '{KERNEL}'?" in capsys.readouterr().err
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "empty"))
    assert main(["kernel", "show", KERNEL]) == DONE
    assert f"not prepared: `./doit kernel:{KERNEL}`" in capsys.readouterr().out
