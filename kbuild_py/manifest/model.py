# SPDX-License-Identifier: GPL-2.0-or-later
"""What a manifest says, as values.  Made by `load.py` only, so a `Manifest` is always a valid one."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path


class Backend(enum.Enum):
    """Which kernel side applies the patch."""

    KPATCH = "kpatch"
    LIVEPATCH = "livepatch"


class Consistency(enum.Enum):
    """When a task may run new code: all tasks at one instant, or each at its own."""

    ATOMIC = "atomic"
    PER_TASK = "per-task"


class When(enum.Enum):
    """The moments of a boot at which checks run in the guest."""

    BEFORE_LOAD = "before_load"
    AFTER_LOAD = "after_load"
    AFTER_UNLOAD = "after_unload"


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the patch may change; `place` is file:line:column in the manifest."""

    name: str
    source: str | None
    force_unsafe: bool
    place: str


class HookKind(enum.Enum):
    """When a hook runs, in the order of a patch's life."""

    PRE_PATCH = "pre_patch"
    LOAD = "load"
    POST_PATCH = "post_patch"
    PRE_UNPATCH = "pre_unpatch"
    UNLOAD = "unload"
    POST_UNPATCH = "post_unpatch"

    @property
    def result(self) -> str:
        """The C type that such a function returns."""
        return "int" if self is HookKind.PRE_PATCH else "void"

    @property
    def in_stop(self) -> bool:
        """It runs while the machine is stopped."""
        return self in (HookKind.LOAD, HookKind.UNLOAD)


@dataclass(frozen=True, slots=True)
class Hook:
    """A function of the patch that runs at a moment; `place` is file:line:column in the manifest."""

    kind: HookKind
    function: str
    place: str

    @property
    def prototype(self) -> str:
        """How the function must be declared in C."""
        return f"{self.kind.result} {self.function}(void)"


@dataclass(frozen=True, slots=True)
class PatchedObject:
    """vmlinux or a module, with the functions declared for it; None is `functions: auto`."""

    name: str
    functions: tuple[Function, ...] | None
    place: str
    hooks: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """A command that the guest's shell runs, and what it must print or its exit status.

    stdout:   exact text expected (trailing newlines ignored), or None
    contains: text that must appear, or None
    absent:   text that must not appear, or None
    status:   exit status expected
    """

    when: When
    command: str
    stdout: str | None
    contains: str | None
    absent: str | None
    status: int
    place: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest.  Paths are absolute; `folder` is where the manifest lies.

    patches: in the order in which they are applied; may be none where there are sources
    sources: C files and headers of the patch module
    version: counts the releases of this patch, from 1
    backends: one module for each, in this order
    """

    name: str
    description: str
    path: Path
    folder: Path
    patches: tuple[Path, ...]
    kernels: tuple[str, ...]
    backends: tuple[Backend, ...]
    consistency: Consistency
    objects: tuple[PatchedObject, ...]
    checks: tuple[Check, ...]
    sources: tuple[Path, ...] = ()
    version: int = 1

    @property
    def patch_name(self) -> str:
        """The patch's name in the kernel: two versions differ there, or one could not replace the other."""
        return self.name if self.version == 1 else f"{self.name}-{self.version}"

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """The hooks of all objects."""
        return tuple(hook for item in self.objects for hook in item.hooks)


@dataclass(frozen=True, slots=True)
class KernelDescription:
    """What manifests/kernels/NAME.yaml says.

    release: what `uname -r` prints; names the image and headers packages
    version: the exact version of the Debian packages
    flavour: Debian's flavour, the release's last part (amd64, cloud-amd64, rt-amd64)
    """

    name: str
    description: str
    path: Path
    source: str  # "debian"; other sources come later
    arch: str  # the kernel's name: x86_64
    release: str
    version: str
    flavour: str


@dataclass(frozen=True, slots=True)
class Signing:
    """With what modules are signed.

    key:         a file's absolute path, or a PKCS#11 URI
    certificate: absolute path, PEM or DER
    """

    key: str
    certificate: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The files among the two."""
        return (self.certificate,) if self.key.startswith("pkcs11:") else (Path(self.key), self.certificate)


@dataclass(frozen=True, slots=True)
class BuildConfiguration:
    """What kbuild-py.yaml says about whoever builds; defaults where there is none.

    maintainer: "Name <mail>" of packages
    signing:    None: modules stay unsigned
    signatures_enforced: the machines that packages go to load signed modules only
    """

    maintainer: str
    signing: Signing | None
    signatures_enforced: bool
