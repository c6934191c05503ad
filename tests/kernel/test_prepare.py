# SPDX-License-Identifier: GPL-2.0-or-later
"""The real preparation: what it gives, and that neither a kill nor a second build at once harms it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel import prepare as stage
from kbuild_py.kernel.headers import common_folder
from kbuild_py.kernel.kbuild import ENVIRONMENT, arguments
from kbuild_py.kernel.lock import lock_path
from kbuild_py.kernel.packages import stored
from kbuild_py.kernel.prepare import STEPS, PreparationStep, prepare, prepared, seconds, workshop
from kbuild_py.kernel.target import PATHS, TargetKernel
from kbuild_py.kernel.tree import differing_headers
from tests.conftest import description_of

DESCRIPTION = description_of("debian-12-amd64", "amd64")

# What another build would be: the same preparation in a process of its own.
BUILD = """
from kbuild_py.kernel.prepare import prepare
from tests.conftest import description_of
prepare(description_of("debian-12-amd64", "amd64"))
"""


def start_build(cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD],
        env={**os.environ, "KBUILD_PY_CACHE": str(cache)},
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def second_cache(debian12: TargetKernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that has the packages of the first one and the symbols, which take long to recover.

    It gets large, so it is removed.
    """
    cache = tmp_path_factory.mktemp("cache")
    (cache / "symbols").mkdir()
    (cache / "symbols" / debian12.symbols.name).symlink_to(debian12.symbols)
    for package in workshop(DESCRIPTION).lock.packages:
        target = cache / "packages" / package.sha256 / package.file_name
        target.parent.mkdir(parents=True)
        target.symlink_to(stored(package))
    yield cache
    shutil.rmtree(cache)


