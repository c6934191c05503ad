# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel import packages
from kbuild_py.kernel.lock import Lock, lock_kernel, lock_path
from kbuild_py.kernel.packages import fetch, need_room, snapshot_sources, stored, unpack, verify
from kbuild_py.manifest.model import KernelDescription
from tests.kernel.repository import Repository


def partial(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "packages" / "partial"


def test_fetched_once_verified_and_unpacked(
    repository: Repository, description: KernelDescription, tmp_path: Path
) -> None:
    lock = lock_kernel(description)
    fetch(description, lock)
    for package in lock.packages:
        assert stored(package).read_bytes() == (repository.pool / package.file_name).read_bytes()
        unpack(package, tmp_path / "out", tmp_path / "hold")
        content = (tmp_path / "out/usr/share" / package.name / "file").read_text()
        assert content == f"{package.name} 6.1.176-1\n"
    assert [path.name for path in partial(tmp_path).iterdir()] == [".lock"]
    repository.remove("6.1.176-1")
    fetch(description, lock)  # nothing is asked for again


def test_what_the_system_has_is_left_alone(repository: Repository, description: KernelDescription) -> None:
    def seen() -> list[tuple[str, int]]:
        found = []
        for folder in ("/var/lib/apt/lists", "/var/cache/apt", "/var/lib/dpkg"):
            for here, _, names in os.walk(folder):
                found += [(f"{here}/{name}", Path(here, name).stat().st_mtime_ns) for name in names]
        return sorted(found)

    before = seen()
    fetch(description, lock_kernel(description))
    assert seen() == before


def test_an_update_hook_of_the_system_is_not_run(
    repository: Repository, description: KernelDescription, tmp_path: Path
) -> None:
    with (tmp_path / "apt.conf").open("a") as stream:
        for hook in (
            "APT::Update::Pre-Invoke",
            "APT::Update::Post-Invoke",
            "APT::Update::Post-Invoke-Success",
        ):
            stream.write(f'{hook} {{ "touch {tmp_path}/hooked"; }};\n')
    fetch(description, lock_kernel(description))
    assert not (tmp_path / "hooked").exists()


@pytest.mark.parametrize("damage", ["half", "other", "longer"])
def test_a_download_that_lies_there_damaged_is_not_believed(
    damage: str, repository: Repository, description: KernelDescription, tmp_path: Path
) -> None:
    lock = lock_kernel(description)
    folder = partial(tmp_path)
    folder.mkdir(parents=True)
    for package in lock.packages:
        data = (repository.pool / package.file_name).read_bytes()
        changed = {"half": data[: len(data) // 2], "other": data[:-1] + b"?", "longer": data + b"?"}[damage]
        (folder / package.file_name).write_bytes(changed)
    fetch(description, lock)
    for package in lock.packages:
        verify(stored(package), package)


@pytest.mark.parametrize("damage", [b"", b"!<arch>\n", b"garbage"])
def test_a_stored_package_that_rotted_is_refused_when_unpacked(
    damage: bytes, repository: Repository, description: KernelDescription, tmp_path: Path
) -> None:
    lock = lock_kernel(description)
    fetch(description, lock)
    package = lock.packages[0]
    path = stored(package)
    path.write_bytes(damage or path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is not the locked package") as caught:
        unpack(package, tmp_path / "out", tmp_path / "hold")
    assert package.sha256 in str(caught.value) and str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_archive_that_serves_other_bytes_than_it_lists_is_refused(
    repository: Repository, description: KernelDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_kernel(description)
    monkeypatch.setattr(packages, "KEYRING", Path("/nonexistent"))  # no snapshot here
    path = repository.pool / lock.packages[0].file_name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError) as caught:
        fetch(description, lock)
    assert "does not serve it" in str(caught.value)
    assert not any(stored(package).exists() for package in lock.packages)


def test_an_archive_with_other_bytes_under_the_same_version_is_refused(
    repository: Repository, description: KernelDescription
) -> None:
    lock = lock_kernel(description)
    name = lock.packages[0].name
    repository.add(name, "6.1.176-1", content="something else\n")
    with pytest.raises(UserError, match=f"locks {name}") as caught:
        fetch(description, lock)
    assert str(lock_path(description)) in str(caught.value)
    assert "kbuild-py kernel lock stock" in caught.value.problems[0].remedy


def snapshot_of(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    def sources(lock: Lock) -> str:
        assert "signed-by" in snapshot_sources(lock)
        return source

    monkeypatch.setattr(packages, "snapshot_sources", sources)
    monkeypatch.setattr(packages, "KEYRING", Path("/"))


def test_a_version_that_left_the_archive_is_taken_from_its_snapshot(
    repository: Repository, description: KernelDescription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_kernel(description)
    old = tmp_path / "snapshot"
    repository.folder.rename(old)
    repository.folder.mkdir()
    repository.add_kernel("6.1.192-2", "56")
    snapshot_of(monkeypatch, Repository(old).source)
    fetch(description, lock)
    for package in lock.packages:
        verify(stored(package), package)


def test_a_version_that_is_nowhere_is_refused_with_the_way_out(
    repository: Repository, description: KernelDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_kernel(description)
    repository.remove("6.1.176-1")
    snapshot_of(monkeypatch, "deb [trusted=yes] http://127.0.0.1:9/debian bookworm main\n")
    with pytest.raises(UserError) as caught:
        fetch(description, lock)
    (problem,) = caught.value.problems
    assert (
        "do not have version 6.1.176-1" in problem.cause
        and "they have this kernel in 6.1.192-2" in problem.cause
    )
    assert "snapshot.debian.org was asked too" in problem.cause and "127.0.0.1" in problem.cause
    assert problem.remedy == "kbuild-py kernel lock stock --version 6.1.192-2"


def test_snapshot_sources_are_signed_and_dated(
    repository: Repository, description: KernelDescription
) -> None:
    lock = lock_kernel(description)
    address = f"https://snapshot.debian.org/archive/debian/{lock.seen}/"
    assert snapshot_sources(lock) == f"deb [signed-by={packages.KEYRING}] {address} bookworm main\n"


def test_a_full_disk_is_refused_before_it_is_full(tmp_path: Path) -> None:
    need_room(tmp_path, 1, "this")
    with pytest.raises(UserError, match=r"needs \d+ MB, but only \d+ MB are free"):
        need_room(tmp_path, 1 << 60, "this")


def _fetch(description: KernelDescription, lock: Lock) -> None:
    fetch(description, lock)


def test_four_at_once(repository: Repository, description: KernelDescription) -> None:
    lock = lock_kernel(description)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fetch, args=(description, lock)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    for package in lock.packages:
        verify(stored(package), package)
