# SPDX-License-Identifier: GPL-2.0-or-later
"""The code in memory is that of the image, but for what the kernel may change: on the stock kernel.

A patch is generated as the product does it, of one function that has all proven functions of some
sources as its parts: the core compares every byte of them.  On machines with one CPU and with several, with
and without mitigations, traced and probed, none of them may differ outside its spans.  Then a byte is
spoiled, and that one must be found.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import capstone
import pytest

from kbuild_py.baseline import FunctionProof, State
from kbuild_py.kernel.image import KernelImage
from kbuild_py.kernel.symbols import KernelSymbols
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.module.build import kbuild, write_module
from kbuild_py.module.kpatch import Code, Part, PatchedFunction, PatchedObject, module_sources
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import Outcome, render_report
from tests.baseline.test_kernel import commands, prove_source
from tests.core.modules import CORE, HERE, Modules, build_modules

pytestmark = [pytest.mark.kernel, pytest.mark.boot]

REPLACED = "fs/proc/cmdline.c", "cmdline_proc_show"
SOURCES = (
    REPLACED[0],
    "arch/x86/kernel/process.c",
    "arch/x86/kernel/cpu/common.c",
    "arch/x86/mm/fault.c",
    "fs/dcache.c",
    "fs/exec.c",
    "fs/namei.c",
    "kernel/fork.c",
    "kernel/futex/core.c",
    "kernel/sched/core.c",
    "kernel/sched/fair.c",
    "kernel/signal.c",
    "kernel/time/timer.c",
    "kernel/workqueue.c",
    "mm/memory.c",
    "mm/mmap.c",
    "mm/slub.c",
    "net/core/dev.c",
    "net/core/skbuff.c",
    "net/ipv4/tcp.c",
)
# Has a call in the middle, and nobody calls it in these guests.
UNUSED = "kernel/fork.c", "ksys_unshare"
NEW = """\
// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/seq_file.h>

int new_cmdline(struct seq_file *m, void *v);
int new_cmdline(struct seq_file *m, void *v)
{
	seq_puts(m, "kpt_code\\n");
	return 0;
}
"""
KBUILD = "obj-m := kpt_code.o\nkpt_code-y := patch.o new.o\n"


@dataclass(frozen=True, slots=True)
class Compared:
    """The built modules, and what kpt_code.ko compares."""

    modules: Modules
    code: Path
    unused: FunctionProof
    data: bytes
    functions: int


@pytest.fixture(scope="module")
def compared(debian12: TargetKernel, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return compare(debian12, tmp_path_factory.mktemp("code"))


def compare(kernel: TargetKernel, folder: Path) -> Compared:
    """Prove the sources, and build the module that compares what is proven."""
    image, names = KernelImage.load(kernel.vmlinux), KernelSymbols.load(kernel.symbols)
    freed = range(names.named("__init_begin")[0].address, names.named("__init_end")[0].address)
    proofs = {
        source: prove_source(kernel, image, names, command, folder / str(number))
        for number, (source, command) in enumerate(commands(kernel, SOURCES).items())
    }

    def code(one: FunctionProof) -> Code:
        assert one.address is not None
        return Code(image.read(one.address, one.size), one.spans)

    found = {
        one.address: one
        for proof in proofs.values()
        for one in proof.functions
        if one.state is State.PROVEN and one.address is not None and one.address not in freed
    }
    replaced = proofs[REPLACED[0]].function(REPLACED[1])
    unused = proofs[UNUSED[0]].function(UNUSED[1])
    assert replaced and replaced.address and unused and unused.address in found
    parts = tuple(
        Part(one.name, names.sympos(one.name, address), address, one.size, code(one))
        for address, one in found.items()
        if address != replaced.address
    )
    function = PatchedFunction(
        replaced.name,
        names.sympos(replaced.name, replaced.address),
        replaced.address,
        replaced.size,
        code(replaced),
        parts,
        "new_cmdline",
        True,  # nobody is going to leave all of these functions
    )
    texts = module_sources(
        name="kpt-code",
        description="compares code",
        release=kernel.release,
        version=kernel.version,
        build_id=kernel.build_id,
        objects=[PatchedObject("vmlinux", (function,))],
        files=[],
    )
    modules = build_modules(kernel, folder / "modules")
    texts |= {"kpatch.h": (CORE / "kpatch.h").read_text(), "new.c": NEW, "Kbuild": KBUILD}
    write_module(folder / "code", texts.items(), ())
    kbuild(kernel, folder / "code", extra_symbols=modules.core.parent / "Module.symvers")
    return Compared(modules, folder / "code" / "kpt_code.ko", unused, code(unused).data, len(parts) + 1)


LOADED = """
load kpt_code.ko
is /proc/cmdline kpt_code
echo 0 >$patches/kpt-code/enabled || fail
unload kpt_code
"""


def tracing() -> str:
    return f"""
mount -t tracefs tracefs /sys/kernel/tracing
echo 'cmdline_proc_show tcp_* do_* dev_* vm* *fork*' >/sys/kernel/tracing/set_ftrace_filter || fail
echo function >/sys/kernel/tracing/current_tracer
{LOADED}
echo function_graph >/sys/kernel/tracing/current_tracer
{LOADED}
echo nop >/sys/kernel/tracing/current_tracer
echo >/sys/kernel/tracing/set_ftrace_filter
"""


def jump_labels() -> str:
    return f"""
