# SPDX-License-Identifier: GPL-2.0-or-later
"""kbuild-py.yaml: what it says, what is said about mistakes, and that it need not be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.manifest.configuration import load_configuration
from kbuild_py.manifest.model import BuildConfiguration, Signing


def configuration(folder: Path, text: str) -> BuildConfiguration:
    (folder / "kbuild-py.yaml").write_text(text)
    return load_configuration(folder)


def test_none(tmp_path: Path) -> None:
    found = load_configuration(tmp_path)
    assert (found.signing, found.signatures_enforced) == (None, False)
    assert "<" in found.maintainer


def test_files_are_seen_from_the_top(tmp_path: Path) -> None:
    (tmp_path / "k.pem").write_text("")
    (tmp_path / "k.crt").write_text("")
    found = configuration(tmp_path, "schema: 1\nsigning: {key: k.pem, certificate: k.crt}\n")
    assert found.signing == Signing(str(tmp_path / "k.pem"), tmp_path / "k.crt")
    assert found.signing.files == (tmp_path / "k.pem", tmp_path / "k.crt")


def test_a_token_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "k.crt").write_text("")
    text = 'schema: 1\nsigning: {key: "pkcs11:token=a;object=b", certificate: k.crt}\n'
    signing = configuration(tmp_path, text).signing
    assert signing and signing.key == "pkcs11:token=a;object=b"
    assert signing.files == (tmp_path / "k.crt",)


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ("maintainer: A <a@b.org>", "1:1", "schema"),
        ("schema: 1\nmaintainer: Nobody", "2:13", "must be a name and a mail address"),
        ('schema: 1\nmaintainer: "A <a@b.org>\\nDepends: x"', "2:13", "must be a name and a mail address"),
        ("schema: 1\nsigning: {key: k.pem}", "2:10", "certificate"),
        ("schema: 1\nsigning: {key: k, certificate: c}", "2:16", "there is no file 'k'"),
        ("schema: 1\nsinging: {}", "2:1", "signing"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, place: str, cause: str) -> None:
    with pytest.raises(UserError) as caught:
        configuration(tmp_path, text)
    assert f"kbuild-py.yaml:{place}: " in str(caught.value)
    assert cause in str(caught.value)


def test_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KBUILD_PY_CONFIG", str(tmp_path / "site.yaml"))
    with pytest.raises(UserError, match="there is no such file"):
        load_configuration(tmp_path)
    (tmp_path / "site.yaml").write_text("schema: 1\nsignatures_enforced: true\n")
    assert load_configuration(tmp_path).signatures_enforced
