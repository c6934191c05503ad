# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of core/ share.

Debian 12's other kernel, 6.12, is prepared as far as modules and boots need it.  No manifest is for it, so
nothing but these tests fetches its packages: through the same store, in the newest version that there is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.errors import UserError
from kbuild_py.kernel.headers import headers_folder, relocate
from kbuild_py.kernel.image import KernelImage, decompressed
from kbuild_py.kernel.lock import Lock, kernel_versions, package_names, refresh, system_archive
from kbuild_py.kernel.packages import fetch, unpack
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import KernelDescription
from tests.conftest import KERNELS
from tests.core.modules import Modules, build_modules

NAME, FLAVOUR = "debian-12-6.12-amd64", "amd64"


@pytest.fixture(scope="package")
def modules(debian12: TargetKernel, tmp_path_factory: pytest.TempPathFactory) -> Modules:
    """The core and the tests' own modules, for `debian12`."""
    return build_modules(debian12, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="session")
def debian12_newer(debian12: TargetKernel, tmp_path_factory: pytest.TempPathFactory) -> TargetKernel:
    """The kernel; it has no tree and no symbols.  (`debian12`: where that is skipped, this is, too.)"""
    folder = tmp_path_factory.mktemp("newer")
    described = KernelDescription(
        NAME, NAME, KERNELS / f"{NAME}.yaml", "debian", "x86_64", "", "6.12.0-1", FLAVOUR
    )
    archive = system_archive(described)
    try:
        if not archive.has_lists():
            refresh(archive)
        version, release = kernel_versions(archive, described)[0]
        names = package_names(release, version, FLAVOUR)
        wanted = (names.image, names.headers, names.common, names.kbuild)
        found = [next(filter(None, (archive.find(name, version) for name in row))) for row in wanted]
        fetch(described, Lock(NAME, release, version, "", (), tuple(found)))
    except (UserError, IndexError, StopIteration) as error:
        pytest.skip(f"no 6.12 kernel can be fetched: {error}")
    for package in found:
        unpack(package, folder, folder / "hold")
    headers = headers_folder(folder, release)
    relocate(headers)
    boot_image = folder / "boot" / f"vmlinuz-{release}"
    vmlinux = folder / "vmlinux"
    vmlinux.write_bytes(decompressed(boot_image.read_bytes(), boot_image))
    return TargetKernel(
        NAME,
        release,
        version,
        "x86_64",
        KernelImage.load(vmlinux).build_id,
        boot_image,
        vmlinux,
        Path("/nonexistent/symbols"),
        folder / "boot" / f"config-{release}",
        Path("/nonexistent/tree"),
        headers,
        folder / "lib" / "modules" / release,
        debian12.compiler,
    )
