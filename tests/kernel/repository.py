# SPDX-License-Identifier: GPL-2.0-or-later
"""A small package archive on the disk, which the real apt reads."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Repository:
    """An archive in `folder`, with one suite (bookworm) and one component (main)."""

    folder: Path
    stanzas: dict[Path, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Its line for sources.list."""
        return f"deb [trusted=yes] file:{self.folder} bookworm main\n"

    @property
    def pool(self) -> Path:
        return self.folder / "pool"

    def add(self, name: str, version: str, architecture: str = "amd64", content: str = "") -> Path:
        """Build a package that has one file, and offer it."""
        tree = self.folder / "tree"
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (tree / "usr/share" / name).mkdir(parents=True)
        (tree / "usr/share" / name / "file").write_text(content or f"{name} {version}\n")
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
            "Maintainer: Nobody <nobody@example.org>\nDescription: a package for tests\n"
        )
        self.pool.mkdir(exist_ok=True)
        path = self.pool / f"{name}_{version}_{architecture}.deb"
        subprocess.run(["dpkg-deb", "-b", "-Znone", tree, path], check=True, capture_output=True)
        control = (tree / "DEBIAN/control").read_text()
        shutil.rmtree(tree)
        data = path.read_bytes()
        self.stanzas[path] = (
            f"{control}Filename: pool/{path.name}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        self.publish()
        return path

    def remove(self, version: str) -> None:
        """Drop all packages of a version, as an archive does."""
        for path in self.pool.glob(f"*_{version}_*.deb"):
            path.unlink()
            del self.stanzas[path]
        self.publish()

    def publish(self) -> None:
        """Write the package list, and the Release file with its hash."""
        text = "\n".join(self.stanzas.values()).encode()
        suite = self.folder / "dists" / "bookworm"
        packages = suite / "main" / "binary-amd64" / "Packages"
        packages.parent.mkdir(parents=True, exist_ok=True)
        packages.write_bytes(text)
        (suite / "Release").write_text(
            "Suite: bookworm\nCodename: bookworm\nArchitectures: amd64\nComponents: main\n"
            "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
            f" {hashlib.sha256(text).hexdigest()} {len(text)} main/binary-amd64/Packages\n"
        )

    def add_kernel(self, version: str, abi: str, flavour: str = "amd64", *, signed: bool = True) -> None:
        """Offer all packages of a kernel release 6.1.0-ABI-FLAVOUR."""
        suffix = "" if signed else "-unsigned"
        self.add(f"linux-image-6.1.0-{abi}-{flavour}{suffix}", version)
        self.add(f"linux-headers-6.1.0-{abi}-{flavour}", version)
        for name, architecture in (
            (f"linux-headers-6.1.0-{abi}-common", "all"),
            ("linux-kbuild-6.1", "amd64"),
            ("linux-config-6.1", "amd64"),
            ("linux-source-6.1", "all"),
        ):
            if not (self.pool / f"{name}_{version}_{architecture}.deb").exists():
                self.add(name, version, architecture)
