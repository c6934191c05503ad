# SPDX-License-Identifier: GPL-2.0-or-later
"""From a kernel's description to a `TargetKernel`, once per machine.

`STEPS` is the whole preparation, top to bottom.  All that a kernel needs lies in one folder of the cache,
`<cache>/kernels/RELEASE-KEY/`, whose key is a digest of everything that decides about its content: the
locked packages and the recipe below.  A step that is done leaves `steps/NAME.json` (with the seconds it
took and the sizes of the files that it left), and is not done again as long as these are there; an
interrupted one is, from its beginning (those that work in the tree begin with an empty one, since kbuild may
trust a file that was half written).  Changing the lock changes the key, so a kernel that is in use is never
touched.  `kernel.json` comes last and says that all is there.

One lock per kernel: of two builds at once, the second waits and then finds everything ready.  Symbols are
kept by build ID and packages by digest, for all kernels together.
"""

from __future__ import annotations

import json
import lzma
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from kbuild_py.errors import Problem, Problems, UserError, refuse
from kbuild_py.files import cache_folder, read_json, sha256, write_atomic, write_json
from kbuild_py.kernel import compiler, config, facts, headers, image, kbuild, packages, symbols, tree
from kbuild_py.kernel.apt import Package
from kbuild_py.kernel.hold import taken, wait_until_free
from kbuild_py.kernel.lock import Lock, PackageNames, package_names, read_lock
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.model import KernelDescription
from kbuild_py.progress import step

# Raise it when a step's result changes, so that kernels prepared by older versions are prepared anew.
RECIPE = 1
# What one kernel takes on the disk, unpacked and prepared (6.1 amd64: 2.4 GB).
ROOM = 3 << 30


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where one kernel is prepared: its description, its lock, and every path."""

    description: KernelDescription
    lock: Lock
    folder: Path

    @property
    def names(self) -> PackageNames:
        return package_names(self.lock.release, self.lock.version, self.description.flavour)

    def package(self, names: tuple[str, ...]) -> Package:
        """The locked package with one of these names."""
        by_name = {package.name: package for package in self.lock.packages}
        return next(by_name[name] for name in names if name in by_name)

    @property
    def image(self) -> Path:
        return self.folder / "image"

    @property
    def boot_image(self) -> Path:
        return self.image / "boot" / f"vmlinuz-{self.lock.release}"

    @property
    def modules(self) -> Path:
        return self.image / "lib" / "modules" / self.lock.release

    @property
    def vmlinux(self) -> Path:
        return self.folder / "vmlinux"

    @property
    def headers(self) -> Path:
        return headers.headers_folder(self.folder / "headers", self.lock.release)

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def result(self) -> Path:
        return self.folder / "kernel.json"

    @property
    def hold(self) -> Path:
        """The lock that programs hold which write here."""
        return self.folder.with_name(f"{self.folder.name}.hold")

    def marker(self, name: str) -> Path:
        """The file that says that a step is done."""
        return self.folder / "steps" / f"{name}.json"

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def compiler_text(self) -> str:
        return config.string(config.parse(self.config.read_text()), "CC_VERSION_TEXT")

    def arguments(self) -> tuple[str, ...]:
        generated = self.headers / "include" / "generated"
        return kbuild.arguments(generated, self.description.arch, compiler.program(self.compiler_text()))


def workshop(description: KernelDescription) -> Workshop:
    """The paths for `description` as its lock has it now.  Reads the lock, nothing else."""
    lock = read_lock(description)
    facts = {
        "recipe": RECIPE,
        "arch": description.arch,
        "release": lock.release,
        "version": lock.version,
        "packages": [asdict(package) for package in lock.packages],
    }
    key = sha256(json.dumps(facts, sort_keys=True).encode())[:12]
    return Workshop(description, lock, cache_folder() / "kernels" / f"{lock.release}-{key}")


def fetch(shop: Workshop) -> None:
    """The locked packages are in the store."""
    packages.fetch(shop.description, shop.lock)


def unpack_image(shop: Workshop) -> None:
    """The boot image and its modules are unpacked."""
    packages.unpack(shop.package(shop.names.image), _empty(shop.image), shop.hold)
    if not shop.boot_image.exists():
        raise refuse(shop.boot_image, "the image package does not have it; its layout is not known")


def unpack_headers(shop: Workshop) -> None:
    """The headers packages make one build folder; their configuration is the image's."""
    root = _empty(shop.folder / "headers")
    for name in (shop.names.headers, shop.names.common, shop.names.kbuild):
        packages.unpack(shop.package(name), root, shop.hold)
    headers.relocate(shop.headers)
    shipped = (shop.headers / ".config").read_text()
    unfit = facts.missing(config.parse(shipped), f"the configuration of {shop.lock.release}")
    Problems([*_published(shop, shipped), *unfit]).raise_if_any()
    write_atomic(shop.config, shipped)
    compiler.require(shop.compiler_text())


