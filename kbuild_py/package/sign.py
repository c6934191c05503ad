# SPDX-License-Identifier: GPL-2.0-or-later
"""Module signatures, as the kernel checks them (Documentation/admin-guide/module-signing.rst).

A signature is a CMS message behind the module's last byte, made by the sign-file that belongs to the kernel's
own build.  It is made right after the module: what is verified, packed and recorded is the signed file.  The
message holds neither the time nor the certificate, so an RSA key gives the same bytes each time; an ECDSA key
does not.

Whether a kernel insists on signatures is partly its configuration.  Secure Boot and the command line can make
it insist, too, and only the build configuration can know about those.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from kbuild_py.errors import Problems, refuse
from kbuild_py.files import scratch, write_atomic
from kbuild_py.kernel import config
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import BuildConfiguration, Signing
from kbuild_py.run import run

# What the kernel looks for at a module's end (include/linux/module_signature.h).
MARK = b"~Module signature appended~\n"

# Options that make a kernel refuse unsigned modules by itself.
ENFORCING = ("MODULE_SIG_FORCE", "LOCK_DOWN_KERNEL_FORCE_INTEGRITY", "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY")


def is_signed(module: bytes) -> bool:
    """Whether a signature is appended to the module."""
    return module.endswith(MARK)


def sign(target: TargetKernel, signing: Signing, module: Path) -> None:
    """Sign the module at its place; `UserError` when the key and the certificate cannot do that."""
    options = config.parse(target.config.read_text())
    digest = config.string(options, "MODULE_SIG_HASH")
    if options.get("MODULE_SIG", "n") != "y" or not digest:
        raise refuse(
            target.name, "this kernel knows no module signatures (CONFIG_MODULE_SIG)", "do not sign for it"
        )
    program = target.headers / "scripts" / "sign-file"
    if not program.exists():
        raise refuse(program, "the kernel's build has no sign-file")
    with scratch(module.parent) as folder:
        signed = folder / module.name
        run([program.resolve(), digest, signing.key, signing.certificate, module, signed])
        data = signed.read_bytes()
        if not is_signed(data):
            raise refuse(module, "sign-file left no signature")
        write_atomic(module, data)


def enforcement(options: Mapping[str, str], configuration: BuildConfiguration) -> str:
    """Why the kernel will refuse unsigned modules; empty when nothing says so.

    options: the kernel's configuration, as `config.parse` gives it
    """
    found = [f"CONFIG_{name}" for name in ENFORCING if options.get(name) == "y"]
    if found:
        return f"the kernel's configuration has {' and '.join(found)}"
    return "the build configuration says signatures_enforced" if configuration.signatures_enforced else ""


def refuse_unsigned(modules: Iterable[Path], reason: str) -> None:
    """`UserError` with every unsigned module, when there is a reason (`enforcement`) to refuse them."""
    problems = Problems()
    for module in modules if reason else ():
        if not is_signed(module.read_bytes()):
            problems.add(
                os.path.relpath(module),
                f"is not signed, and {reason}",
                "name key and certificate under signing: in kbuild-py.yaml",
            )
    problems.raise_if_any()
