# SPDX-License-Identifier: GPL-2.0-or-later
"""The archive, as the cpio program reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.vm.initramfs import archive, busybox


def cpio(data: bytes, *arguments: str, cwd: Path | None = None) -> str:
    """What cpio prints when it reads `data`, with nothing to complain about."""
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    done = subprocess.run(["cpio", *arguments], input=data, cwd=cwd, capture_output=True, check=True)
    assert b"blocks" in done.stderr or not done.stderr, done.stderr
    return done.stdout.decode()


def test_cpio_lists_folders_before_what_they_hold() -> None:
    data = archive({"/init": b"i", "/steps/0001/title": b"t", "/steps/0001/command": b"", "/a-b/c": b"c"})
    assert cpio(data, "-it", "--quiet").split() == [
        *("a-b", "a-b/c", "init", "steps", "steps/0001", "steps/0001/command", "steps/0001/title")
    ]


def test_cpio_extracts_what_was_put_in(tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.write_bytes(bytes(range(256)) * 33 + b"odd")
    files: dict[str, bytes | Path] = {f"/{size}": b"x" * size for size in range(9)}
    files |= {"/deep/down/host": host, "/ü": b"name"}
    cpio(archive(files), "-id", "--quiet", cwd=tmp_path)
    for path, content in files.items():
        got = tmp_path / path[1:]
        assert got.read_bytes() == (content if isinstance(content, bytes) else content.read_bytes())
        assert got.stat().st_mode & 0o777 == 0o755


def test_owner_and_time_do_not_depend_on_who_builds(tmp_path: Path) -> None:
    listed = cpio(archive({"/bin/x": b"x"}), "-itv", "--quiet", "--numeric-uid-gid")
    assert all(line.split()[2:4] == ["0", "0"] and "1970" in line for line in listed.splitlines())
    host = tmp_path / "x"
    host.write_bytes(b"x")
    assert archive({"/b": b"", "/a": host}) == archive({"/a": b"x", "/b": b""})


@pytest.mark.parametrize("path", ["relative", "/../up", "/a//b", "/a/", "/", "//", ""])
def test_paths_that_are_not_plain_are_refused(path: str) -> None:
    with pytest.raises(UserError, match="absolute path"):
        archive({path: b""})


def test_a_file_that_is_also_a_folder_is_refused() -> None:
    with pytest.raises(UserError, match="both a file and a folder"):
        archive({"/a": b"", "/a/b": b""})


def test_a_missing_host_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone"):
        archive({"/a": tmp_path / "gone"})


def test_a_missing_busybox_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install busybox-static"):
        busybox()


def test_a_busybox_that_needs_libraries_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copy("/bin/ls", tmp_path / "busybox")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="static"):
        busybox()