def _published(shop: Workshop, shipped: str) -> list[Problem]:
    """Where the image's /boot/config and the config package contradict the headers' .config."""
    boot = shop.image / "boot" / f"config-{shop.lock.release}"
    problems = list(config.disagreement(shipped, boot.read_text(), boot))
    folder = _empty(shop.folder / "config-package")
    packages.unpack(shop.package(shop.names.config), folder, shop.hold)
    flavour = shop.description.flavour
    featureset, name = ("rt", flavour.removeprefix("rt-")) if flavour.startswith("rt-") else ("none", flavour)
    found = [
        path
        for path in sorted(folder.rglob("config.*.xz"))
        if path.name.endswith((f"_{featureset}_{name}.xz", f"_{featureset}_{flavour}.xz"))
    ]
    if not found:
        problems.append(Problem(str(folder), f"the config package has no configuration of flavour {flavour}"))
    for path in found:
        problems += config.disagreement(shipped, lzma.decompress(path.read_bytes()).decode(), path)
    return problems


def unpack_vmlinux(shop: Workshop) -> None:
    """The ELF image is out of the boot image, and has a build ID."""
    write_atomic(shop.vmlinux, image.decompressed(shop.boot_image.read_bytes(), shop.boot_image))
    _ = image.KernelImage.load(shop.vmlinux).build_id


def recover_symbols(shop: Workshop) -> None:
    """The image's symbols are in the cache, and its banner says that it is the kernel we wanted."""
    kernel_image = image.KernelImage.load(shop.vmlinux)
    path = symbols.recover_cached(kernel_image, shop.vmlinux, cache_folder() / "symbols")
    banner = symbols.banner(symbols.KernelSymbols.load(path), kernel_image)
    problems = Problems()
    for what, text in (
        ("release", f"Linux version {shop.lock.release} "),
        ("compiler", shop.compiler_text()),
    ):
        if text not in banner:
            problems.add(shop.boot_image, f"the image's banner does not have the {what} {text!r}: {banner}")
    problems.raise_if_any()


def unpack_source(shop: Workshop) -> None:
    """The source tree is unpacked."""
    folder = _empty(shop.folder / "source-package")
    packages.unpack(shop.package(shop.names.source), folder, shop.hold)
    tarball = folder / "usr" / "src" / f"{shop.names.source[0]}.tar.xz"
    if not tarball.exists():
        raise refuse(tarball, "the source package does not have it; its layout is not known")
    tree.unpack(tarball, shop.tree, shop.hold)
    shutil.rmtree(folder)


def configure(shop: Workshop) -> None:
    """The tree has the shipped configuration, to the letter."""
    tree.configure(shop.tree, shop.config, shop.arguments(), shop.log("configure"), shop.hold)


def make_prepare(shop: Workshop) -> None:
    """Single objects can be compiled, and the tree's headers are those of the shipped kernel."""
    tree.prepare(
        shop.tree, shop.headers, shop.description.arch, shop.arguments(), shop.log("prepare"), shop.hold
    )


@dataclass(frozen=True, slots=True)
class PreparationStep:
    """One step of the preparation.

    name:   file-name-like
    title:  what the user sees, or "" for steps that show their own progress
    leaves: files and folders that it makes.  When one is lost, or a file has another size, it is done again.
    """

    name: str
    title: str
    action: Callable[[Workshop], None]
    leaves: Callable[[Workshop], tuple[Path, ...]] = lambda _shop: ()


STEPS = (
    PreparationStep("fetch", "", fetch),
    PreparationStep(
        "image",
        "unpacking the image and its modules",
        unpack_image,
        lambda shop: (shop.boot_image, shop.modules),
    ),
    # From here on the configuration and the compiler are known, and the compiler is the kernel's own.
    PreparationStep(
        "headers",
        "unpacking the headers",
        unpack_headers,
        lambda shop: (shop.headers / "Module.symvers", shop.config),
    ),
    PreparationStep("vmlinux", "decompressing the image", unpack_vmlinux, lambda shop: (shop.vmlinux,)),
    PreparationStep("symbols", "recovering the image's symbols", recover_symbols),
    PreparationStep("source", "unpacking the source", unpack_source, lambda shop: (shop.tree,)),
    PreparationStep("configure", "configuring the tree as shipped", configure),
    PreparationStep(
        "prepare", "preparing the tree", make_prepare, lambda shop: (shop.tree / "include" / "generated",)
    ),
)