@pytest.fixture(scope="module")
def second(second_cache: Path) -> TargetKernel:
    """The kernel prepared in the second cache: once killed in the middle, then by two builds at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KBUILD_PY_CACHE", str(second_cache))
        shop = workshop(DESCRIPTION)
        first = start_build(second_cache)
        try:
            wait_for(lambda: (shop.tree / "fs").is_dir(), first)
        finally:
            os.killpg(first.pid, signal.SIGKILL)
            first.communicate()
        assert shop.marker("symbols").exists() and not shop.marker("source").exists()
        assert prepared(DESCRIPTION) is None
        done_before = shop.marker("image").stat().st_mtime_ns
        (shop.tree / "fs" / "left-over.c").write_text("from the attempt that was killed\n")
        (shop.folder / ".vmlinux.abc").write_text("half an image")

        builds = [start_build(second_cache) for _ in range(2)]
        said = [build.communicate(timeout=600)[1] for build in builds]
        assert [build.returncode for build in builds] == [0, 0], said
        # One of the two did the work, beginning with the step that was interrupted.
        # (The first of them waits for the killed one's tar, which unpacks on.)
        assert sorted(text.count("unpacking the source: done") for text in said) == [0, 1]
        assert sum(text.count("left running ...") for text in said) == 1
        assert shop.marker("image").stat().st_mtime_ns == done_before
        kernel = prepared(DESCRIPTION)
    assert kernel is not None
    return kernel


def wait_for(condition: object, process: subprocess.Popen[str], limit: float = 300) -> None:
    assert callable(condition)
    end = time.monotonic() + limit
    while not condition():
        assert process.poll() is None and time.monotonic() < end, "the build ended too early, or hangs"
        time.sleep(0.02)


@pytest.mark.kernel
def test_every_path_is_there_and_in_the_cache(debian12: TargetKernel) -> None:
    folder = workshop(DESCRIPTION).folder
    for name in PATHS:
        path: Path = getattr(debian12, name)
        assert path.exists() and path.is_absolute()
        assert path.is_relative_to(folder) or name == "symbols"
    assert (debian12.modules / "kernel").is_dir()
    assert (debian12.tree / "tools/objtool/objtool").exists()
    assert (debian12.release, debian12.version, debian12.arch) == (
        DESCRIPTION.release, DESCRIPTION.version, "x86_64",
    )  # fmt: skip


@pytest.mark.kernel
def test_a_prepared_kernel_is_found_at_once(debian12: TargetKernel) -> None:
    start = time.monotonic()
    assert prepared(DESCRIPTION) == debian12
    assert time.monotonic() - start < 0.1
    assert prepare(DESCRIPTION) == debian12
    assert list(seconds(DESCRIPTION)) == [step.name for step in STEPS]


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["debian12", "debian12_cloud"])
def test_the_tree_is_the_shipped_kernels(name: str, request: pytest.FixtureRequest) -> None:
    kernel: TargetKernel = request.getfixturevalue(name)
    generated = kernel.tree / "include" / "generated"
    assert f'UTS_RELEASE "{kernel.release}"' in (generated / "utsrelease.h").read_text()
    assert kernel.version in (generated / "package.h").read_text()
    assert (kernel.tree / ".config").read_text() == kernel.config.read_text()
    assert list(differing_headers(kernel.tree, kernel.headers, kernel.arch)) == []
    for header in ("autoconf.h", "compile.h", "asm-offsets.h", "utsversion.h"):
        shipped = (kernel.headers / "include" / "generated" / header).read_text()
        if header == "autoconf.h":  # its order is not fixed, and tools of this machine may be in it
            assert 'CONFIG_BUILD_SALT "' in shipped
        else:
            assert (generated / header).read_text() == shipped


@pytest.mark.kernel
def test_a_header_that_differs_is_found(debian12: TargetKernel, tmp_path: Path) -> None:
    package = tmp_path / "linux-headers"
    for folder in ("include", "arch"):
        shutil.copytree(debian12.headers / folder, package / folder, symlinks=True)
    (package / "Makefile").write_text(f"include {common_folder(debian12.headers)}/Makefile\n")
    with (package / "include/generated/asm-offsets.h").open("a") as stream:
        stream.write("#define TASK_threadsp 17\n")
    (package / "include/generated/new.h").write_text("")
    assert [str(path) for path in differing_headers(debian12.tree, package, debian12.arch)] == [
        "include/generated/asm-offsets.h",
        "include/generated/new.h",
    ]


@pytest.mark.kernel
def test_killed_and_then_built_twice_at_once_gives_the_same(
    debian12: TargetKernel, second: TargetKernel
) -> None:
    assert second.build_id == debian12.build_id
    assert not (second.tree / "fs" / "left-over.c").exists()
    assert not (second.vmlinux.parent / ".vmlinux.abc").exists()
    for name in ("vmlinux", "config", "boot_image"):
        one, other = getattr(debian12, name), getattr(second, name)
        assert one != other and one.read_bytes() == other.read_bytes()

    def files(tree: Path) -> set[str]:
        return {
            os.path.relpath(Path(here, name), tree)
            for here, _, names in os.walk(tree)
            for name in names
            if not name.endswith((".cmd", ".d"))
        }

    # (Not ==, because the first one may be in use.)
    assert files(second.tree) <= files(debian12.tree)
    for path in ("include/generated/asm-offsets.h", "include/config/auto.conf", "fs/exec.c"):
        assert (second.tree / path).read_bytes() == (debian12.tree / path).read_bytes()


@pytest.mark.kernel
def test_a_kill_while_the_tree_is_prepared_starts_with_a_new_tree(
    second: TargetKernel, second_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kbuild may trust an object file that was half written, so the tree is not gone on with."""
    monkeypatch.setenv("KBUILD_PY_CACHE", str(second_cache))
    shop = workshop(DESCRIPTION)
    done: list[str] = []

    def recorded(each: PreparationStep) -> PreparationStep:
        return replace(each, action=lambda shop: done.append(each.name))

    monkeypatch.setattr(stage, "STEPS", tuple(recorded(each) for each in STEPS))
    shop.result.unlink()
    shop.marker("prepare").unlink()
    shop.marker("prepare").with_suffix(".begun").touch()
    prepare(DESCRIPTION)
    assert done == ["source", "configure", "prepare"]
    shop.result.unlink()
    prepare(DESCRIPTION)
    assert done == ["source", "configure", "prepare"]


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("damaged", "again"),
    [
        (lambda kernel: kernel.vmlinux, ["vmlinux"]),
        (lambda kernel: kernel.boot_image, ["image"]),
        (lambda kernel: kernel.headers / "Module.symvers", ["headers"]),
        (lambda kernel: kernel.modules, ["image"]),
        (lambda kernel: kernel.tree, ["source", "configure", "prepare"]),
        (lambda kernel: kernel.tree / "include" / "generated", ["source", "configure", "prepare"]),
    ],
)
def test_what_was_lost_or_cut_is_made_again(
    damaged: Callable[[TargetKernel], Path],
    again: list[str],
    second: TargetKernel,
    second_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KBUILD_PY_CACHE", str(second_cache))
    assert prepared(DESCRIPTION) == second
    path = damaged(second)
    aside = path.rename(path.with_name("aside"))
    done: list[str] = []

    def recorded(each: PreparationStep) -> PreparationStep:
        def action(shop: stage.Workshop) -> None:
            done.append(each.name)
            if aside.exists():
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                aside.rename(path)

        return replace(each, action=action)

    monkeypatch.setattr(stage, "STEPS", tuple(recorded(each) for each in STEPS))
    if aside.is_file():
        path.write_bytes(aside.read_bytes()[:-1])
    assert prepared(DESCRIPTION) is None
    assert prepare(DESCRIPTION) == second
    assert done == again and prepared(DESCRIPTION) == second


@pytest.mark.kernel
def test_a_module_built_against_the_headers_is_the_same_wherever_the_cache_lies(
    debian12: TargetKernel, second: TargetKernel, tmp_path: Path
) -> None:
    """And building it writes nothing into the headers."""
    module = tmp_path / "module"
    module.mkdir()
    (module / "Kbuild").write_text("obj-m := probe.o\n")
    (module / "probe.c").write_text(
        "#include <linux/module.h>\n#include <linux/slab.h>\n#include <linux/sched/signal.h>\n"
        "static int __init probe_init(void)\n{\n"
        "\tkfree(kmalloc(64, GFP_KERNEL));\n\tWARN_ON(signal_pending(current));\n\treturn 0;\n}\n"
        'module_init(probe_init);\nMODULE_LICENSE("GPL");\n'
    )

    def tree_of(kernel: TargetKernel) -> dict[str, int]:
        root = kernel.headers.parents[2]
        return {
            f"{here}/{name}": Path(here, name).lstat().st_mtime_ns
            for here, _, names in os.walk(root)
            for name in names
        }

    built = []
    for kernel in (debian12, second):
        before = tree_of(kernel)
        # Debugging information has the folders that the compiler ran in, and the build ID is made of it too.
        generated = kernel.headers / "include" / "generated"
        words = (*arguments(generated, kernel.arch, kernel.compiler), "KCFLAGS=-g0")
        subprocess.run(
            ["make", "-C", kernel.headers, *words, f"M={module}", "modules"],
            check=True, capture_output=True, env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
        built.append((module / "probe.ko").read_bytes())
        assert tree_of(kernel) == before
        subprocess.run(
            ["make", "-C", kernel.headers, *words, f"M={module}", "clean"], check=True, capture_output=True
        )
    assert built[0] == built[1]
    assert f"vermagic={debian12.release} ".encode() in built[0]


@pytest.mark.kernel
def test_a_cache_that_was_copied_elsewhere_is_not_believed(
    debian12: TargetKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = workshop(DESCRIPTION)
    monkeypatch.setenv("KBUILD_PY_CACHE", str(tmp_path))
    new = workshop(DESCRIPTION)
    assert new.folder.name == old.folder.name
    new.folder.mkdir(parents=True)
    shutil.copy(old.result, new.result)
    assert prepared(DESCRIPTION) is None


@pytest.mark.kernel
def test_a_damaged_package_is_refused_and_the_step_is_not_done(
    debian12: TargetKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = workshop(DESCRIPTION).package(workshop(DESCRIPTION).names.image)
    data = stored(image).read_bytes()
    monkeypatch.setenv("KBUILD_PY_CACHE", str(tmp_path))
    for each in workshop(DESCRIPTION).lock.packages:
        stored(each).parent.mkdir(parents=True)
        stored(each).write_bytes(data[:-1] + b"?" if each == image else b"")
    with pytest.raises(UserError, match="is not the locked package"):
        prepare(DESCRIPTION)
    assert not workshop(DESCRIPTION).marker("image").exists()
    assert prepared(DESCRIPTION) is None


def test_the_key_follows_the_lock(tmp_path: Path) -> None:
    copy = replace(DESCRIPTION, path=tmp_path / "debian-12-amd64.yaml")
    shutil.copy(lock_path(DESCRIPTION), lock_path(copy))
    same = workshop(copy)
    assert same.folder == workshop(DESCRIPTION).folder
    digest = same.lock.packages[0].sha256
    text = lock_path(copy).read_text()
    lock_path(copy).write_text(text.replace(digest, digest[::-1]))
    assert workshop(copy).folder != same.folder
    lock_path(copy).write_text(text.replace(same.lock.seen, "20000101T000000Z"))  # says nothing about content
    assert workshop(copy).folder == same.folder
