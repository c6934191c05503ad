# SPDX-License-Identifier: GPL-2.0-or-later
"""The core module when something fails at any of its steps: everything is as before, and nothing is left.

kpt_fault.ko lets allocations fail, the first, the second and so on, in each step of the core, and module
loads too.  The boots have a kernel that checks its slabs (`slub_debug`): a use after free is reported, and at
the end the kernel tells who allocated what is still there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from tests.core.modules import Modules
from tests.core.test_boot import (
    Commands,
    Functions,
    leftovers,
    load_core,
    passes,
    unload_core,
)

pytestmark = [pytest.mark.kernel, pytest.mark.boot]

# each_failure COMMAND: run it until none of its allocations is made to fail any more, once with one failure
# and once with all allocations failing from that on.  `failed` or `succeeded` is called after each run.
EACH_FAILURE = """
fault=/sys/module/kpt_fault/parameters
each_failure() {
    for on in $modes; do
        echo $on >$fault/on
        number=0 failures=0 stride=1
        [ $on = 1 ] && stride=$on_stride
        while :; do
            number=$((number + stride))
            echo $number >$fault/fail
            if eval "$1" 2>/tmp/error; then
                result=succeeded
            else
                result=failed
                failures=$((failures + 1))
                grep -q 'Cannot allocate memory' /tmp/error || fail "$number: $(cat /tmp/error)"
            fi
            seen=$(cat $fault/seen)
            echo 0 >$fault/fail
            $result
            [ $result = succeeded ] && [ $seen -lt $number ] && break
            dmesg -c >/dev/null
        done
        echo "on=$on: $failures of $number attempts failed"
        [ $failures -ge $at_least ] || fail "only $failures failures"
    done
}
modes='0 1' on_stride=5
"""


def allocations(functions: Functions) -> Commands:
    cmdline = functions.vmlinux("cmdline_proc_show")
    value = functions.victim("victim_value")
    both = f"{value} func2=victim_loop size2={functions.modules.sizes('kpt_victim', 'victim_loop')[0]}"
    yield (
        "no memory at any step of registering a patch that replaces others",
        f"""
{EACH_FAILURE}
old=$(cat /proc/cmdline)
load kpt_victim.ko
load kpt_fault.ko in=kpatch_register
others() {{
    load kpt_b.ko {cmdline}
    load kpt_c.ko {value}
    load kpt_d.ko $kernel ref=msleep
}}
failed() {{
    gone $patches/kpt_a || fail "$number: still in sysfs"
    # What the failure has left behind would come out at the next switch.
    echo 0 >$patches/kpt_d/enabled || fail
    echo 1 >$patches/kpt_d/enabled || fail
    is /proc/cmdline kpt_b
    is /proc/kpt-victim 'value 2 dup 10 11'
    is $patches/kpt_c/state applied
    is /sys/module/kpatch/refcnt 3
    is /sys/module/kpt_victim/refcnt 0
}}
succeeded() {{
    is /proc/cmdline "$old"
    is /proc/kpt-victim 'value 2 dup 10 11'
    unload kpt_a
    is /proc/kpt-victim 'value 1 dup 10 11'
    unload kpt_b
    unload kpt_c
    unload kpt_d
    is /sys/module/kpatch/refcnt 0
    others
}}
others
at_least=10
each_failure 'insmod kpt_a.ko {both} vmlinux_too=1 replace=1 callbacks=1'
unload kpt_b
unload kpt_c
unload kpt_d
unload kpt_fault
unload kpt_victim
""",
    )
    yield (
        "no memory at any step of applying and undoing by sysfs",
        f"""
{EACH_FAILURE}
old=$(cat /proc/cmdline)
load kpt_fault.ko in=kpatch_enable
load kpt_a.ko {cmdline} force=1
load kpt_b.ko {cmdline}
echo 0 >$patches/kpt_a/enabled || fail
failed() {{
    is /proc/cmdline kpt_b
    is $patches/kpt_a/state disabled
    is /sys/module/kpt_a/refcnt 0
}}
succeeded() {{
    is /proc/cmdline kpt_a
    echo 0 >$patches/kpt_a/enabled || fail
    is /proc/cmdline kpt_b
}}
on_stride=1
at_least=1
each_failure 'echo 1 >$patches/kpt_a/enabled'
unload kpt_fault
load kpt_fault.ko in=kpatch_disable
failed() {{
    is /proc/cmdline kpt_b
    is $patches/kpt_b/state applied
}}
succeeded() {{
    is /proc/cmdline "$old"
    echo 1 >$patches/kpt_b/enabled || fail
}}
modes=0
each_failure 'echo 0 >$patches/kpt_b/enabled'
# rmmod goes on trying.
echo 0 >$fault/on
echo 1 >$fault/fail
(sleep 0.8; echo 0 >$fault/fail) &
unload kpt_b
logged 'kpt_b: its module cannot go'
logged 'kpt_b: undone'
is /proc/cmdline "$old"
unload kpt_a
unload kpt_fault
""",
    )
    yield (
        "no memory at any step of patching a module that loads, nor when it goes",
        f"""
{EACH_FAILURE}
load kpt_fault.ko in=kpatch_object_coming
load kpt_a.ko {both} callbacks=1
failed() {{
    gone /proc/kpt-victim || fail
    ! grep -q '^kpt_victim' /proc/modules || fail 'still loaded'
    is $patches/kpt_a/objects/kpt_victim/patched 0
    gone $patches/kpt_a/objects/kpt_victim/victim_value,1 || fail 'still in sysfs'
}}
succeeded() {{
    is /proc/kpt-victim-init 2
    unload kpt_victim
}}
at_least=4
each_failure 'insmod kpt_victim.ko'
unload kpt_fault
load kpt_fault.ko in=kpatch_object_going on=1 fail=1
load kpt_b.ko {value}
for i in 1 2 3; do
    load kpt_victim.ko
    is /proc/kpt-victim-init 2
    unload kpt_victim
