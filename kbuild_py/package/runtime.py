# SPDX-License-Identifier: GPL-2.0-or-later
"""The package `kbuild-py-kpatch`: the `kpatch` command and what loads patches at boot.

Every patch's package depends on it, and it is the same for all kernels and architectures.  The initramfs is
made anew when a patch comes or goes, by a trigger of dpkg: once at the end, however many packages there are.
"""

from __future__ import annotations

import calendar
import gzip
from pathlib import Path

from kbuild_py import RELEASED, RUNTIME_PACKAGE, VERSION
from kbuild_py.manifest.model import BuildConfiguration
from kbuild_py.module.render import render
from kbuild_py.package import deb

FILE_NAME = deb.file_name(RUNTIME_PACKAGE, VERSION, "all")

# In the folder runtime/ -> where it is installed.
PLACES = {
    "kpatch": "usr/sbin",
    "*.service": "lib/systemd/system",
    "initramfs-tools/hooks/*": "usr/share/initramfs-tools/hooks",
    "initramfs-tools/scripts/init-bottom/*": "usr/share/initramfs-tools/scripts/init-bottom",
}
PAGES = ("kpatch.1", "kpatch.7", "kpatch.8")


def sources(root: Path) -> dict[Path, str]:
    """Each file of the project that becomes part of the package, and its folder there."""
    found = {path: place for glob, place in PLACES.items() for path in sorted((root / "runtime").glob(glob))}
    pages = [path for path in ((root / "man" / name) for name in PAGES) if path.exists()]
    return found | {path: f"usr/share/man/man{path.suffix[1:]}" for path in pages}


def runtime_package(root: Path, configuration: BuildConfiguration) -> deb.Package:
    """The package, from the project's runtime/ and man/."""
    epoch = calendar.timegm((*RELEASED, 0, 0, 0))
    files: dict[str, tuple[bytes, int]] = {}
    for path, place in sources(root).items():
        content, name = path.read_bytes(), path.name
        if "/man/" in place:
            content, name = gzip.compress(content, 9, mtime=0), f"{name}.gz"
        files[f"{place}/{name}"] = (content, 0o755 if content.startswith(b"#!") else 0o644)
    services = sorted(path.name for path in sources(root) if path.suffix == ".service")
    values = {"services": services, "maintainer": configuration.maintainer, "year": RELEASED[0]}
    doc = f"usr/share/doc/{RUNTIME_PACKAGE}"
    log = deb.changelog(
        RUNTIME_PACKAGE,
        VERSION,
        f"The kpatch command of kbuild-py {VERSION}",
        configuration.maintainer,
        epoch,
    )
    files[f"{doc}/changelog.gz"] = (log, 0o644)
    files[f"{doc}/copyright"] = (render("package/runtime-copyright.j2", values).encode(), 0o644)
    overrides = render("package/runtime-overrides.j2", values).encode()
    files[f"usr/share/lintian/overrides/{RUNTIME_PACKAGE}"] = (overrides, 0o644)
    scripts = {
        name: render(f"package/runtime-{name}.sh.j2", values) for name in ("postinst", "prerm", "postrm")
    }
    return deb.Package(
        name=RUNTIME_PACKAGE,
        version=VERSION,
        architecture="all",
        fields={
            "Maintainer": configuration.maintainer,
            "Depends": "kmod",
            "Recommends": "initramfs-tools",
            "Conflicts": "kpatch",
            "Section": "kernel",
            "Priority": "optional",
            "Description": deb.description(
                "load, unload and show live patches of the kernel",
                (
                    "The kpatch command applies and undoes live patches that were built with kbuild-py, "
                    "those of its own core module and those of the kernel's livepatch.",
                    "Installed patches are loaded at boot, by the initramfs where there is one and by "
                    "systemd.",
                ),
            ),
        },
        files=files,
        epoch=epoch,
        scripts={**scripts, "triggers": "interest-noawait /usr/lib/kpatch\n"},
    )
