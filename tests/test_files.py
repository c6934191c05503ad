# SPDX-License-Identifier: GPL-2.0-or-later
"""Files and folders that are whole or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.files import folder_atomic, read_json, scratch, write_atomic, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folders_and_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, "ä\n", mode=0o600)
    assert path.read_bytes() == "ä\n".encode() and stat.S_IMODE(path.stat().st_mode) == 0o600
    write_atomic(path, b"\0")
    assert path.read_bytes() == b"\0" and names(path.parent) == ["file"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "missing" / ("x" * 300)):
        with pytest.raises(UserError, match="cannot write: ") as caught:
            write_atomic(path, "text")
        assert caught.value.problems[0].place == str(path)
    assert names(tmp_path) == ["folder", "missing"] and names(tmp_path / "missing") == []


def test_what_is_no_plain_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # or the writer would wait for one
    link.symlink_to("pipe")
    for path in (pipe, link):
        write_atomic(path, "text")
        assert pipe.is_fifo() and os.read(reader, 9) == b"text"
    os.close(reader)
    assert names(tmp_path) == ["link", "pipe"] and link.is_symlink()


def test_equal_values_are_equal_files(tmp_path: Path) -> None:
    write_json(tmp_path / "one", {"a": 1, "b": [2]})
    write_json(tmp_path / "two", {"b": [2], "a": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_json(tmp_path / "one") == {"a": 1, "b": [2]}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_damaged_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=r"is not valid JSON(.|\n)*hint: do this"):
        read_json(tmp_path / "file", "do this")
    with pytest.raises(UserError, match="cannot read"):
        read_json(tmp_path / "none")


def test_a_folder_replaces_the_old_one_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "in" / "folder"
    with folder_atomic(path) as folder:
        (folder / "old").write_text("")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt), folder_atomic(path) as folder:
        (folder / "new").write_text("")
        raise KeyboardInterrupt
    assert names(path) == ["old"] and names(path.parent) == ["folder"]
    with folder_atomic(path) as folder:
        (folder / "new").write_text("")
    assert names(path) == ["new"] and names(path.parent) == ["folder"]


def test_a_scratch_folder_goes_and_what_a_killed_process_left_too(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / ".scratch-left" / "in").mkdir(parents=True)
    with scratch(tmp_path) as folder:
        assert folder.parent == tmp_path and names(folder) == []
        assert names(tmp_path) == [folder.name, "kept"]
        (folder / "file").write_text("")
    assert names(tmp_path) == ["kept"]
