# SPDX-License-Identifier: GPL-2.0-or-later
"""The core module on the stock kernel: patches written by hand, right and wrong.

Every boot goes through the same steps, on 1, 2 and 4 CPUs, with and without KASLR.  The steps are shell
(guest.sh has the words they use), each with everything unloaded at its end, so that they do not depend on
each other.  At the end the kernel's log must hold no complaint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kbuild_py.kernel.image import KernelImage
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.vm.guest import Guest, GuestStep
from kbuild_py.vm.qemu import boot
from kbuild_py.vm.report import BootReport, Outcome, render_report
from tests.core.modules import HERE, Modules, Symbols

pytestmark = [pytest.mark.kernel, pytest.mark.boot]

COMPLAINTS = re.compile(
    r"WARNING:|\bBUG[: ]|Oops|general protection|invalid opcode|[Uu]npatched return|INFO: (task|rcu)"
    r"|refcount_t"
)

# What insmod says for the error that the core returned.
BUSY = "Device or resource busy"
INVALID = "Invalid argument"
NOT_SUPPORTED = "Operation not supported"


@dataclass
class Functions:
    """Parameters that describe functions to kpt_a.ko and kpt_b.ko."""

    kernel: TargetKernel
    modules: Modules
    symbols: Symbols = field(init=False)

    def __post_init__(self) -> None:
        self.symbols = Symbols(self.kernel)

    def vmlinux(self, name: str, sympos: int = 0) -> str:
        address, size = self.symbols.all(name)[max(sympos, 1) - 1]
        return f"func={name} sympos={sympos} addr={address:#x} size={size} $kernel"

    def victim(self, name: str, sympos: int = 0) -> str:
        size = self.modules.sizes("kpt_victim", name)[max(sympos, 1) - 1]
        return f"object=kpt_victim func={name} sympos={sympos} size={size} $kernel"


Commands = Iterator[tuple[str, str]]  # titles and shell commands
Part = Callable[[Functions], Commands]


def applying(functions: Functions) -> Commands:
    cmdline = functions.vmlinux("cmdline_proc_show")
    yield (
        "apply and undo",
        f"""
cat /proc/cmdline >/tmp/old
load kpt_a.ko {cmdline}
is /proc/cmdline kpt_a
logged 'kpatch: kpt_a: applied: 1 functions'
is $patches/kpt_a/enabled 1
is $patches/kpt_a/forced 0
is $patches/kpt_a/release $(uname -r)
is $patches/kpt_a/objects/vmlinux/cmdline_proc_show,1/forced 0
is $patches/kpt_a/objects/vmlinux/cmdline_proc_show,1/address 0x$(address_of cmdline_proc_show)
[ $(cat /sys/kernel/kpatch/last_stop_ns) -gt 0 ] || fail 'no stop time'
[ $(($(cat /proc/sys/kernel/tainted) & 32768)) = 32768 ] || fail 'not tainted'
unload kpt_a
cmp /proc/cmdline /tmp/old || fail 'not undone'
gone $patches/kpt_a || fail 'still in sysfs'
logged 'kpatch: kpt_a: undone'
""",
    )
    yield (
        "undo and apply by sysfs",
        f"""
cat /proc/cmdline >/tmp/old
load kpt_a.ko {cmdline}
echo 0 >$patches/kpt_a/enabled || fail
cmp /proc/cmdline /tmp/old || fail 'not undone'
is $patches/kpt_a/enabled 0
echo 0 >$patches/kpt_a/enabled || fail
echo 1 >$patches/kpt_a/enabled || fail
is /proc/cmdline kpt_a
! echo 7 2>/dev/null >$patches/kpt_a/enabled || fail 'took 7'
echo 0 >$patches/kpt_a/enabled || fail
unload kpt_a
""",
    )
    yield (
        "the core stays while a patch is there",
        f"""
load kpt_a.ko {cmdline}
! rmmod kpatch 2>/dev/null || fail 'core was unloaded'
unload kpt_a
""",
    )
    yield (
        "two patches",
        f"""
load kpt_victim.ko
load kpt_a.ko {cmdline}
refused 'File exists' 'kpt_a: a patch of this name is registered' kpt_b.ko {cmdline} name=kpt_a
load kpt_b.ko {functions.victim("victim_value")}
is /proc/cmdline kpt_a
is /proc/kpt-victim 'value 2 dup 10 11'
unload kpt_a
is /proc/kpt-victim 'value 2 dup 10 11'
load kpt_a.ko {cmdline}
unload kpt_b
is /proc/cmdline kpt_a
unload kpt_a
unload kpt_victim
""",
    )


def stacking(functions: Functions) -> Commands:
    cmdline = functions.vmlinux("cmdline_proc_show")
    sleep = functions.victim("victim_sleep")
    yield (
        "patches of the same function: the last one counts, and any may go first",
        f"""
