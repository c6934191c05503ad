# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.files import sha256_file
from kbuild_py.kernel.lock import (
    edited,
    kernel_versions,
    lock_kernel,
    lock_path,
    move_lock,
    package_names,
    read_lock,
    refresh,
    series,
    system_archive,
)
from kbuild_py.manifest.model import KernelDescription
from tests.kernel.repository import Repository


@pytest.mark.parametrize(
    ("version", "number"), [("6.1.176-1", "6.1"), ("6.12.117-1~deb12u1", "6.12"), ("6.1~rc3-1~exp1", "6.1")]
)
def test_series(version: str, number: str) -> None:
    assert series(version) == number


def test_series_of_nonsense_is_refused() -> None:
    for version in ("", "six", "6", "v6.1"):
        with pytest.raises(UserError, match="not the version"):
            series(version)


def test_package_names() -> None:
    names = package_names("6.1.0-50-cloud-amd64", "6.1.176-1", "cloud-amd64")
    assert names.image == ("linux-image-6.1.0-50-cloud-amd64", "linux-image-6.1.0-50-cloud-amd64-unsigned")
    assert names.common == ("linux-headers-6.1.0-50-common",)
    assert names.source == ("linux-source-6.1",)
    assert package_names("6.1.0-50-rt-amd64", "6.1.176-1", "rt-amd64").common == (
        "linux-headers-6.1.0-50-common-rt",
    )
    assert package_names("6.12.117+deb12-amd64", "6.12.117-1~deb12u1", "amd64").kbuild == (
        "linux-kbuild-6.12.117+deb12",
        "linux-kbuild-6.12",
    )
    with pytest.raises(UserError, match="does not end in its flavour"):
        package_names("6.1.0-50-amd64", "6.1.176-1", "cloud-amd64")


def test_a_lock_names_each_package_with_its_digest(
    repository: Repository, description: KernelDescription
) -> None:
    lock = lock_kernel(description)
    assert read_lock(description) == lock
    assert [package.name for package in lock.packages] == [
        "linux-config-6.1",
        "linux-headers-6.1.0-50-amd64",
        "linux-headers-6.1.0-50-common",
        "linux-image-6.1.0-50-amd64",
        "linux-kbuild-6.1",
        "linux-source-6.1",
    ]
    for package in lock.packages:
        file = repository.pool / package.file_name
        assert (package.sha256, package.size) == (sha256_file(file), file.stat().st_size)
    assert lock.suites == ("bookworm main",)


def test_locking_again_does_not_change_the_file(
    repository: Repository, description: KernelDescription
) -> None:
    lock_kernel(description)
    path = lock_path(description)
    old = path.read_text().replace('"seen": "2', '"seen": "1')  # made at another time
    path.write_text(old)
    lock_kernel(description)
    assert path.read_text() == old


def test_the_unsigned_image_is_taken_when_there_is_no_signed_one(
    repository: Repository, description: KernelDescription
) -> None:
    repository.add_kernel("6.1.200-1", "60", signed=False)
    moved = replace(description, version="6.1.200-1", release="6.1.0-60-amd64")
    assert "linux-image-6.1.0-60-amd64-unsigned" in [package.name for package in lock_kernel(moved).packages]


def test_a_version_that_is_not_there_is_refused_naming_those_that_are(
    repository: Repository, description: KernelDescription
) -> None:
    gone = replace(description, version="6.1.170-3", release="6.1.0-47-amd64")
    with pytest.raises(UserError) as caught:
        lock_kernel(gone)
    (problem,) = caught.value.problems
    assert "6.1.170-3 of linux-config-6.1, linux-headers-6.1.0-47-amd64" in problem.cause
    assert "6.1.192-2, 6.1.176-1" in problem.cause
    assert problem.remedy == "kbuild-py kernel lock stock --version 6.1.192-2"
    assert not lock_path(gone).exists()


def test_versions_are_those_of_the_flavour_that_are_complete(
    repository: Repository, description: KernelDescription
) -> None:
    repository.add("linux-image-6.1.0-61-amd64", "6.1.201-1")  # nothing else of this version
    repository.add("linux-image-6.1.0-50-amd64-dbg", "6.1.176-1")
    repository.add_kernel("6.1.99-1", "9")  # older, though not in the order of text
    archive = system_archive(description)
    refresh(archive)
    assert kernel_versions(archive, description) == (
        ("6.1.192-2", "6.1.0-56-amd64"),
        ("6.1.176-1", "6.1.0-50-amd64"),
        ("6.1.99-1", "6.1.0-9-amd64"),
    )
    cloud = replace(description, flavour="cloud-amd64", release="6.1.0-50-cloud-amd64")
    assert kernel_versions(archive, cloud) == (("6.1.176-1", "6.1.0-50-cloud-amd64"),)


