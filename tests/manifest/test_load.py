# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole projects: the values that come out, files that lie wrongly, and that no input makes a traceback."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbuild_py.errors import UserError
from kbuild_py.manifest.load import (
    load_kernel,
    load_kernels,
    load_manifest,
    load_manifests,
    load_project,
)
from kbuild_py.manifest.model import (
    Backend,
    Check,
    Consistency,
    Function,
    HookKind,
    KernelDescription,
    Manifest,
    PatchedObject,
    When,
)
from tests.manifest.project import KERNEL, MANIFEST, TOP, make_project

FULL = """\
# yaml-language-server: $schema=../schema/manifest-1.schema.json
---
schema: 1
name: probe
description: "Prints: more"
patches: [probe.patch, sub/two.patch]
kernels: [stock]
backend: kpatch
consistency: per-task
objects:
  vmlinux:
    functions:
      - meminfo_proc_show
      - {name: "no", source: fs/no.c, force_unsafe: true}
checks:
  after_unload:
    - {run: test -e /proc/x, status: 1}
  before_load:
    - run: |
        cat /proc/meminfo
        true
      contains: Vmalloc
      absent: VMALLOC
    - {run: echo, stdout: ""}
...
"""


def test_every_key_becomes_its_value(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    path.write_text(FULL)
    folder = path.parent
    (folder / "sub").mkdir()
    (folder / "sub" / "two.patch").touch()
    place = "manifests/probe/manifest.yaml"
    manifest = load_manifest(path)
    assert manifest == Manifest(
        name="probe",
        description="Prints: more",
        path=path,
        folder=folder,
        patches=(folder / "probe.patch", folder / "sub/two.patch"),
        kernels=("stock",),
        backends=(Backend.KPATCH,),
        consistency=Consistency.PER_TASK,
        objects=(
            PatchedObject(
                "vmlinux",
                (
                    Function("meminfo_proc_show", None, False, f"{place}:13:9"),
                    Function("no", "fs/no.c", True, f"{place}:14:9"),
                ),
                f"{place}:11:3",
            ),
        ),
        checks=(
            Check(
                When.BEFORE_LOAD,
                "cat /proc/meminfo\ntrue\n",
                None,
                "Vmalloc",
                "VMALLOC",
                0,
                f"{place}:19:7",
            ),
            Check(When.BEFORE_LOAD, "echo", "", None, None, 0, f"{place}:24:7"),
            Check(When.AFTER_UNLOAD, "test -e /proc/x", None, None, None, 1, f"{place}:17:7"),
        ),
    )
    assert load_manifests(tmp_path) == (manifest,)


def test_defaults_and_auto(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    path.write_text(MANIFEST.replace("[meminfo_proc_show]", "auto"))
    manifest = load_manifest(path)
    assert (manifest.backends, manifest.consistency) == ((Backend.KPATCH,), Consistency.ATOMIC)
    assert manifest.objects[0].functions is None
    assert manifest.checks == ()


def test_sources_and_hooks(tmp_path: Path) -> None:
    """Sources without a patch are enough; hooks come in the order in which they run."""
    path = make_project(tmp_path)
    hooks = "    hooks: {unload: back, pre_patch: check, load: go, post_unpatch: back}\n"
    text = MANIFEST.replace("patch: probe.patch", "sources: [hooks.c, hooks.h]")
    path.write_text(text.replace("[meminfo_proc_show]\n", f"[]\n{hooks}"))
    manifest = load_manifest(path)
    assert manifest.patches == ()
    assert manifest.sources == (path.parent / "hooks.c", path.parent / "hooks.h")
    assert manifest.objects[0].functions == ()
    assert [(hook.kind, hook.prototype, hook.place.split(":")[1:]) for hook in manifest.hooks] == [
        (HookKind.PRE_PATCH, "int check(void)", ["9", "38"]),
        (HookKind.LOAD, "void go(void)", ["9", "51"]),
        (HookKind.UNLOAD, "void back(void)", ["9", "21"]),
        (HookKind.POST_UNPATCH, "void back(void)", ["9", "69"]),
    ]


def test_a_source_that_is_a_link_out_of_the_folder(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    (tmp_path / "real.c").touch()
    (path.parent / "hooks.c").unlink()
    (path.parent / "hooks.c").symlink_to(tmp_path / "real.c")
    path.write_text(MANIFEST.replace("kernels:", "sources: [hooks.c]\nkernels:"))
    with pytest.raises(UserError, match=r"'hooks\.c' leads out of the manifest's folder"):
        load_manifest(path)


def test_kernel_description(tmp_path: Path) -> None:
    make_project(tmp_path)
    path = tmp_path / "manifests/kernels/stock.yaml"
    stock = KernelDescription(
        name="stock",
        description="A kernel that exists for the tests",
        path=path,
        source="debian",
        arch="x86_64",
        release="6.1.0-50-amd64",
        version="6.1.176-1",
        flavour="amd64",
    )
    assert load_kernel(path) == stock
    assert load_kernels(tmp_path) == (stock,)


def test_relative_and_absolute_roots_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_project(Path()) == load_project(tmp_path)
    assert load_manifest(Path("manifests/probe/manifest.yaml")) == load_manifests(tmp_path)[0]
    monkeypatch.chdir(tmp_path / "manifests" / "kernels")
    assert load_manifest(Path("../probe/manifest.yaml")) == load_manifests(tmp_path)[0]
    assert load_project(Path("../..")) == load_project(tmp_path)


def test_same_text_in_another_folder_has_the_same_places(tmp_path: Path) -> None:
    errors = []
    for name in ("one", "two"):
        path = make_project(tmp_path / name)
        path.write_text("- x\n")
        with pytest.raises(UserError) as caught:
            load_manifest(path)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_committed_kernels() -> None:
    kernels = {kernel.name: kernel.release for kernel in load_kernels(TOP)}
    assert kernels["debian-12-amd64"] == "6.1.0-50-amd64"
    assert kernels["debian-12-cloud-amd64"] == "6.1.0-50-cloud-amd64"


@pytest.mark.parametrize("path", sorted(TOP.glob("manifests/*/*.yaml")), ids=lambda path: path.stem)
def test_committed_files_name_their_schema(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    prefix = "# yaml-language-server: $schema="
    assert first.startswith(prefix)
    assert (path.parent / first.removeprefix(prefix)).is_file()


def test_no_manifests_at_all(tmp_path: Path) -> None:
    assert load_project(tmp_path).manifests == ()


def refused(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_project(root)
    return str(caught.value)


def test_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    make_project(tmp_path)
    (tmp_path / "manifests/probe/manifest.yaml").write_text("")
    (tmp_path / "manifests/kernels/stock.yaml").write_text(KERNEL.replace("arch: x86_64", "arch: mips"))
    (tmp_path / "manifests/other").mkdir()
    (tmp_path / "manifests/other/manifest.yaml").write_text("a: b: c\n")
    assert [line.split(": ")[0] for line in refused(tmp_path).splitlines() if "hint" not in line] == [
        "manifests/other/manifest.yaml:1:5",
        "manifests/probe/manifest.yaml:1:1",
        "manifests/kernels/stock.yaml:5:7",
    ]


def test_files_with_almost_the_right_name(tmp_path: Path) -> None:
    make_project(tmp_path)
    manifests = tmp_path / "manifests"
    (manifests / "loose.yaml").touch()
    (manifests / "short").mkdir()
    (manifests / "short" / "manifest.yml").touch()
    (manifests / "kernels" / "new.yml").touch()
    (manifests / "notes").mkdir()
    (manifests / "notes" / "ideas.txt").touch()
    (manifests / ".hidden").mkdir()
    (manifests / ".hidden" / "manifest.yaml").touch()
    assert refused(tmp_path) == (
        "manifests/loose.yaml: a manifest lies in a folder of its own\n"
        "  hint: move it to manifests/loose/manifest.yaml\n"
        "manifests/short/manifest.yml: a manifest has another file name\n"
        "  hint: rename it to manifest.yaml\n"
        "manifests/kernels/new.yml: a kernel description's name ends with .yaml\n"
        "  hint: rename it to new.yaml"
    )


def test_manifest_that_is_a_folder_or_a_dead_link(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    path.unlink()
    path.mkdir()
    assert refused(tmp_path) == "manifests/probe/manifest.yaml: is a folder, not a file"
    path.rmdir()
    path.symlink_to("nowhere")
    assert refused(tmp_path) == "manifests/probe/manifest.yaml: there is no such file"


def test_patch_that_leaves_the_folder_through_a_link(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    outside = tmp_path / "outside.patch"
    outside.touch()
    patch = path.parent / "probe.patch"
    patch.unlink()
    patch.symlink_to(outside)
    assert refused(tmp_path) == (
        f"manifests/probe/manifest.yaml:4:8: 'probe.patch' leads out of the manifest's folder, to {outside}\n"
        "  hint: put the file itself into the folder, not a link"
    )


def test_patch_that_leaves_the_folder_through_a_linked_folder(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "probe.patch").touch()
    (path.parent / "sub").symlink_to(tmp_path / "outside")
    path.write_text(MANIFEST.replace("probe.patch", "sub/probe.patch"))
    assert "'sub/probe.patch' leads out of the manifest's folder" in refused(tmp_path)


def test_patch_that_is_a_link_inside_the_folder(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    (path.parent / "other.patch").symlink_to("probe.patch")
    path.write_text(MANIFEST.replace("probe.patch", "other.patch"))
    assert load_manifest(path).patches == (path.parent / "other.patch",)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("folder", "'x.patch' is not a file"),
        ("pipe", "'x.patch' is not a file"),
        ("loop", "cannot read 'x.patch': Too many levels of symbolic links"),
        ("dead link", "there is no file 'x.patch'"),
    ],
)
def test_patch_that_is_no_file(kind: str, cause: str, tmp_path: Path) -> None:
    path = make_project(tmp_path)
    patch = path.parent / "x.patch"
    match kind:
        case "folder":
            patch.mkdir()
        case "pipe":
            os.mkfifo(patch)
        case "loop":
            patch.symlink_to("x.patch")
        case "dead link":
            patch.symlink_to("y.patch")
    path.write_text(MANIFEST.replace("probe.patch", "x.patch"))
    assert refused(tmp_path).startswith(f"manifests/probe/manifest.yaml:4:8: {cause}")


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_text_makes_a_traceback(data: st.DataObject) -> None:
    """A full manifest with a few random pieces put in, cut out or doubled is a Manifest or a UserError."""
    text = FULL
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 20, len(text))))
        piece = data.draw(
            st.sampled_from(
                ["", text[start:end] * 2, "*a", "&a ", "<<: ", "no", "- ", "\t", "{", "[", "'", "?"]
            )
            | st.text(max_size=4)
        )
        text = text[:start] + piece + text[end:]
    with tempfile.TemporaryDirectory() as folder:
        path = make_project(Path(folder))
        path.write_bytes(text.encode(errors="surrogatepass"))
        try:
            assert isinstance(load_manifest(path), Manifest)
        except UserError as error:
            assert all(
                problem.place.startswith("manifests/probe/manifest.yaml:") for problem in error.problems
            )


def test_version_is_part_of_the_name_in_the_kernel(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    assert load_manifest(path).patch_name == "probe"
    path.write_text(path.read_text().replace("name: probe", "name: probe\nversion: 12"))
    assert load_manifest(path).patch_name == "probe-12"


def test_a_version_that_makes_the_name_too_long(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    folder = path.parent.rename(path.parent.with_name("p" * 46))
    moved = folder / "manifest.yaml"
    moved.write_text(moved.read_text().replace("name: probe", f"name: {'p' * 46}\nversion: 9"))
    assert len(load_manifest(moved).patch_name) == 48
    moved.write_text(moved.read_text().replace("version: 9", "version: 10"))
    with pytest.raises(UserError, match=r":3:10: the patch's name in the kernel, 'p+-10', has more than 48"):
        load_manifest(moved)


def test_two_patches_of_one_name_in_the_kernel(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    other = path.parent.with_name("probe-2")
    shutil.copytree(path.parent, other)
    text = path.read_text()
    (other / "manifest.yaml").write_text(text.replace("name: probe", "name: probe-2"))
    assert len(load_manifests(tmp_path)) == 2
    path.write_text(text.replace("name: probe", "name: probe\nversion: 2"))
    with pytest.raises(UserError, match="its patch is called probe-2 in the kernel, like version 2 of probe"):
        load_manifests(tmp_path)


def test_backends(tmp_path: Path) -> None:
    path = make_project(tmp_path)
    given = "backend: [livepatch, kpatch]\nconsistency: per-task\nkernels:"
    path.write_text(MANIFEST.replace("kernels:", given))
    assert load_manifest(path).backends == (Backend.KPATCH, Backend.LIVEPATCH)
    path.write_text(MANIFEST.replace("kernels:", given.replace("[livepatch, kpatch]", "livepatch")))
    assert load_manifest(path).backends == (Backend.LIVEPATCH,)


@pytest.mark.parametrize(
    ("name", "version", "fits"), [("p" * 45, 1, True), ("p" * 46, 1, False), ("p" * 44, 2, False)]
)
def test_the_longer_name_of_a_livepatch(tmp_path: Path, name: str, version: int, fits: bool) -> None:
    path = make_project(tmp_path)
    path = path.parent.rename(path.parent.parent / name) / path.name
    more = f"version: {version}\nbackend: livepatch\nconsistency: per-task\nkernels:"
    path.write_text(MANIFEST.replace("name: probe", f"name: {name}").replace("kernels:", more))
    if fits:
        assert load_manifest(path).name == name
    else:
        assert "a name too long for the kernel" in refused(tmp_path)