cat /proc/cmdline >/tmp/old
for order in 'a b c' 'a c b' 'b a c' 'b c a' 'c a b' 'c b a'; do
    for patch in a b c; do
        load kpt_$patch.ko {cmdline}
        is /proc/cmdline kpt_$patch
    done
    left=' a b c'
    for patch in $order; do
        unload kpt_$patch
        left=$(echo "$left" | sed "s/ $patch//")
        [ -n "$left" ] || break
        is /proc/cmdline "kpt_${{left##* }}"
    done
    cmp /proc/cmdline /tmp/old || fail "$order: not undone"
done
""",
    )
    yield (
        "a patch that is applied again comes on top",
        f"""
load kpt_a.ko {cmdline}
load kpt_b.ko {cmdline}
echo 0 >$patches/kpt_a/enabled || fail
is /proc/cmdline kpt_b
is $patches/kpt_a/state disabled
echo 1 >$patches/kpt_a/enabled || fail
is $patches/kpt_a/state applied
is /proc/cmdline kpt_a
unload kpt_a
is /proc/cmdline kpt_b
unload kpt_b
""",
    )
    yield (
        "a livepatch can have the function as soon as the last patch of it is gone",
        f"""
load kpt_victim.ko
load kpt_a.ko {cmdline}
load kpt_b.ko {cmdline}
unload kpt_a
! insmod kpt_livepatch.ko 2>/dev/null || fail 'two users of one function'
unload kpt_b
load kpt_livepatch.ko
is /proc/cmdline livepatch
echo 0 >/sys/kernel/livepatch/kpt_livepatch/enabled
within 60 gone /sys/kernel/livepatch/kpt_livepatch
within 60 rmmod kpt_livepatch
unload kpt_victim
""",
    )
    yield (
        "refused: a process is in the function of the patch below",
        f"""
load kpt_victim.ko
load kpt_a.ko {sleep}
echo sleep >/proc/kpt-victim 2>/dev/null &
within 5 inside new_sleep $!
refused '{BUSY}' "kpt_b: refused: task sh (pid $!) is in victim_sleep at new_sleep+" kpt_b.ko {sleep}
load kpt_b.ko {functions.victim("victim_value")}
unload kpt_b
load kpt_b.ko {sleep} force=1
echo 0 >$patches/kpt_b/enabled || fail
unload kpt_b
kill $!
unload kpt_a
unload kpt_victim
""",
    )


def replacing(functions: Functions) -> Commands:
    cmdline = functions.vmlinux("cmdline_proc_show")
    sleep = functions.victim("victim_sleep")
    yield (
        "one patch supersedes all others",
        f"""
cat /proc/cmdline >/tmp/old
load kpt_victim.ko
load kpt_a.ko {cmdline} callbacks=1
load kpt_b.ko {functions.victim("victim_value")}
is /proc/kpt-victim 'value 2 dup 10 11'
load kpt_c.ko {cmdline} replace=1
is /proc/cmdline kpt_c
is /proc/kpt-victim 'value 1 dup 10 11'
is $patches/kpt_a/state superseded
is $patches/kpt_a/enabled 0
is $patches/kpt_b/state superseded
is $patches/kpt_b/objects/kpt_victim/patched 0
is $patches/kpt_c/state applied
! echo 1 2>/dev/null >$patches/kpt_a/enabled || fail 'a superseded patch was applied'
echo 0 >$patches/kpt_a/enabled || fail
unload kpt_a
logged 'kpt_a: calls: pre_patch(vmlinux) load(vmlinux) post_patch(vmlinux) '
not_logged 'pre_unpatch'
is /proc/cmdline kpt_c
unload kpt_c
cmp /proc/cmdline /tmp/old || fail 'not undone'
is /proc/kpt-victim 'value 1 dup 10 11'
unload kpt_b
load kpt_a.ko {cmdline}
is /proc/cmdline kpt_a
unload kpt_a
unload kpt_victim
""",
    )
    yield (
        "refused to supersede a patch that is in use, with nothing changed",
        f"""
load kpt_victim.ko
load kpt_a.ko {sleep} callbacks=1
load kpt_b.ko {cmdline}
echo sleep >/proc/kpt-victim 2>/dev/null &
sleeper=$!
within 5 inside new_sleep $sleeper
refused '{BUSY}' "kpt_c: refused: task sh (pid $sleeper) is in a patch module at new_sleep+" \
    kpt_c.ko {cmdline} replace=1