def test_moving_to_the_newest_and_back(repository: Repository, description: KernelDescription) -> None:
    before = description.path.read_text()
    moved = move_lock(description)
    assert (moved.release, moved.version) == ("6.1.0-56-amd64", "6.1.192-2")
    assert description.path.read_text() == (
        "# the kernel\nname: stock\nrelease: 6.1.0-56-amd64  # ABI 50\nversion: 6.1.192-2\nflavour: amd64\n"
    )
    assert read_lock(moved).version == "6.1.192-2"
    with pytest.raises(UserError, match=r"locks release 6\.1\.0-56-amd64, but .* says 6\.1\.0-50-amd64"):
        read_lock(description)
    assert move_lock(moved, "6.1.176-1") == description
    assert description.path.read_text() == before.replace("'", "")


def test_moving_to_a_version_that_is_not_there_changes_nothing(
    repository: Repository, description: KernelDescription
) -> None:
    lock_kernel(description)
    before = description.path.read_text(), lock_path(description).read_text()
    with pytest.raises(UserError, match=r"6\.1\.192-2, 6\.1\.176-1"):
        move_lock(description, "6.1.1-1")
    assert (description.path.read_text(), lock_path(description).read_text()) == before


def test_sources_without_any_kernel_are_refused_as_such(
    repository: Repository, description: KernelDescription
) -> None:
    for version in ("6.1.176-1", "6.1.192-2"):
        repository.remove(version)
    repository.add("other", "1")
    with pytest.raises(UserError, match=r"no linux 6\.1 of flavour amd64 at all") as caught:
        lock_kernel(description)
    assert "/etc/apt" in caught.value.problems[0].remedy


def test_a_source_that_cannot_be_read_is_refused_as_such(
    repository: Repository, description: KernelDescription, tmp_path: Path
) -> None:
    (tmp_path / "sources.list").write_text("deb http://127.0.0.1:9/debian bookworm main\n")
    with pytest.raises(UserError, match="no list of packages could be fetched") as caught:
        lock_kernel(description)
    assert "127.0.0.1" in str(caught.value)


def test_without_a_lock_the_command_that_makes_it_is_named(description: KernelDescription) -> None:
    with pytest.raises(UserError, match="there is no lock file") as caught:
        read_lock(description)
    assert caught.value.problems[0].remedy == "kbuild-py kernel lock stock"


def test_damaged_locks_are_refused(repository: Repository, description: KernelDescription) -> None:
    lock_kernel(description)
    path = lock_path(description)
    good = path.read_text()
    value = json.loads(good)

    def without_headers() -> object:
        return {**value, "packages": [p for p in value["packages"] if "amd64" not in p["name"]]}

    def changed(**fields: object) -> object:
        return {**value, "packages": [{**value["packages"][0], **fields}, *value["packages"][1:]]}

    for bad, cause in (
        ({**value, "schema": 9}, "schema 9"),
        ({**value, "packages": [{}]}, "not a lock file"),
        ([], "not a lock file"),
        (without_headers(), "no entry for the package linux-image-6.1.0-50-amd64 or"),
        (without_headers(), "no entry for the package linux-headers-6.1.0-50-amd64"),
        (changed(sha256="../../etc"), "SHA-256"),
        (changed(name="-o=evil"), "not the name of a package"),
        (changed(version="6.1.1-1"), "has version"),
        (changed(architecture="../../etc"), "not the name of an architecture"),
        ({**value, "seen": "../../etc"}, "not a time"),
        ({**value, "suites": ["bookworm"]}, "not a suite and a component"),
        ({**value, "suites": ["bookworm main\ndeb http://elsewhere x"]}, "not a suite and a component"),
    ):
        path.write_text(json.dumps(bad))
        with pytest.raises(UserError) as caught:
            read_lock(description)
        assert cause in str(caught.value) and str(path) in str(caught.value)
    path.write_text(good[:50])
    with pytest.raises(UserError, match="not valid JSON") as caught:
        read_lock(description)
    assert caught.value.problems[0].remedy == "kbuild-py kernel lock stock"


def test_a_file_without_the_lines_to_edit_is_refused(description: KernelDescription) -> None:
    with pytest.raises(UserError, match="has no line `version: "):
        edited("release: 1\n", description)
