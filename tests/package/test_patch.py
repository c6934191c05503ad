# SPDX-License-Identifier: GPL-2.0-or-later
"""`doit package`: the package of a real build, twice in different places; lintian; signatures; refusals."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from tests.projects import KERNEL, TOP, Throwaway, throw_away

pytestmark = pytest.mark.kernel

NAME = "meminfo-string"
PACKAGE = f"kpatch-{NAME}-6.1.0-50-amd64"
INSTALLED = f"usr/lib/kpatch/6.1.0-50-amd64/{NAME}"


def run(*argv: object, **how: object) -> str:
    words = [str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, **how)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def package(project: Throwaway) -> Path:
    (found,) = project.folder(NAME).glob("*.deb")
    return found


def key_pair(folder: Path, name: str = "key") -> tuple[Path, Path]:
    """A key that signs modules, and its certificate."""
    key, certificate = folder / f"{name}.pem", folder / f"{name}.crt"
    run(
        *("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "3650"),
        *("-subj", f"/CN=Test {name}/", "-keyout", key, "-out", certificate),
    )
    return key, certificate


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, debian12: TargetKernel) -> Throwaway:
    project = throw_away(tmp_path_factory.mktemp("package") / "project")
    project.built(f"package:{NAME}")
    return project


def test_what_dpkg_says(built: Throwaway) -> None:
    assert package(built).name == f"{PACKAGE}_1+6.1.176-1_amd64.deb"
    fields = run("dpkg-deb", "-f", package(built))
    depends = re.search(r"^Depends: (.*)$", fields, re.MULTILINE)
    assert depends and depends[1].split(", ") == [
        "kbuild-py-kpatch (>= 0.1.0)",
        "linux-image-6.1.0-50-amd64 (= 6.1.176-1) | linux-image-6.1.0-50-amd64-unsigned (= 6.1.176-1)",
    ]
    assert "\nMaintainer: Unknown maintainer <unknown@example.org>\n" in fields


def test_it_holds_what_was_built_and_a_true_record(built: Throwaway, tmp_path: Path) -> None:
    run("dpkg-deb", "-x", package(built), tmp_path)
    folder = tmp_path / INSTALLED
    assert sorted(path.name for path in folder.iterdir()) == [f"kpatch-{NAME}.ko", "kpatch.ko", "record.json"]
    assert (folder / f"kpatch-{NAME}.ko").read_bytes() == built.module(NAME).read_bytes()
    assert (folder / "kpatch.ko").read_bytes() == built.core.read_bytes()
    record = json.loads((folder / "record.json").read_text())
    for name, entry in record["modules"].items():
        assert entry == {
            "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            "signed": False,
        }
    manifest = built.manifest(NAME)
    assert record["inputs"]["manifest.yaml"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert record["kernel"]["build_id"] == "06f8bde30046985060c60820f7a11515a33afb06"
    assert record["proofs"] == {"fs/proc/meminfo.c": {"overridden weak": 1, "proven": 2}}
    assert record["replaced"] == ["meminfo_proc_show"]
    assert "gcc-12" in record["compiler"]
    assert str(built.root) not in json.dumps(record)


def test_the_same_bytes_in_another_folder_year_and_umask(built: Throwaway, tmp_path: Path) -> None:
    other = throw_away(tmp_path / "another" / "place", source=built.root)
    environment = {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "LOGNAME": "somebody", "SOURCE_DATE_EPOCH": "1"}
    other.built(f"_record:{NAME}:{KERNEL}", env=environment, umask=0o077)
    # The build has been compared elsewhere; the clock is for what is new here.
    done = subprocess.run(
        ["faketime", "2031-05-05 05:05:05", *other.command(f"package:{NAME}")],
        cwd=other.root, env={**os.environ, **environment}, umask=0o077, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert package(other).name == package(built).name
    assert package(other).read_bytes() == package(built).read_bytes()
    assert other.built(f"package:{NAME}").ran == []


@pytest.mark.skipif(shutil.which("lintian") is None and "CI" not in os.environ, reason="no lintian")
def test_lintian(built: Throwaway) -> None:
    found = run("lintian", "--no-cfg", "--fail-on", "error,warning,info", "-IE", package(built))
    assert [line for line in found.splitlines() if not line.startswith("N:")] == []
    shown = run("lintian", "--no-cfg", "--show-overrides", package(built))
    assert set(re.findall(r"^O: \S+ (\S+)", shown, re.MULTILINE)) == {"initial-upload-closes-no-bugs"}


@pytest.mark.skipif(shutil.which("shellcheck") is None and "CI" not in os.environ, reason="no shellcheck")
def test_shellcheck(built: Throwaway, tmp_path: Path) -> None:
    run("dpkg-deb", "-e", package(built), tmp_path / "control")
    for name in ("postinst", "prerm"):
        run("shellcheck", "--shell", "sh", tmp_path / "control" / name)


def test_next_version(built: Throwaway, tmp_path: Path) -> None:
    """A patch of another name in the kernel; the package of the version before is gone."""
    project = Throwaway(tmp_path / "project")
    shutil.copytree(built.root, project.root, symlinks=True)
    manifest = project.manifest(NAME)
    manifest.write_text(manifest.read_text().replace("\nname:", "\nversion: 2\nname:"))
    project.built(f"package:{NAME}")
    assert package(project).name == f"{PACKAGE}_2+6.1.176-1_amd64.deb"
    assert f"/{INSTALLED}-2/kpatch-{NAME}-2.ko" in run("dpkg-deb", "-c", package(project))
    module = project.folder(NAME) / f"kpatch-{NAME}-2.ko"
    assert run("modinfo", "-F", "name", module) == "kpatch_meminfo_string_2\n"


def test_signed(built: Throwaway, tmp_path: Path) -> None:
    """What is packed is signed with the configured key, the same each time; then without the key's file."""
    project = Throwaway(tmp_path / "project")
    shutil.copytree(built.root, project.root, symlinks=True)
    (project.root / "keys").mkdir()
    key, certificate = key_pair(project.root / "keys")
    (project.root / "kbuild-py.yaml").write_text(
        "schema: 1\nmaintainer: Kernel Team <kernel@example.org>\nsignatures_enforced: true\n"
        "signing:\n  key: keys/key.pem\n  certificate: keys/key.crt\n"
    )
    project.built(f"package:{NAME}")
    run("dpkg-deb", "-x", package(project), tmp_path / "tree")
    folder = tmp_path / "tree" / INSTALLED
    before = package(project).read_bytes()
    for module in (folder / f"kpatch-{NAME}.ko", folder / "kpatch.ko"):
        assert run("modinfo", "-F", "signer", module) == "Test key\n"
        verify(module, certificate, tmp_path)
    unsigned = built.module(NAME).read_bytes()
    assert (folder / f"kpatch-{NAME}.ko").read_bytes().startswith(unsigned)
    record = json.loads((folder / "record.json").read_text())
    assert all(entry["signed"] for entry in record["modules"].values())
    assert "Kernel Team <kernel@example.org>" in run("dpkg-deb", "-f", package(project), "Maintainer")
    # RSA signatures hold no time and no chance.
    shutil.rmtree(project.root / "build")
    project.built(f"package:{NAME}")
    assert package(project).read_bytes() == before
    # Another key signs anew.
    shutil.copy(key_pair(tmp_path, "other")[0], key)
    shutil.copy(tmp_path / "other.crt", certificate)
    project.built("build")
    assert run("modinfo", "-F", "signer", project.module(NAME)) == "Test other\n"
    key.unlink()
    answer = project.doit("build")
    assert answer.status != 0
    assert "kbuild-py.yaml:5:8: there is no file 'keys/key.pem'" in answer.stdout + answer.stderr