is $patches/kpt_a/state applied
is $patches/kpt_b/state applied
is /proc/cmdline kpt_b
refused '{BUSY}' "kpt_c: refused: task sh (pid $sleeper)" kpt_c.ko {sleep} replace=1
load kpt_c.ko {sleep} replace=1 force=1
is $patches/kpt_a/state superseded
rmmod kpt_a &
sleep 2.5
grep -q '^kpt_a' /proc/modules || fail 'unloaded while in use'
kill $sleeper
wait $! || fail 'rmmod failed'
grep -q '^kpt_a' /proc/modules && fail 'still loaded'
logged 'kpt_a: calls: pre_patch(module) load(module) post_patch(module) '
not_logged 'unload(module)'
unload kpt_b
! rmmod kpt_c 2>/dev/null || fail 'a forced patch was unloaded'
echo 0 >$patches/kpt_c/enabled || fail
unload kpt_c
unload kpt_victim
""",
    )


def deferring(functions: Functions) -> Commands:
    value = functions.victim("victim_value")
    yield (
        "a module that loads later is patched before it starts",
        f"""
load kpt_a.ko {value} callbacks=1 vmlinux_too=1
is $patches/kpt_a/objects/kpt_victim/patched 0
is $patches/kpt_a/objects/vmlinux/patched 1
load kpt_victim.ko
is /proc/kpt-victim-init 2
is /proc/kpt-victim 'value 2 dup 10 11'
is $patches/kpt_a/objects/kpt_victim/patched 1
is $patches/kpt_a/objects/kpt_victim/victim_value,1/forced 0
logged 'kpt_a: applied to module kpt_victim'
unload kpt_victim
logged 'kpt_a: undone in module kpt_victim'
is $patches/kpt_a/objects/kpt_victim/patched 0
gone $patches/kpt_a/objects/kpt_victim/victim_value,1 || fail 'still in sysfs'
! insmod kpt_victim.ko fail=1 2>/dev/null || fail 'loaded'
load kpt_victim.ko
is /proc/kpt-victim 'value 2 dup 10 11'
unload kpt_a
logged 'kpt_a: calls: pre_patch(vmlinux) load(vmlinux) post_patch(vmlinux) '\
'pre_patch(module) load(module) post_patch(module) pre_unpatch(module) unload(module) post_unpatch(module) '\
'pre_patch(module) load(module) post_patch(module) pre_unpatch(module) unload(module) post_unpatch(module) '\
'pre_patch(module) load(module) post_patch(module) '
not_logged WRONG
is /proc/kpt-victim 'value 1 dup 10 11'
unload kpt_victim
""",
    )
    yield (
        "several patches wait for a module, and keep their order",
        f"""
load kpt_a.ko {value}
load kpt_b.ko {functions.victim("victim_dup", 1)}
load kpt_c.ko {functions.victim("victim_dup", 2)}
load kpt_victim.ko
is /proc/kpt-victim 'value 2 dup 20 20'
echo 0 >$patches/kpt_a/enabled || fail
unload kpt_victim
load kpt_victim.ko
is /proc/kpt-victim-init 1
echo 1 >$patches/kpt_a/enabled || fail
is /proc/kpt-victim 'value 2 dup 20 20'
unload kpt_b
unload kpt_victim
unload kpt_a
unload kpt_c
load kpt_victim.ko
is /proc/kpt-victim 'value 1 dup 10 11'
unload kpt_victim
""",
    )
    yield (
        "a module that cannot be patched does not load",
        f"""
load kpt_b.ko {functions.victim("victim_dup", 1)} callbacks=1
load kpt_a.ko {value} size=7
! insmod kpt_victim.ko 2>/tmp/error || fail 'loaded unpatched'
grep -q '{INVALID}' /tmp/error || fail "$(cat /tmp/error)"
logged 'victim_value,0: expected 7 bytes'
logged 'module kpt_victim does not load: patch kpt_a cannot be applied to it'
gone /proc/kpt-victim || fail
! grep -q '^kpt_victim' /proc/modules || fail 'still loaded'
unload kpt_a
load kpt_a.ko {value} pre_patch_error=-12 callbacks=1
! insmod kpt_victim.ko 2>/tmp/error || fail 'loaded unpatched'
grep -q 'Cannot allocate' /tmp/error || fail "$(cat /tmp/error)"
unload kpt_a
logged 'kpt_a: calls: pre_patch(module) '
load kpt_victim.ko
is /proc/kpt-victim 'value 1 dup 20 11'
unload kpt_b
logged 'kpt_b: calls: pre_patch(module) load(module) post_patch(module) pre_unpatch(module) unload(module) '
unload kpt_victim
""",
    )
    yield (
        "modules come and go as often as they like",
        f"""
