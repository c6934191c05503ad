# SPDX-License-Identifier: GPL-2.0-or-later
"""The diff on files of the stock kernel, compiled with the kernel's own commands.

Every edit stays on its line, so that no other line number moves.  An edit's output is checked three ways:
by the independent checker, by the kernel's objtool (which must not say a word), and by what is expected of
it here: the functions, the new variables, and what stays in the kernel.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from kbuild_py.delta.diff import diff
from kbuild_py.delta.model import Delta
from kbuild_py.elf.object import ObjectFile
from kbuild_py.elf.read import read_object
from kbuild_py.elf.write import write_object
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.unit.command import CompileCommand, record
from kbuild_py.unit.compile import compile_unit, finished_object
from kbuild_py.unit.overlay import make_overlay
from tests.delta.checker import check, plain
from tests.delta.transform import renumbered, shuffled

pytestmark = pytest.mark.kernel

_SOURCES = (
    "fs/proc/meminfo.c fs/proc/base.c fs/exec.c fs/namei.c fs/inode.c fs/dcache.c fs/super.c fs/read_write.c "
    "fs/open.c fs/pipe.c fs/file.c fs/eventpoll.c fs/select.c fs/locks.c "
    "kernel/fork.c kernel/exit.c kernel/signal.c kernel/sys.c kernel/cpu.c kernel/kthread.c "
    "kernel/workqueue.c kernel/sched/core.c kernel/time/timer.c kernel/locking/mutex.c "
    "kernel/printk/printk.c kernel/rcu/tree.c kernel/bpf/verifier.c kernel/trace/trace.c "
    "mm/mmap.c mm/memory.c mm/page_alloc.c mm/slub.c mm/vmscan.c mm/filemap.c mm/oom_kill.c "
    "net/core/dev.c net/core/skbuff.c net/core/sock.c net/ipv4/tcp.c net/ipv4/udp.c net/socket.c "
    "net/netlink/af_netlink.c drivers/base/core.c drivers/tty/tty_io.c drivers/char/random.c "
    "lib/vsprintf.c security/security.c block/blk-core.c arch/x86/kernel/process.c arch/x86/kernel/traps.c"
)
SOURCES = _SOURCES.split()


@dataclass(frozen=True, slots=True)
class Edit:
    """In `source`, `old` becomes `new`; then these functions change, these are new, and these variables."""

    name: str
    source: str
    old: str
    new: str
    changed: frozenset[str]
    added: frozenset[str] = frozenset()
    data: frozenset[str] = frozenset()
    locals: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


EDITS = (
    Edit(
        "warn",
        "fs/proc/meminfo.c",
        "\tsi_meminfo(&i);",
        '\tstatic int calls; pr_info_once("x\\n"); WARN_ON_ONCE(calls++ > 100); BUG_ON(!m); si_meminfo(&i);',
        words("meminfo_proc_show"),
        words("meminfo_proc_show.cold"),
        words("calls __already_done"),
        tables=words("__bug_table .altinstructions .altinstr_replacement"),
    ),
    Edit(
        "dynamic-debug",
        "kernel/fork.c",
        "\tif ((clone_flags & CLONE_SIGHAND) && !(clone_flags & CLONE_VM))",
        '\tpr_debug("clone\\n"); if ((clone_flags & CLONE_SIGHAND) && !(clone_flags & CLONE_VM))',
        words("copy_process"),
        data=words("__UNIQUE_ID_ddebug __func__ __key"),
        tables=words("__dyndbg __jump_table .altinstructions"),
    ),
    Edit(
        "new-function",
        "net/core/dev.c",
        "void net_enable_timestamp(void)\n{",
        "static struct { int a; spinlock_t l; } seen; static noinline int saw(int x) { spin_lock(&seen.l); "
        "seen.a += x; spin_unlock(&seen.l); return seen.a; } void net_enable_timestamp(void)\n{ "
        'if (saw(3) == 2 && static_branch_unlikely(&netstamp_needed_key)) pr_err("x");',
        words("net_enable_timestamp"),
        words("saw.constprop net_enable_timestamp.cold"),
        words("seen"),
        words("netstamp_needed_deferred netstamp_wanted netstamp_work"),
        words("__jump_table"),
    ),
    Edit(
        "shared-section",
        "kernel/sched/core.c",
        "asmlinkage __visible void __sched schedule(void)\n{",
        'asmlinkage __visible void __sched schedule(void)\n{ static int n; if (n++ == 1234567) pr_info("x");',
        words("schedule"),
        data=words("n __already_done"),
        locals=words("__schedule"),
    ),
    Edit(
        "user-access",
        "fs/read_write.c",
        "\tif (unlikely((ssize_t) count < 0))",
        "\t{ unsigned int v; if (get_user(v, (unsigned int __user *)ppos)) return -EFAULT; "
        "if (v == 5) return -EIO; } if (unlikely((ssize_t) count < 0))",
        words("rw_verify_area kernel_read vfs_copy_file_range"),
    ),
    Edit(
        "alternatives",
        "arch/x86/kernel/process.c",
        "void flush_thread(void)\n{",
        "void flush_thread(void)\n{ if (static_cpu_has(X86_FEATURE_FSRM)) wrmsrl(0x10, 5); "
        'asm volatile(ALTERNATIVE("nop;nop;nop", "lfence", X86_FEATURE_LFENCE_RDTSC));',
        words("flush_thread do_arch_prctl_common __switch_to_xtra"),  # gcc inlines more in the others
        tables=words(".altinstructions .altinstr_replacement .altinstr_aux .parainstructions"),
    ),
    Edit(
        "trace-event",
        "mm/mmap.c",
        "\t/* Obtain the address to map to.",
        "\ttrace_vm_unmapped_area(addr, NULL); /* Obtain the address to map to.",
        words("do_mmap"),
        tables=words("__jump_table .discard.addressable"),
    ),
    Edit(
        "rcu-and-slab",
        "kernel/exit.c",
        "void __noreturn do_exit(long code)\n{",
        "void __noreturn do_exit(long code)\n{ void *p = kmalloc(40, GFP_KERNEL); kfree(p); rcu_read_lock(); "
        "if (rcu_dereference(current->real_parent) == current) BUG(); rcu_read_unlock();",
        words("do_exit do_exit.cold"),
        tables=words("__bug_table"),
    ),
    Edit(
        "per-cpu",
        "net/ipv4/tcp.c",
        "void tcp_init_sock(struct sock *sk)\n{",
        "static DEFINE_PER_CPU(int, count); static DEFINE_STATIC_KEY_FALSE(key); void tcp_init_sock(struct "
        "sock *sk)\n{ this_cpu_inc(count); this_cpu_inc(tcp_orphan_count); "
        'if (static_branch_unlikely(&key)) printk("k");',
        words("tcp_init_sock do_tcp_getsockopt do_tcp_getsockopt.cold"),  # gcc inlines more in the other
        words("tcp_init_sock.cold"),
        words("count key"),
        tables=words("__jump_table .data..percpu"),
    ),
    Edit(
        "read-mostly",
        "kernel/signal.c",
        "void ignore_signals(struct task_struct *t)\n{",
        "static int seen __read_mostly = 7; void ignore_signals(struct task_struct *t)\n{ "
        "if (print_fatal_signals) seen++;",
        words("ignore_signals"),
        data=words("seen"),
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module's objects go."""
    return tmp_path_factory.mktemp("delta")