done
unload kpt_b
unload kpt_fault
unload kpt_a
""",
    )


def modules_that_fail(functions: Functions) -> Commands:
    value = functions.victim("victim_value")
    yield (
        "a module is refused by someone else",
        f"""
load kpt_a.ko {value} callbacks=1
# This one hears of modules after the core, and that one before it.
for early in 0 1; do
    load kpt_fault.ko refuse=kpt_victim early=$early
    for i in 1 2 3; do
        ! insmod kpt_victim.ko 2>/tmp/error || fail 'loaded'
        grep -q 'Operation not permitted' /tmp/error || fail "$(cat /tmp/error)"
        is $patches/kpt_a/objects/kpt_victim/patched 0
        gone $patches/kpt_a/objects/kpt_victim/victim_value,1 || fail 'still in sysfs'
    done
    unload kpt_fault
    load kpt_victim.ko
    is /proc/kpt-victim-init 2
    unload kpt_victim
done
is /sys/module/kpt_a/refcnt 0
unload kpt_a
once='pre_patch(module) load(module) post_patch(module) '
once="${{once}}pre_unpatch(module) unload(module) post_unpatch(module) "
logged "kpt_a: calls: $once$once$once$once$once"
""",
    )
    yield (
        "a module that begins to load while a patch for it is registered",
        f"""
[ $(nproc) -gt 1 ] || exit 0
load kpt_fault.ko in=kpatch_verify_kernel hold=1000 slow=kpt_victim
insmod kpt_a.ko {value} callbacks=1 &
sleep 0.4
load kpt_victim.ko
wait $! || fail 'the patch was not loaded'
is /proc/kpt-victim-init 2
is /proc/kpt-victim 'value 2 dup 10 11'
unload kpt_victim
unload kpt_a
logged 'kpt_a: calls: pre_patch(module) load(module) post_patch(module) pre_unpatch(module) '
unload kpt_fault
""",
    )


@pytest.mark.parametrize("cpus", [2])
def test_failures(debian12: TargetKernel, modules: Modules, tmp_path: Path, cpus: int) -> None:
    parts = (load_core, allocations, modules_that_fail, leftovers, unload_core)
    passes(Functions(debian12, modules), parts, tmp_path, cpus, "slub_debug=FZPU")