load kpt_a.ko {value}
for i in $(seq 20); do
    load kpt_victim.ko
    is /proc/kpt-victim-init 2
    unload kpt_victim
done
is /sys/module/kpt_a/refcnt 0
unload kpt_a
""",
    )


def callbacks(functions: Functions) -> Commands:
    cmdline = functions.vmlinux("cmdline_proc_show")
    yield (
        "callbacks, in their order and context",
        f"""
load kpt_a.ko {cmdline} callbacks=1
is /sys/module/kpt_a/parameters/seen 'pre_patch(vmlinux) load(vmlinux) post_patch(vmlinux) '
unload kpt_a
logged 'post_patch(vmlinux) pre_unpatch(vmlinux) unload(vmlinux) post_unpatch(vmlinux) '
not_logged WRONG
""",
    )
    yield (
        "a pre_patch that fails stops the load, and what came before is rolled back",
        f"""
old=$(cat /proc/cmdline)
refused 'Cannot allocate' 'kpt_a: vmlinux: pre_patch says -12' kpt_a.ko {cmdline} callbacks=1 \
    pre_patch_error=-12
is /proc/cmdline "$old"
refused '{INVALID}' 'kpt_a: vmlinux: pre_patch says 1' kpt_a.ko {cmdline} callbacks=1 pre_patch_error=1
load kpt_victim.ko
refused 'Cannot allocate' 'kpt_victim: pre_patch says -12' kpt_b.ko {functions.victim("victim_value")} \
    callbacks=1 vmlinux_too=1 pre_patch_error=-12
logged 'kpt_b: calls: pre_patch(vmlinux) pre_patch(module) post_unpatch(vmlinux) '
is /proc/kpt-victim 'value 1 dup 10 11'
unload kpt_victim
""",
    )
    yield (
        "callbacks around a switch that is refused",
        f"""
load kpt_victim.ko
load kpt_a.ko {functions.victim("victim_sleep")} callbacks=1
echo sleep >/proc/kpt-victim 2>/dev/null &
within 5 inside new_sleep $!
! echo 0 2>/dev/null >$patches/kpt_a/enabled || fail 'undone while in use'
calls='pre_patch(module) load(module) post_patch(module) pre_unpatch(module) post_patch(module) '
is /sys/module/kpt_a/parameters/seen "$calls"
! echo 1 2>/dev/null >/sys/module/kpt_a/parameters/leave || fail 'unregistered while in use'
is /sys/module/kpt_a/parameters/seen "${{calls}}pre_unpatch(module) post_patch(module) "
is $patches/kpt_a/objects/kpt_victim/patched 1
is $patches/kpt_a/state applied
refused '{BUSY}' 'is in victim_sleep' kpt_b.ko {functions.victim("victim_sleep")} callbacks=1
logged 'kpt_b: calls: pre_patch(module) post_unpatch(module) '
kill $!
unload kpt_a
unload kpt_victim
""",
    )


def nmis(functions: Functions) -> Commands:
    one, two = (functions.modules.sizes("kpt_nmi", name)[0] for name in ("nmi_one", "nmi_two"))
    patch = f"object=kpt_nmi func=nmi_one size={one} func2=nmi_two size2={two} $kernel"
    yield (
        "an NMI sees the old version or the new one",
        f"""
[ $(nproc) = 2 ] || exit 0
load kpt_nmi.ko
sleep 0.2
for i in $(seq 20); do
    load kpt_a.ko {patch}
    sleep 0.05
    unload kpt_a
done
echo "$(dmesg | grep -c 'refused: calls from an NMI handler') refused"
is /proc/kpt-nmi '1 1 0'
unload kpt_nmi
""",
    )


def modules_and_positions(functions: Functions) -> Commands:
    yield (
        "functions of a module, equal names by position",
        f"""
load kpt_victim.ko
is /proc/kpt-victim 'value 1 dup 10 11'
load kpt_a.ko {functions.victim("victim_value")}
is /proc/kpt-victim 'value 2 dup 10 11'
unload kpt_a
load kpt_a.ko {functions.victim("victim_dup", 1)}
is /proc/kpt-victim 'value 1 dup 20 11'
load kpt_b.ko {functions.victim("victim_dup", 2)}
is /proc/kpt-victim 'value 1 dup 20 20'
unload kpt_a
is /proc/kpt-victim 'value 1 dup 10 20'
unload kpt_b
is /proc/kpt-victim 'value 1 dup 10 11'
unload kpt_victim
""",
    )
    yield (
        "refused: what a module does not have",
        f"""
