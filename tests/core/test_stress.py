# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches that come and go hundreds of times, with everything else that can go on at the same time.

All CPUs call the patched functions, modules with patched functions load and unload, tracers and kprobes on
them are switched on and off; patches are loaded and unloaded, stacked and removed in any order, superseded,
and applied and undone by sysfs.  What callers see must always be one of the versions that can be.  At the
end nothing may be left, and every line of the kernel's log must be one that was expected.

The kernel preempts tasks anywhere, also between ftrace and the function.  It records who allocates, so that
the numbers of objects are exact.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from kbuild_py.kernel.target import TargetKernel
from tests.core.modules import Modules
from tests.core.test_boot import Commands, Functions, leftovers, load_core, passes, unload_core

pytestmark = [pytest.mark.kernel, pytest.mark.boot]

LOADS = 8  # loads and unloads of a patch in one round

NAME = r"kpt_[abcd]"
EXPECTED = re.compile(
    "|".join(
        (
            rf"kpatch: {NAME}: (applied|undone): \d functions, \d+ tasks checked, stopped for \d+ ns",
            rf"kpatch: {NAME}: unregistered",
            rf"kpatch: {NAME}: superseded by {NAME}",
            rf"kpatch: {NAME}: (applied to|undone in) module kpt_victim",
            rf"{NAME}: calls:( (pre_|post_|)(un|)(patch|load)\((vmlinux|module)\))*",
            r"\w+: loading out-of-tree module taints kernel\.",
            r"\w+: module verification failed: signature and/or required key missing - tainting kernel",
            # Of the guest, not of the core.
            r"clocksource: .*|hrtimer: interrupt took \d+ ns|(random|sched|perf): .*",
            r"kbuild-py: step .*",
            r"ACPI: PM: Preparing to enter system sleep state S5|reboot: Power down",
        )
    )
)


def stress(functions: Functions, rounds: int) -> Commands:
    cmdline = functions.vmlinux("cmdline_proc_show")
    value = functions.victim("victim_value")
    yield (
        "again and again, with everything at once",
        f"""
mount -t tracefs tracefs /sys/kernel/tracing
tracing=/sys/kernel/tracing
old=$(cat /proc/cmdline)
load kpt_victim.ko
unload kpt_victim
slabs() {{
    for slab in /sys/kernel/slab/*/shrink; do
        echo 1 >$slab
    done 2>/dev/null
    awk '$1 ~ /^kmalloc|^kernfs/ {{ print $1, $2 }}' /proc/slabinfo
    echo vmalloc $(wc -l </proc/vmallocinfo)
    echo modules $(wc -l </proc/modules)
}}

caller() {{
    until [ -e /tmp/stop ]; do
        for call in 1 2 3 4 5 6 7 8 9 10; do
            read -r seen </proc/cmdline
            case $seen in "$old"|kpt_[abcd]) ;; *) echo "cmdline: $seen" >>/tmp/strange ;; esac
        done
        # Not always there: the module comes and goes.
        seen=$(cat /proc/kpt-victim 2>/dev/null)
        case $seen in
            ''|'value 1 dup 10 11'|'value 2 dup 10 11') ;;
            *) echo "victim: $seen" >>/tmp/strange ;;
        esac
        echo >>/tmp/calls
        # One thread of the host runs all CPUs of the guest: leave it time for the patches.
        sleep 0.1
    done
}}
module_user() {{
    until [ -e /tmp/stop ]; do
        insmod kpt_victim.ko || echo 'insmod kpt_victim' >>/tmp/strange
        case $(cat /proc/kpt-victim-init) in 1|2) ;; *) echo 'init' >>/tmp/strange ;; esac
        sleep 0.2
        rmmod kpt_victim || echo 'rmmod kpt_victim' >>/tmp/strange
        echo >>/tmp/modules
    done
}}
tracer() {{
    until [ -e /tmp/stop ]; do
        echo function >$tracing/current_tracer
        sleep 0.3
        echo function_graph >$tracing/current_tracer
        sleep 0.3
        echo 'p:entry cmdline_proc_show' >$tracing/kprobe_events
        echo 'r:exit cmdline_proc_show' >>$tracing/kprobe_events
        echo 1 >$tracing/events/kprobes/enable
        sleep 0.3
        echo 0 >$tracing/events/kprobes/enable
        echo >$tracing/kprobe_events
        echo nop >$tracing/current_tracer
        echo >>/tmp/traces
    done
}}
one_round() {{
    # Two patches of one function, one of a module; removed from below.
    load kpt_a.ko {cmdline} callbacks=1
    load kpt_d.ko {value} callbacks=1
    load kpt_b.ko {cmdline}
    is /proc/cmdline kpt_b
    unload kpt_a
    is /proc/cmdline kpt_b
    # All superseded; applied and undone by sysfs.
    load kpt_c.ko {value} replace=1 callbacks=1
    is /proc/cmdline "$old"
    is $patches/kpt_b/state superseded
    echo 0 >$patches/kpt_c/enabled || fail
    unload kpt_b
    unload kpt_d
    echo 1 >$patches/kpt_c/enabled || fail
    # One after the other.
    for patch in a b d a; do
        load kpt_$patch.ko {cmdline}
        is /proc/cmdline kpt_$patch
        unload kpt_$patch
        is /proc/cmdline "$old"
    done
    unload kpt_c
}}
everything() {{ # ROUNDS
    rm -f /tmp/stop
    echo cmdline_proc_show >$tracing/set_ftrace_filter
    for cpu in $(seq $(nproc)); do
        caller &
        renice -n 15 $! >/dev/null
    done
    module_user &
    renice -n 5 $! >/dev/null
    tracer &
    round=0
    while [ $round -lt $1 ]; do
        one_round
        round=$((round + 1))
        [ ! -e /tmp/strange ] || fail "$(cat /tmp/strange)"
    done
    echo >/tmp/stop
    wait
    [ ! -e /tmp/strange ] || fail "$(cat /tmp/strange)"
    echo >$tracing/set_ftrace_filter
}}
# What the kernel allocates when it does something for the first time is no leak.
everything 1
slabs >/tmp/before
everything {rounds}
slabs >/tmp/after
umount /sys/kernel/tracing
for what in calls modules traces; do
    echo $what $(wc -l </tmp/$what)
    [ $(wc -l </tmp/$what) -gt {rounds} ] || fail "only $(wc -l </tmp/$what) $what"
done
# Half an object for each patch that came and went would be a leak.
awk 'NR == FNR {{ was[$1] = $2; next }}
    $2 > was[$1] + {rounds * LOADS // 2} {{ print "more " $1 ": " was[$1] " before, " $2 " after"; bad = 1 }}
    END {{ exit bad }}' /tmp/before /tmp/after || fail 'leaks'
""",
    )


def unexpected(console: str) -> list[str]:
    """Lines of the kernel's log that nobody expects, from the first module on."""
    lines = [line.partition("] ")[2].strip() for line in console.splitlines() if line.startswith("[")]
    start = next(i for i, line in enumerate(lines) if "out-of-tree module" in line)
    return [line for line in lines[start:] if not EXPECTED.fullmatch(line)]


@pytest.mark.parametrize(("cpus", "rounds"), [(2, 19), (4, 19)])
def test_everything_at_once(
    debian12: TargetKernel,
    modules: Modules,
    tmp_path: Path,
    cpus: int,
    rounds: int,
) -> None:
    parts = (load_core, partial(stress, rounds=rounds), leftovers, unload_core)
    report = passes(Functions(debian12, modules), parts, tmp_path, cpus, "preempt=full slub_debug=U")
    assert not unexpected(report.console)