mount -t debugfs debugfs /sys/kernel/debug
echo 1 >/proc/sys/kernel/sched_schedstats || fail
echo 'file net/core/dev.c +p' >/proc/dynamic_debug/control || fail
grep -q 'net/core/dev.c.* =p' /proc/dynamic_debug/control || fail 'no message is on'
{LOADED}
echo 0 >/proc/sys/kernel/sched_schedstats || fail
echo 'file net/core/dev.c -p' >/proc/dynamic_debug/control || fail
"""


def kprobes(compared: Compared) -> str:
    """Probes on some instructions of a function, one at a time, then on all of them."""
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    starts = [at for at, *_ in decoder.disasm_lite(compared.data, 0)][1:]
    some = starts[:: len(starts) // 6]
    name = compared.unused.name
    return f"""
list=/sys/kernel/debug/kprobes/list
events=/sys/kernel/tracing/kprobe_events
optimized=0
for at in {" ".join(map(str, some))}; do
    echo "p:one {name}+$at" >$events || fail
    echo 1 >/sys/kernel/tracing/events/kprobes/one/enable || fail
    sleep 0.3
    grep -q OPTIMIZED $list && optimized=$((optimized + 1))
    insmod kpt_code.ko || {{ cat $list; fail; }}
    echo 0 >$patches/kpt-code/enabled || fail
    unload kpt_code
    echo 0 >/sys/kernel/tracing/events/kprobes/one/enable
    echo >$events
done
[ $optimized -gt 0 ] || fail 'no probe was made a jump'
for at in {" ".join(map(str, starts))}; do
    echo "p:at$at {name}+$at" >>$events || fail
done
echo 1 >/sys/kernel/tracing/events/kprobes/enable || fail
sleep 0.3
grep -v OPTIMIZED $list | grep -q {name} || fail 'no probe is a breakpoint'
{LOADED}
echo 0 >/sys/kernel/tracing/events/kprobes/enable
echo >$events
"""


def spoiled(compared: Compared) -> str:
    """Bytes outside the spans at both ends of one, and the last byte; also under a probe."""
    one = compared.unused
    inside = {at for offset, size in one.spans for at in range(offset, offset + size)}
    outside = [at for at in range(one.size) if at not in inside]
    borders = [at for at in outside if at - 1 in inside or at + 1 in inside]
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    # Its last byte is changed, so it is still an instruction that can be probed.
    long = next(
        (at, size)
        for at, size, mnemonic, operands in decoder.disasm_lite(compared.data, 0)
        if size >= 5 and not inside & set(range(at, at + size)) and "rip" not in operands
    )
    steps = []
    for at in (borders[0], borders[-1], outside[len(outside) // 2], outside[-1]):
        old = compared.data[at : at + 1]
        steps.append(f"""
load kpt_poke.ko func={one.name} offset={at}
refused 'Invalid argument' '{one.name},1: its code is not what the patch was built for: at +{at:#x} expected {
            old.hex()
        }' kpt_code.ko
logged 'found {old[0] ^ 255:02x}'
gone $patches/kpt-code || fail 'still in sysfs'
! grep -q kpt_code /proc/cmdline || fail 'was changed'
unload kpt_poke
""")
    return f"""
{"".join(steps)}
{LOADED}
load kpt_poke.ko func={one.name} offset={sum(long) - 1}
echo 'p:one {one.name}+{long[0]}' >/sys/kernel/tracing/kprobe_events || fail
echo 1 >/sys/kernel/tracing/events/kprobes/one/enable || fail
sleep 0.3
refused 'Invalid argument' 'built for: at +{sum(long) - 1:#x} expected' kpt_code.ko
echo 0 >/sys/kernel/tracing/events/kprobes/one/enable
echo >/sys/kernel/tracing/kprobe_events
unload kpt_poke
load kpt_code.ko
echo 0 >$patches/kpt-code/enabled || fail
load kpt_poke.ko func={one.name} offset={outside[-1]}
dmesg -c >/dev/null
! echo 1 >$patches/kpt-code/enabled 2>/dev/null || fail 'applied over changed code'
logged '{one.name},1: its code is not what the patch was built for: at +{outside[-1]:#x} expected'
unload kpt_poke
echo 1 >$patches/kpt-code/enabled || fail
is /proc/cmdline kpt_code
echo 0 >$patches/kpt-code/enabled || fail
unload kpt_code
"""


MACHINES = (
    (1, ""),
    (4, ""),
    (1, "noreplace-smp nokaslr"),
    (4, "mitigations=off"),
    (2, "spectre_v2=off retbleed=off nopti"),
    (2, "spectre_v2=retpoline,lfence clearcpuid=smap,erms,fsrm"),
)


@pytest.mark.parametrize(("cpus", "append"), MACHINES)
def test_code_in_memory_is_the_images(
    debian12: TargetKernel,
    compared: Compared,
    tmp_path: Path,
    cpus: int,
    append: str,
) -> None:
    assert compared.functions > 2000
    passes(debian12, compared, tmp_path, cpus, append)


def passes(kernel: TargetKernel, compared: Compared, folder: Path, cpus: int, append: str) -> None:
    """Boot, load under all conditions, and fail with the report unless every step passed."""
    prelude = ". /guest.sh\n"
    steps = (
        GuestStep("load the core", prelude + "load kpatch.ko"),
        GuestStep("as it was booted", prelude + LOADED),
        GuestStep("traced", prelude + tracing(), timeout=400),
        GuestStep("jump labels", prelude + jump_labels(), timeout=400),
        GuestStep("kprobes", prelude + kprobes(compared), timeout=400),
        GuestStep("spoiled", prelude + spoiled(compared), timeout=400),
    )
    files = {
        "/guest.sh": HERE / "guest.sh",
        "/modules/kpt_code.ko": compared.code,
        **compared.modules.files(),
    }
    report = boot(kernel.boot_image, Guest(steps, files, cpus=cpus, append=append, one_thread=True), folder)
    assert report.outcome is Outcome.PASSED, render_report(report)