load kpt_victim.ko
refused '{INVALID}' 'victim_dup,0: several symbols' kpt_a.ko {functions.victim("victim_dup")}
refused '{INVALID}' 'kpt_victim: none,0: no such symbol' kpt_a.ko {functions.victim("victim_dup")} func=none
refused '{INVALID}' 'victim_dup,3: no such symbol' kpt_a.ko {functions.victim("victim_dup")} sympos=3
refused '{INVALID}' 'victim_value,0: expected 7 bytes' kpt_a.ko {functions.victim("victim_value")} size=7
refused '{INVALID}' 'victim_init,0: no such symbol' kpt_a.ko {functions.victim("victim_init")}
unload kpt_victim
""",
    )
    name = "state_show"
    count = len(functions.symbols.all(name))
    assert count > 1
    loads = "\n".join(
        f"load kpt_a.ko {functions.vmlinux(name, position)}\n"
        "[ $(cat /sys/power/state | head -n 1) = kpt_a ] && hits=$((hits + 1))\nunload kpt_a"
        for position in range(1, count + 1)
    )
    first = functions.vmlinux(name, 1)
    yield (
        "equal names in vmlinux by position: one of them shows /sys/power/state",
        f"""
hits=0
{loads}
[ $hits = 1 ] || fail "$hits of {count} positions show it"
refused '{INVALID}' '{name},0: several symbols' kpt_a.ko {first} sympos=0
refused '{INVALID}' '{name},2: expected at' kpt_a.ko {first} sympos=2
refused '{INVALID}' '{name},{count + 1}: no such symbol' kpt_a.ko {first} sympos={count + 1}
""",
    )


def verification(functions: Functions) -> Commands:
    address, size = functions.symbols.one("cmdline_proc_show")
    other_address, other_size = functions.symbols.one("do_nanosleep")
    right = functions.vmlinux("cmdline_proc_show")
    part = f"part=do_nanosleep part_addr={other_address:#x} part_size={other_size}"
    yield (
        "refused: another kernel",
        f"""
refused '{INVALID}' "built for kernel 6.1.0-1, this is $(uname -r)" kpt_a.ko {right} release=6.1.0-1
refused '{INVALID}' 'built for the kernel with build ID 00112233' kpt_a.ko {right} build_id=00112233
refused '{INVALID}' 'does not say which kernel' kpt_a.ko func=cmdline_proc_show release=$(uname -r)
gone $patches/kpt_a || fail 'still in sysfs'
""",
    )
    yield (
        "refused: functions that are not as described",
        f"""