@pytest.fixture(scope="module")
def commands(debian12: TargetKernel) -> dict[str, CompileCommand]:
    """How the kernel compiles each source."""
    found = record(debian12, sorted({*SOURCES, *(edit.source for edit in EDITS)}))
    assert all(isinstance(command, CompileCommand) for command in found.values())
    return {name: command for name, command in found.items() if isinstance(command, CompileCommand)}


def compiled(kernel: TargetKernel, command: CompileCommand, text: bytes | Path, folder: Path) -> Path:
    """The object of a source with this content."""
    files: dict[str, bytes | Path] = {name: Path(file) for name, file in command.generated}
    overlay = make_overlay(folder / "overlay", kernel.tree, {**files, command.source: text})
    return compile_unit(command, overlay, folder / "unit.o")


class Originals:
    """The kernel's own sources, compiled when they are asked for, each once."""

    def __init__(self, kernel: TargetKernel, commands: dict[str, CompileCommand], folder: Path) -> None:
        self.kernel, self.commands, self.folder = kernel, commands, folder
        self.known: dict[str, ObjectFile] = {}

    def __getitem__(self, source: str) -> ObjectFile:
        if source not in self.known:
            place = self.folder / source.replace("/", "_")
            path = compiled(self.kernel, self.commands[source], self.kernel.tree / source, place)
            self.known[source] = read_object(path)
        return self.known[source]


