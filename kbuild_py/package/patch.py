# SPDX-License-Identifier: GPL-2.0-or-later
"""The package of one patch for one kernel: names, versions, dependencies, and what lies where.

The name has the kernel's release, so that packages for several kernels are installed side by side, as kernels
are.  The version is the manifest's, and behind it the kernel package's: Debian may upload the same release
again.  The dependency is on exactly the image that the patch was proven against, signed or not: the code in
both is the same.
"""

from __future__ import annotations

import calendar
import time

from kbuild_py import RUNTIME_PACKAGE, VERSION
from kbuild_py.errors import refuse
from kbuild_py.kernel.lock import Lock, debian_architecture, package_names, read_lock
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.layout import Build
from kbuild_py.manifest.model import BuildConfiguration, KernelDescription, Manifest
from kbuild_py.module.render import render
from kbuild_py.package import deb

# Where `kpatch` finds patches that packages brought.
FOLDER = "usr/lib/kpatch"


def package_name(manifest: Manifest, kernel: KernelDescription) -> str:
    """kpatch-NAME-RELEASE, in the characters that a package's name may have."""
    return f"kpatch-{manifest.name}-{kernel.release}".replace("~", ".")


def package_version(manifest: Manifest, kernel: KernelDescription) -> str:
    """The manifest's version, then the kernel package's."""
    return f"{manifest.version}+{kernel.version.rpartition(':')[2]}"


def file_name(manifest: Manifest, kernel: KernelDescription) -> str:
    """The package's file."""
    name, version = package_name(manifest, kernel), package_version(manifest, kernel)
    return deb.file_name(name, version, debian_architecture(kernel))


def epoch(lock: Lock) -> int:
    """When the archive had the kernel's packages: a time that comes from the inputs."""
    return calendar.timegm(time.strptime(lock.seen, "%Y%m%dT%H%M%SZ"))


def kernel_dependency(lock: Lock, flavour: str) -> str:
    """The image package that was locked, or its twin without a signature, in exactly that version."""
    names = package_names(lock.release, lock.version, flavour).image
    locked = next(package for package in lock.packages if package.name in names)
    return " | ".join(f"{name} (= {locked.version})" for name in sorted(names))


def patch_package(build: Build, target: TargetKernel, configuration: BuildConfiguration) -> deb.Package:
    """The package of a finished build."""
    manifest, kernel = build.manifest, build.kernel
    lock = read_lock(kernel)
    name, version = package_name(manifest, kernel), package_version(manifest, kernel)
    where = f"{FOLDER}/{kernel.release}/{manifest.patch_name}"
    paths = (*build.modules, build.core_module, build.record)
    files = {f"{where}/{path.name}": (path.read_bytes(), 0o644) for path in paths}
    values = {
        "package": name,
        "name": manifest.name,
        "patch": manifest.patch_name,
        "release": kernel.release,
        "kernel_version": kernel.version,
        "build_id": target.build_id,
        "maintainer": configuration.maintainer,
        "year": time.gmtime(epoch(lock)).tm_year,
    }
    doc = f"usr/share/doc/{name}"
    changes = f"Live patch {manifest.name} for {kernel.release} ({kernel.version}): {manifest.description}"
    files[f"{doc}/changelog.Debian.gz"] = (
        deb.changelog(name, version, changes, configuration.maintainer, epoch(lock)),
        0o644,
    )
    files[f"{doc}/copyright"] = (render("package/copyright.j2", values).encode(), 0o644)
    overrides = render("package/lintian-overrides.j2", values).encode()
    files[f"usr/share/lintian/overrides/{name}"] = (overrides, 0o644)
    if len(name) > 200:
        raise refuse(manifest.path, f"the package's name {name} is too long", "shorten the manifest's name")
    return deb.Package(
        name=name,
        version=version,
        architecture=debian_architecture(kernel),
        fields={
            "Maintainer": configuration.maintainer,
            "Depends": f"{RUNTIME_PACKAGE} (>= {VERSION}), {kernel_dependency(lock, kernel.flavour)}",
            "Section": "kernel",
            "Priority": "optional",
            "Description": deb.description(
                f"live patch {manifest.name}"[:79],
                (
                    f"{manifest.description}",
                    f"This is for the running kernel {kernel.release} of version {kernel.version}, and no "
                    "other. It is applied when the package is installed and each time that this kernel "
                    "starts, without a reboot, and undone when the package is removed.",
                ),
            ),
        },
        files=files,
        epoch=epoch(lock),
        scripts={name: render(f"package/{name}.sh.j2", values) for name in ("postinst", "prerm")},
    )