def verify(module: Path, certificate: Path, folder: Path) -> None:
    """The appended signature verifies (struct module_signature: the message's length is its last 4 bytes)."""
    mark = b"~Module signature appended~\n"
    data = module.read_bytes().removesuffix(mark)
    length = int.from_bytes(data[-4:], "big")
    (folder / "message").write_bytes(data[-12 - length : -12])
    (folder / "content").write_bytes(data[: -12 - length])
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", folder / "message"]
    trust = ["-content", folder / "content", "-certfile", certificate, "-noverify", "-out", os.devnull]
    run(*command, *trust)
    (folder / "content").write_bytes(data[: -13 - length] + b"x")
    assert subprocess.run([*command, *trust], capture_output=True).returncode != 0


def test_unsigned_modules_for_machines_that_insist(built: Throwaway, tmp_path: Path) -> None:
    configuration = tmp_path / "site.yaml"
    configuration.write_text("schema: 1\nsignatures_enforced: true\n")
    answer = built.doit(f"package:{NAME}", env={"KBUILD_PY_CONFIG": str(configuration)})
    assert answer.status == 1
    said = answer.stdout + answer.stderr
    for name in (f"{NAME}/{KERNEL}/kpatch-{NAME}.ko", f"core/{KERNEL}/kpatch.ko"):
        assert f"build/{name}: is not signed, and the build configuration says signatures_enforced" in said
    # What can be built can still be built.
    built.built("build", env={"KBUILD_PY_CONFIG": str(configuration)})
    assert (TOP / "manifests" / "schema" / "build-1.schema.json").exists()