@pytest.fixture(scope="module")
def originals(debian12: TargetKernel, commands: dict[str, CompileCommand], folder: Path) -> Originals:
    """Source -> its object."""
    return Originals(debian12, commands, folder)


def test_a_file_with_itself_is_no_change(originals: Originals) -> None:
    assert len(SOURCES) >= 40
    with ThreadPoolExecutor(2) as pool:
        objects = dict(zip(SOURCES, pool.map(originals.__getitem__, SOURCES), strict=True))
    for source, obj in objects.items():
        result = diff(obj, obj)
        assert isinstance(result, Delta), (source, result)
        assert not result.changed and not result.removed and not result.notes, source


@pytest.mark.parametrize("source", ["kernel/fork.c", "net/core/dev.c", "kernel/sched/core.c", "mm/slub.c"])
def test_numbers_and_order_mean_nothing(source: str, originals: Originals) -> None:
    obj = originals[source]
    for same in (renumbered(obj, 1), shuffled(obj, 2)):
        result = diff(obj, same)
        assert isinstance(result, Delta), result
        assert not result.changed, [function.why for function in result.functions]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: str(edit.name))
def test_edit(
    edit: Edit,
    debian12: TargetKernel,
    commands: dict[str, CompileCommand],
    originals: Originals,
    tmp_path: Path,
) -> None:
    text = (debian12.tree / edit.source).read_text()
    assert text.count(edit.old) >= 1
    patched = compiled(
        debian12, commands[edit.source], text.replace(edit.old, edit.new, 1).encode(), tmp_path
    )
    result = diff(originals[edit.source], read_object(patched))
    assert isinstance(result, Delta), result
    assert result.object is not None
    by_status: dict[str, set[str]] = {"changed": set(), "new": set()}
    for function in result.functions:
        by_status[function.status.value].add(plain(function.name))
    assert by_status == {"changed": set(edit.changed), "new": set(edit.added)}
    data = {plain(item.name).rstrip("0123456789") for item in result.data}
    assert data >= edit.data and not {name for name in data - edit.data if not name.startswith("__")}
    assert {plain(name) for name in result.locals} >= edit.locals
    assert {section.name for section in result.object.sections} >= edit.tables
    output = tmp_path / "output.o"
    output.write_bytes(write_object(result.object))
    check(patched, output, result.to_json(), branches=edit.name == "shared-section")
    finished_object(debian12, output, tmp_path / "finished.o")
    said = (tmp_path / "finished.objtool.log").read_text()
    assert "warning" not in said and "error" not in said, said


def test_large_pairs_take_less_than_a_second(originals: Originals) -> None:
    largest = max((originals[source] for source in SOURCES), key=lambda obj: len(obj.symbols))
    started = time.process_time()
    diff(largest, largest)
    assert time.process_time() - started < 1
