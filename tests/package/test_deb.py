# SPDX-License-Identifier: GPL-2.0-or-later
"""The package writer: what dpkg reads out of what it made, and that nothing of here and now is in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kbuild_py.package import deb

EPOCH = 1_700_000_000


def package(**changes: object) -> deb.Package:
    values: dict[str, object] = {
        "name": "kpatch-x-6.1.0-50-amd64",
        "version": "2+6.1.176-1",
        "architecture": "amd64",
        "fields": {"Maintainer": "A <a@example.org>", "Description": deb.description("short", ["Long."])},
        "files": {"usr/lib/x/data": (b"a" * 1025, 0o644), "usr/bin/x": (b"#!/bin/sh\n", 0o755)},
        "epoch": EPOCH,
        "scripts": {"postinst": "#!/bin/sh\nexit 0\n"},
    }
    return deb.Package(**{**values, **changes})  # type: ignore[arg-type]


def dpkg_deb(*arguments: object) -> str:
    argv = ["dpkg-deb", *(str(argument) for argument in arguments)]
    return subprocess.run(
        argv, check=True, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"}
    ).stdout


def test_dpkg_reads_it(tmp_path: Path) -> None:
    output = tmp_path / package().file_name
    deb.build(package(), output)
    assert output.name == "kpatch-x-6.1.0-50-amd64_2+6.1.176-1_amd64.deb"
    assert dpkg_deb("-f", output, "Version", "Installed-Size") == "Version: 2+6.1.176-1\nInstalled-Size: 7\n"
    assert dpkg_deb("-f", output).splitlines()[-2:] == ["Description: short", " Long."]
    rows = {row.split()[-1]: row.split()[:2] for row in dpkg_deb("-c", output).splitlines()}
    assert rows["./usr/bin/x"] == ["-rwxr-xr-x", "root/root"]
    assert rows["./usr/lib/x/data"] == ["-rw-r--r--", "root/root"]
    assert rows["./usr/lib/x/"] == ["drwxr-xr-x", "root/root"]
    assert all("2023-11-14 22:13" in row for row in dpkg_deb("-c", output).splitlines())
    assert list(tmp_path.iterdir()) == [output]


def test_the_same_bytes_elsewhere_and_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deb.build(package(), tmp_path / "one.deb")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    monkeypatch.setenv("DPKG_DEB_COMPRESSOR_LEVEL", "0")
    (tmp_path / "other folder").mkdir()
    before = os.umask(0o077)
    try:
        deb.build(package(), tmp_path / "other folder" / "two.deb")
    finally:
        os.umask(before)
    one, two = tmp_path / "one.deb", tmp_path / "other folder" / "two.deb"
    assert one.read_bytes() == two.read_bytes()
    deb.build(package(epoch=EPOCH + 1), two)
    assert one.read_bytes() != two.read_bytes()


def test_a_description_cannot_end_its_field() -> None:
    text = deb.description("short", [". starts with a dot", "word " * 40, "a\nDepends: x"])
    for line in text.splitlines()[1:]:
        assert line == " ." or (line.startswith(" ") and line[1] not in " ." and len(line) <= 80), line


def test_changelog_is_what_dpkg_reads(tmp_path: Path) -> None:
    data = deb.changelog("kpatch-x", "1+6.1-1", "fixes " * 40, "A B <a@example.org>", EPOCH)
    assert data == deb.changelog("kpatch-x", "1+6.1-1", "fixes " * 40, "A B <a@example.org>", EPOCH)
    (tmp_path / "log.gz").write_bytes(data)
    text = subprocess.run(["zcat", tmp_path / "log.gz"], check=True, capture_output=True, text=True).stdout
    assert text.startswith("kpatch-x (1+6.1-1) unstable; urgency=medium\n\n  * fixes")
    assert text.endswith("\n -- A B <a@example.org>  Tue, 14 Nov 2023 22:13:20 +0000\n")
    assert max(map(len, text.splitlines())) <= 80
