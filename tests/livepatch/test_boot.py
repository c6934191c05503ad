# SPDX-License-Identifier: GPL-2.0-or-later
"""The modules for the kernel's livepatch: their files, and one boot of them all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.elf.read import parse_object
from kbuild_py.errors import UserError
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.layout import Build
from kbuild_py.manifest.load import load_kernel, load_manifest
from kbuild_py.manifest.model import Backend
from kbuild_py.run import run
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.livepatch import livepatch_guest, wait_step
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import Outcome, render_report
from kbuild_py.vm.verify import load_step, unload_step
from tests.projects import KERNEL, Throwaway, throw_away

# All that are not atomic; the first one lists mounts, and the second one leaves one.
EXAMPLES = ("mount-age", "cgroup-features", "ipv6-sysctl-errors", "meminfo-string", "nr-open-min")
FOLDER = "/sys/kernel/livepatch"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, debian12: TargetKernel) -> Throwaway:
    """A copy of the project in which the examples are built for both backends."""
    made = throw_away(tmp_path_factory.mktemp("livepatch") / "project", EXAMPLES, both=True)
    made.built("build")
    return made


def module(project: Throwaway, name: str) -> Path:
    """The livepatch module of an example."""
    return project.folder(name) / f"livepatch-{name}.ko"


@pytest.mark.kernel
def test_both_modules_stand_side_by_side(project: Throwaway) -> None:
    for name in EXAMPLES:
        assert project.module(name).exists() and module(project, name).exists()


@pytest.mark.kernel
def test_sections_and_symbols_are_what_the_kernel_wants(project: Throwaway) -> None:
    path = module(project, "cgroup-features")
    sections = run(["readelf", "-SW", path]).stdout
    rows = [line for line in sections.splitlines() if ".klp.rela.vmlinux.text" in line]
    assert rows and all(" RELA " in row and " AIo " in row for row in rows)
    symbols = run(["readelf", "-sW", path]).stdout.splitlines()
    late = {line.split()[-1] for line in symbols if "0xff20" in line}
    assert ".klp.sym.vmlinux.cgrp_dfl_visible,1" in late  # static
    assert ".klp.sym.vmlinux.total_forks,1" in late  # global, not exported
    # Ordinary relocations name none of them.
    plain = run(["readelf", "-rW", path]).stdout.split("Relocation section ")
    named = [part for part in plain if ".klp.sym." in part]
    assert named and all(part.startswith("'.klp.rela.vmlinux.") for part in named)
    with pytest.raises(UserError, match="finished livepatch module"):
        parse_object(path.read_bytes(), "x")


@pytest.mark.kernel
def test_modinfo(project: Throwaway, debian12: TargetKernel) -> None:
    text = run(["modinfo", module(project, "mount-age")]).stdout
    info = dict(line.partition(":")[::2] for line in text.splitlines())
    facts = {key: value.strip() for key, value in info.items()}
    assert (facts["livepatch"], facts["kpatch"], facts["depends"]) == ("Y", "mount-age", "")
    assert (facts["kpatch_release"], facts["kpatch_build_id"]) == (debian12.release, debian12.build_id)


def another_build_id(path: Path, build_id: str) -> bytes:
    """The module, made for another kernel of this release."""
    data, old = path.read_bytes(), bytes.fromhex(build_id)
    assert data.count(old) == 1
    return data.replace(old, bytes(byte ^ 1 for byte in old))


@pytest.fixture(scope="module")
def guest(project: Throwaway, debian12: TargetKernel) -> Guest:
    """Every example's own checks one after the other, then what concerns more than one."""
    steps: list[GuestStep] = []
    files: dict[str, bytes | Path] = {}
    kernel = load_kernel(project.root / "manifests" / "kernels" / f"{KERNEL}.yaml")
    for name in EXAMPLES:
        manifest = load_manifest(project.manifest(name))
        files_of = Build(project.root, manifest, kernel).on(Backend.LIVEPATCH)
        one = livepatch_guest(manifest.checks, files_of.module, since=len(steps))
        steps += [replace(step, stage=f"{name}: {step.stage}") for step in one.steps]
        files |= one.files
    meminfo, cgroup = module(project, "meminfo-string"), module(project, "cgroup-features")
    files["/modules/other.ko"] = another_build_id(meminfo, debian12.build_id)
    files["/modules/kpatch.ko"] = project.core
    files[f"/modules/{project.module('meminfo-string').name}"] = project.module("meminfo-string")
    old, new = "livepatch_meminfo_string", "livepatch_cgroup_features"
    steps += [
        GuestStep(
            "a kernel with another build ID refuses it",
            "insmod /modules/other.ko && exit 1; dmesg | tail -n 5",
            contains="built for the kernel with build ID",
        ),
        load_step(meminfo),
        wait_step(old, True, "load"),
        load_step(project.core),
        GuestStep(
            "the core refuses a function that livepatch has",
            f"insmod /modules/{project.module('meminfo-string').name} && exit 1; dmesg | tail -n 5",
            contains="meminfo_proc_show",
        ),
        GuestStep("and nothing has changed", "grep -c VMALLOCTOTAL /proc/meminfo", stdout="1"),
        GuestStep("replace", f"insmod /modules/{cgroup.name} replace=1", essential=True),
        wait_step(new, True, "replace"),
        wait_step(old, False, "replace"),
        GuestStep("the old patch is gone", "grep -c VmallocTotal /proc/meminfo", stdout="1"),
        GuestStep("the new one works", "cat /sys/kernel/cgroup/features", contains="# reads 1"),
        unload_step(meminfo),
        GuestStep(
            "under load",
            "for cpu in 1 2 3; do\n"
            "    while [ ! -e /tmp/enough ]; do cat /sys/kernel/cgroup/features >/dev/null; done &\n"
            "done\n"
            f"echo 0 > {FOLDER}/{new}/enabled\n"
            f"for second in $(seq 40); do [ -e {FOLDER}/{new} ] || break; sleep 1; done\n"
            "touch /tmp/enough; wait\n"
            f"[ ! -e {FOLDER}/{new} ] && rmmod {new}",
            essential=True,
        ),
        GuestStep("it is gone", "cat /sys/kernel/cgroup/features", absent="#"),
        GuestStep("below the limit", "echo 64 > /proc/sys/fs/nr_open", essential=True),
        GuestStep(
            "pre_patch refuses the load",
            "insmod /modules/livepatch-nr-open-min.ko && exit 1; dmesg | tail -n 5; lsmod",
            contains="fs.nr_open is below 1024 already",
        ),
        GuestStep(
            "nothing is left of it", f"ls {FOLDER}; lsmod | grep livepatch", stdout="", expect_status=1
        ),
    ]
    return Guest(tuple(steps), files, timeout=900, one_thread=True)


@pytest.mark.boot
def test_examples_replace_load_and_refusals(guest: Guest, debian12: TargetKernel, tmp_path: Path) -> None:
    report = boot(debian12.boot_image, guest, tmp_path)
    failed = [step for step in report.steps if step.failure]
    assert report.outcome is Outcome.PASSED and not failed, render_report(report)