# The steps that work in the same tree, each on what the one before left there.
TREE_STEPS = ("source", "configure", "prepare")


def prepared(description: KernelDescription) -> TargetKernel | None:
    """The kernel if it is prepared already, in a few milliseconds; None if it is not."""
    shop = workshop(description)
    if not shop.result.exists():
        return None
    try:
        kernel = TargetKernel.load(shop.result)
    except UserError:  # damaged; it is written again, from the steps that are done
        return None
    # A cache folder that was copied elsewhere has paths of its old place in it.
    whole = kernel.vmlinux == shop.vmlinux and kernel.symbols.exists()
    return kernel if whole and all(is_done(shop, each) for each in STEPS) else None


def prepare(description: KernelDescription) -> TargetKernel:
    """The prepared kernel; what is missing is done now, shown step by step.

    Raises `UserError` for all that the user can mend: no lock, package gone, no network, disk full,
    damaged package, wrong compiler, missing tool, drifted configuration.
    """
    kernel = prepared(description)
    if kernel is None:
        shop = workshop(description)
        waiting = f"waiting for another build that prepares {shop.lock.release}"
        with taken(shop.folder.with_name(f"{shop.folder.name}.lock"), waiting):
            kernel = prepared(description) or _prepare(shop)
    compiler.require(config.string(config.parse(kernel.config.read_text()), "CC_VERSION_TEXT"))
    return kernel


def _prepare(shop: Workshop) -> TargetKernel:
    tree.require_tools()
    wait_until_free(shop.hold, f"waiting for what an interrupted build of {shop.lock.release} left running")
    shop.folder.mkdir(parents=True, exist_ok=True)
    for path in shop.folder.glob(".*"):  # files that a killed build was writing
        path.unlink()
    in_tree = [each for each in STEPS if each.name in TREE_STEPS]
    if any(
        shop.marker(each.name).with_suffix(".begun").exists() or not is_done(shop, each) for each in in_tree
    ):
        for name in TREE_STEPS:
            shop.marker(name).unlink(missing_ok=True)
    for each in STEPS:
        run_step(shop, each)
    kernel_image = image.KernelImage.load(shop.vmlinux)
    kernel = TargetKernel(
        name=shop.description.name,
        release=shop.lock.release,
        version=shop.lock.version,
        arch=shop.description.arch,
        build_id=kernel_image.build_id,
        boot_image=shop.boot_image,
        vmlinux=shop.vmlinux,
        symbols=symbols.recover_cached(kernel_image, shop.vmlinux, cache_folder() / "symbols"),
        config=shop.config,
        tree=shop.tree,
        headers=shop.headers,
        modules=shop.modules,
        compiler=compiler.program(shop.compiler_text()),
    )
    kernel.save(shop.result)
    return kernel


def is_done(shop: Workshop, each: PreparationStep) -> bool:
    """Whether the step was done and what it left is still there."""
    try:
        left: dict[str, int] = json.loads(shop.marker(each.name).read_bytes()).get("left", {})
    except (OSError, ValueError, AttributeError):  # never done, or damaged
        return False
    sizes = {path: _size(path) for path in each.leaves(shop)}
    # Markers of older versions have no sizes.
    return all(size is not None and left.get(path.name, size) == size for path, size in sizes.items())


def _size(path: Path) -> int | None:
    """A file's size, 0 for a folder, None for nothing."""
    try:
        return path.stat().st_size if path.is_file() else 0 if path.is_dir() else None
    except OSError:
        return None


def run_step(shop: Workshop, each: PreparationStep) -> None:
    """Do one step unless it is done, and mark it as done.  Its predecessors in `STEPS` must be done."""
    marker = shop.marker(each.name)
    if is_done(shop, each):
        return
    marker.unlink(missing_ok=True)
    if each.name == "source":
        packages.need_room(shop.folder, ROOM, "the source tree")
    begun = marker.with_suffix(".begun")
    write_atomic(begun, "")
    start = time.monotonic()
    if each.title:
        with step(f"{shop.lock.release}: {each.title}"):
            each.action(shop)
    else:
        each.action(shop)
    left = {path.name: _size(path) for path in each.leaves(shop)}
    seconds = round(time.monotonic() - start, 3)
    write_json(marker, {"left": left, "seconds": seconds, "step": each.name})
    begun.unlink()


def seconds(description: KernelDescription) -> dict[str, float]:
    """What each step took when it was done, in the order of `STEPS`; steps not done yet are left out."""
    shop = workshop(description)
    markers = {each.name: shop.marker(each.name) for each in STEPS}
    return {name: float(read_json(path)["seconds"]) for name, path in markers.items() if path.exists()}


def _empty(folder: Path) -> Path:
    """`folder`, without what an interrupted attempt left in it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