refused '{INVALID}' 'cmdline_proc_show,0: expected at' kpt_a.ko {right} addr={address + 16:#x}
refused '{INVALID}' 'cmdline_proc_show,0: expected {size + 1} bytes' kpt_a.ko {right} size={size + 1}
refused '{INVALID}' 'cmdline_proc_show,0: expected 0 bytes' kpt_a.ko {right} size=0
refused '{INVALID}' 'no_such_function,0: no such symbol' kpt_a.ko {right} func=no_such_function
refused '{INVALID}' 'cmdline_proc_show,2: no such symbol' kpt_a.ko {right} sympos=2
refused '{INVALID}' 'exc_page_fault,0: ftrace cannot' kpt_a.ko {functions.vmlinux("exc_page_fault")}
refused '{INVALID}' 'replacement is not in the patch module' kpt_a.ko {right} outside=1
refused '{INVALID}' 'is the same function as' kpt_a.ko {right} twice=1
refused '{INVALID}' 'do_nanosleep,0: expected {other_size + 1} bytes' kpt_a.ko {right} {part} \
    part_size={other_size + 1}
refused '{INVALID}' 'without a module or a valid name' kpt_a.ko {right} name=a/b
refused '{INVALID}' 'without a module or a valid name' kpt_a.ko {right} name=..
refused '{INVALID}' 'module kpatch cannot be patched' kpt_a.ko {right} object=kpatch func=kpatch_register
gone $patches/kpt_a || fail 'still in sysfs'
! grep -q kpt_a /proc/modules || fail 'still loaded'
""",
    )
    image = KernelImage.load(functions.kernel.vmlinux)
    code, other_code = image.read(address, size), image.read(other_address, other_size)
    wrong, other_wrong = (data[:-1] + bytes([data[-1] ^ 1]) for data in (code, other_code))
    yield (
        "code in memory is compared, where no span is",
        f"""
load kpt_a.ko {right} code={code.hex()} spans=0,{size - 1}
is /proc/cmdline kpt_a
unload kpt_a
load kpt_a.ko {right} code={wrong.hex()} spans=0,1,1,{size - 1}
unload kpt_a
refused '{INVALID}' 'cmdline_proc_show,0: its code is not what the patch was built for: at +{size - 1:#x}' \
    kpt_a.ko {right} code={wrong.hex()} spans=0,{size - 1}
load kpt_a.ko {right} {part} code={other_code.hex()} spans=0,{other_size - 1} force=1
echo 0 >$patches/kpt_a/enabled || fail
unload kpt_a
refused '{INVALID}' 'do_nanosleep,0: its code is not what the patch was built for: at +{other_size - 1:#x}' \
    kpt_a.ko {right} {part} code={other_wrong.hex()} spans=0,{other_size - 1} force=1
for spans in 0,5,4,2 6,2,0,5 5,0 0,{size + 1} {size},1 1,4294967295; do
    refused '{INVALID}' 'cmdline_proc_show,0: the spans of its code' \
        kpt_a.ko {right} code={code.hex()} spans=$spans
done
""",
    )
    yield (
        "references are checked",
        f"""
load kpt_a.ko $kernel ref=msleep
unload kpt_a
load kpt_a.ko {right} ref=msleep ref_sympos=1
is /proc/cmdline kpt_a
unload kpt_a
refused '{INVALID}' 'reference to msleep,0 is 16 bytes off' kpt_a.ko {right} ref=msleep ref_off=16
refused '{INVALID}' 'reference to msleep,0 is -8 bytes off' kpt_a.ko {right} ref=msleep ref_off=-8
refused '{INVALID}' 'reference to no_such_symbol,0: no such symbol' kpt_a.ko {right} ref=no_such_symbol
""",
    )


def busy(functions: Functions) -> Commands:
    yield (
        "refused: a process sleeps in an old function, or in a part of it",
        f"""
sleep 1000 &
within 5 inside hrtimer_nanosleep $!
refused '{BUSY}' "task sleep (pid $!) is in do_nanosleep at do_nanosleep+" kpt_a.ko {
            functions.vmlinux("do_nanosleep")
        }
logged "stack of pid $!: hrtimer_nanosleep+"
refused '{BUSY}' "task sleep (pid $!) is in do_nanosleep at" kpt_b.ko {
            functions.vmlinux("cmdline_proc_show")
        } \
    part=do_nanosleep part_addr={functions.symbols.one("do_nanosleep")[0]:#x} \
    part_size={functions.symbols.one("do_nanosleep")[1]}
kill $!
grep -q BOOT_IMAGE /proc/cmdline || grep -q console= /proc/cmdline || fail 'not the old function'
""",
    )
    yield (
        "refused: idle tasks are always in this one",
        f"refused '{BUSY}' 'task swapper/' kpt_a.ko {functions.vmlinux('do_idle')}",
    )
    yield (
        "applied as soon as the task leaves",
        f"""
load kpt_victim.ko
echo sleep >/proc/kpt-victim 2>/dev/null &
within 5 inside victim_sleep $!
(sleep 0.4; kill $!) &
load kpt_a.ko {functions.victim("victim_sleep")}
unload kpt_a
unload kpt_victim
""",
    )
    yield (
        "force_unsafe",
        f"""
load kpt_victim.ko
echo thread >/proc/kpt-victim || fail
refused '{BUSY}' 'task kpt-loop (pid' kpt_a.ko {functions.victim("victim_loop")}
load kpt_a.ko {functions.victim("victim_loop")} force=1
is $patches/kpt_a/forced 1
is $patches/kpt_a/objects/kpt_victim/victim_loop,1/forced 1
! rmmod kpt_a 2>/dev/null || fail 'a forced patch was unloaded'
is $patches/kpt_a/enabled 1
echo 0 >$patches/kpt_a/enabled || fail
unload kpt_a
unload kpt_victim
""",
    )
    yield (
        "undo is refused while a process is in the new function, rmmod waits",
        f"""
load kpt_victim.ko
load kpt_a.ko {functions.victim("victim_sleep")}
echo sleep >/proc/kpt-victim 2>/dev/null &
sleeper=$!
within 5 inside new_sleep $sleeper
! echo 0 2>/dev/null >$patches/kpt_a/enabled || fail 'undone while in use'
is $patches/kpt_a/enabled 1
logged "kpt_a: refused: task sh (pid $sleeper) is in a patch module at new_sleep+"
rmmod kpt_a &
sleep 2.5
grep -q '^kpt_a' /proc/modules || fail 'unloaded while in use'
kill -0 $! || fail 'rmmod did not wait'
sleep 10
logged 'its module cannot go while its code is in use'
[ $(dmesg | grep -c 'trying again') -le 5 ] || fail 'the log is flooded'
! echo 1 2>/dev/null >$patches/kpt_a/enabled || fail 'applied while leaving'
kill $sleeper
wait $! || fail 'rmmod failed'
grep -q '^kpt_a' /proc/modules && fail 'still loaded'
unload kpt_victim
""",
    )


def relocations(functions: Functions) -> Commands:
    address, size = functions.symbols.one("cmdline_proc_show")
    relocs = f"kpt_relocs.ko addr={address:#x} size={size} low=runqueues $kernel"
    yield (
        "relocations of every type",
        f"""
load {relocs}
cat /proc/cmdline >/tmp/places
add() {{ printf '%016x' $((0x$(address_of $1) + $2)); }}
cat >/tmp/expected <<END
64 $(add saved_command_line 0)
pc64 $(add saved_command_line 8)
pc32 $(add cmdline_proc_show 0)
plt32 $(add nr_processes 0)
32s $(add saved_command_line 1)
32 $(add runqueues 0)
processes 1
END
cmp /tmp/places /tmp/expected || {{ cat /tmp/places /tmp/expected; fail; }}
unload kpt_relocs
""",
    )
    yield (
        "refused: relocations that do not fit",
        f"""
for type in 32 32s pc32; do
    refused 'Value too large' 'overflow' {relocs} wrong=overflow$type
done
refused 'format' 'saved_command_line,0: unknown type 9' {relocs} wrong=type
refused '{INVALID}' 'vmlinux:no_such_symbol,0: no such symbol' {relocs} wrong=symbol
refused '{INVALID}' 'vmlinux:(null),0: no such symbol' {relocs} wrong=name
refused '{INVALID}' 'object vmlinux has a number of entries without a table' {relocs} wrong=table
refused 'File exists' 'saved_command_line,0: full+0x0/' {relocs} wrong=full
refused 'Bad address' 'saved_command_line,0: its place is outside the patch module' {relocs} wrong=outside
refused '{NOT_SUPPORTED}' 'saved_command_line: module kpt_victim is neither the object' {relocs} wrong=module
""",
    )


def other_users(functions: Functions) -> Commands:
    cmdline = functions.vmlinux("cmdline_proc_show")
    yield (
        "refused: a kernel livepatch has the function, and the other way round",
        f"""
load kpt_livepatch.ko
is /proc/cmdline livepatch
refused '{BUSY}' 'cmdline_proc_show,0: ftrace refuses to redirect it: klp_ftrace_handler' kpt_a.ko {cmdline}
is /proc/cmdline livepatch
echo 0 >/sys/kernel/livepatch/kpt_livepatch/enabled
within 60 gone /sys/kernel/livepatch/kpt_livepatch
within 60 rmmod kpt_livepatch
load kpt_a.ko {cmdline}
! insmod kpt_livepatch.ko 2>/dev/null || fail 'two users of one function'
is /proc/cmdline kpt_a
unload kpt_a
""",
    )
    yield (
        "tracers and kprobes at the same time, before and after",
        f"""
mount -t tracefs tracefs /sys/kernel/tracing
cd /sys/kernel/tracing
echo 'cmdline_proc_show seq_puts' >set_ftrace_filter
echo function >current_tracer
cat /proc/cmdline >/tmp/old
cd /modules
load kpt_a.ko {cmdline}
is /proc/cmdline kpt_a
cd /sys/kernel/tracing
grep -q cmdline_proc_show trace || fail 'not traced'
echo nop >current_tracer
is /proc/cmdline kpt_a
echo function >current_tracer
is /proc/cmdline kpt_a
echo function_graph >current_tracer
is /proc/cmdline kpt_a
echo nop >current_tracer
echo 'p:entry cmdline_proc_show' >kprobe_events
echo 'r:exit cmdline_proc_show' >>kprobe_events
echo 1 >events/kprobes/enable
is /proc/cmdline kpt_a
grep -q 'entry: (cmdline_proc_show' trace || fail 'the kprobe was not hit'
cd /modules
unload kpt_a
cmp /proc/cmdline /tmp/old || fail 'not undone'
load kpt_a.ko {cmdline}
is /proc/cmdline kpt_a
unload kpt_a
cd /sys/kernel/tracing
echo 0 >events/kprobes/enable
echo >kprobe_events
echo nop >current_tracer
cd /modules
echo kpatch_unregister >/sys/kernel/tracing/set_ftrace_filter
load kpt_a.ko {cmdline}
echo function_graph >/sys/kernel/tracing/current_tracer
unload kpt_a
echo nop >/sys/kernel/tracing/current_tracer
echo 'r:init do_init_module' >/sys/kernel/tracing/kprobe_events
echo 'r:leave kpatch_unregister' >>/sys/kernel/tracing/kprobe_events
echo 1 >/sys/kernel/tracing/events/kprobes/enable
load kpt_a.ko {cmdline}
unload kpt_a
echo 0 >/sys/kernel/tracing/events/kprobes/enable
echo >/sys/kernel/tracing/kprobe_events
echo >/sys/kernel/tracing/set_ftrace_filter
umount /sys/kernel/tracing
""",
    )
    yield (
        "ftrace cannot be switched off under a patch, nor a patch be applied without it",
        f"""
load kpt_a.ko {cmdline}
! echo 0 2>/dev/null >/proc/sys/kernel/ftrace_enabled || fail 'ftrace was switched off'
is /proc/cmdline kpt_a
unload kpt_a
echo 0 >/proc/sys/kernel/ftrace_enabled || fail
refused '{BUSY}' 'or ftrace is switched off' kpt_a.ko {cmdline}
echo 1 >/proc/sys/kernel/ftrace_enabled || fail
load kpt_a.ko {cmdline}
is /proc/cmdline kpt_a
unload kpt_a
""",
    )


def cpus_offline(functions: Functions) -> Commands:
    yield (
        "a CPU that is offline, and comes back",
        f"""
[ $(nproc) -gt 1 ] || exit 0
online=/sys/devices/system/cpu/cpu1/online
echo 0 >$online || fail
load kpt_a.ko {functions.vmlinux("cmdline_proc_show")}
is /proc/cmdline kpt_a
refused '{BUSY}' 'task swapper/' kpt_b.ko {functions.vmlinux("do_idle")}
echo 1 >$online || fail
is /proc/cmdline kpt_a
unload kpt_a
""",
    )


def load_core(functions: Functions) -> Commands:
    yield "load the core", "load kpatch.ko"


def unload_core(functions: Functions) -> Commands:
    yield (
        "nothing is left",
        """
is /sys/kernel/kpatch/last_stop_ns $(cat /sys/kernel/kpatch/last_stop_ns)
[ -z "$(ls $patches)" ] || fail "$(ls $patches)"
unload kpatch
gone /sys/kernel/kpatch || fail 'still in sysfs'
load kpatch.ko
unload kpatch
""",
    )


def leftovers(functions: Functions) -> Commands:
    yield (
        "the core has no memory left but its own",
        """
grep -q slub_debug /proc/cmdline || exit 0
mount -t debugfs debugfs /sys/kernel/debug
for cache in /sys/kernel/debug/slab/*/alloc_traces; do
    # One paragraph for each place that allocates.
    awk -v RS= -v cache="$cache" '/\\[kp/ { print cache ": " $0 }' $cache
done >/tmp/traces
own='kpatch_symbols_init|kpatch_sysfs_init'
# The kernel's own, which it frees later: sysfs' nodes, as names are cached; space for trampolines.
own="$own|__kernfs_new_node|alloc_vmap_area"
grep -q -E "$own" /tmp/traces || fail 'the kernel does not tell who allocates'
awk -v RS='/sys/' -v own="$own" '$0 != "" && $0 !~ own { print; bad = 1 }
    END { exit bad }' /tmp/traces || fail 'leaks'
umount /sys/kernel/debug
""",
    )


ALL = (
    load_core,
    applying,
    stacking,
    replacing,
    deferring,
    callbacks,
    nmis,
    modules_and_positions,
    verification,
    busy,
    relocations,
    other_users,
    cpus_offline,
    leftovers,
    unload_core,
)


def passes(
    functions: Functions, parts: tuple[Part, ...], folder: Path, cpus: int, append: str = ""
) -> BootReport:
    """Boot, and fail with the report unless every step passed and the kernel has no complaint."""
    kernel = functions.kernel
    prelude = f"kernel='release={kernel.release} build_id={kernel.build_id}'\n. /guest.sh\n"
    steps = tuple(
        GuestStep(title, prelude + command, timeout=400)
        for part in parts
        for title, command in part(functions)
    )
    files = {"/guest.sh": HERE / "guest.sh", **functions.modules.files()}
    guest = Guest(steps, files, cpus=cpus, append=append, one_thread=True)
    report = boot(kernel.boot_image, guest, folder)
    assert report.outcome is Outcome.PASSED, render_report(report)
    assert not COMPLAINTS.search(report.console), report.console
    return report


@pytest.mark.parametrize(("cpus", "append"), [(1, "nokaslr"), (2, "slub_debug=FZPU"), (4, "")])
def test_every_feature(
    debian12: TargetKernel, modules: Modules, tmp_path: Path, cpus: int, append: str
) -> None:
    passes(Functions(debian12, modules), ALL, tmp_path, cpus, append)
