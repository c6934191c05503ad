# SPDX-License-Identifier: GPL-2.0-or-later
"""A line number in an instruction is no change.

Some functions of the kernel are told the line that calls them: `might_sleep()` is
`__might_sleep(__FILE__, __LINE__)`.  One line more at the top of a file, and every function behind it has
another constant in it.  Patched sources carry `#line` directives against that; this is the second line of
defence, for objects that were made without.

The difference must be exactly that constant.  Both instructions load one into the register of the argument
that takes the line, some way from there leads to the call, and on no way anything else reads this register.
Which argument it is, `TAKERS` says; whoever is not in it takes no line, and a constant is a change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from kbuild_py.delta.machine import Machine
from kbuild_py.delta.machine.kinds import Instruction

REACH = 64  # instructions that are followed from the constant to the call
MAX_LINE = 1 << 20
PRINTK = frozenset({"printk", "_printk", "__warn_printk"})
# What macros print with a line, behind printk()'s level: the format, which argument is the line.
FORMATS = (
    (re.compile(rb"BUG: failure at %s:%d/%s\(\)!\n\0"), 2),  # BUG() without a trap (asm-generic/bug.h)
    (re.compile(rb"RTNL: assertion failed at %s \(+%d\)+\n\0"), 2),  # ASSERT_RTNL() (linux/rtnetlink.h)
    (
        re.compile(rb"Assertion failure in %s\(\) at %s:%d: ['\"]?%s['\"]?\n\0"),
        3,
    ),  # J_ASSERT() (linux/jbd2.h)
)

# Function -> which argument is the line, counted from 0, and where it is declared.  Where kernels differ,
# each position that one of them has: in the others there is an address or nothing, never another number.
# Where it would be a number, the position is not here, and a line there counts as a change: until 4.7 that
# of __btrfs_abort_transaction() is where later the error stands.
TAKERS: Mapping[str, tuple[tuple[int, ...], str]] = {
    "__might_sleep": ((1,), "include/linux/kernel.h"),
    "___might_sleep": ((1,), "include/linux/kernel.h, until 5.15"),
    "__might_resched": ((1,), "include/linux/kernel.h, since 5.16"),
    "__might_fault": ((1,), "include/linux/kernel.h, include/linux/uaccess.h"),
    "__cant_sleep": ((1,), "include/linux/kernel.h"),
    "__cant_migrate": ((1,), "include/linux/kernel.h"),
    "warn_slowpath_null": ((1,), "include/asm-generic/bug.h, until 5.4"),
    "warn_slowpath_fmt": ((1,), "include/asm-generic/bug.h"),
    "warn_slowpath_fmt_taint": ((1,), "include/asm-generic/bug.h, until 5.4"),
    "__warn": ((1,), "include/asm-generic/bug.h"),
    "lockdep_rcu_suspicious": ((1,), "include/linux/lockdep.h"),
    "__btrfs_abort_transaction": ((2,), "fs/btrfs/transaction.h"),
    "__btrfs_handle_fs_error": ((2,), "fs/btrfs/messages.h"),
    "__btrfs_panic": ((2,), "fs/btrfs/messages.h"),
    "btrfs_assertfail": ((2,), "fs/btrfs/messages.h"),
    "__ext4_error": ((2,), "fs/ext4/ext4.h"),
    "__ext4_error_inode": ((2,), "fs/ext4/ext4.h"),
    "__ext4_error_file": ((2,), "fs/ext4/ext4.h"),
    "__ext4_std_error": ((2,), "fs/ext4/ext4.h"),
    "__ext4_abort": ((2,), "fs/ext4/ext4.h"),
    "__ext4_warning": ((2,), "fs/ext4/ext4.h"),
    "__ext4_warning_inode": ((2,), "fs/ext4/ext4.h"),
    "__ext4_grp_locked_error": ((1,), "fs/ext4/ext4.h"),
    "__ext4_journal_stop": ((1,), "fs/ext4/ext4_jbd2.h"),
    "__ext4_journal_get_write_access": ((1,), "fs/ext4/ext4_jbd2.h"),
    "__ext4_journal_get_create_access": ((1,), "fs/ext4/ext4_jbd2.h"),
    "__ext4_handle_dirty_metadata": ((1,), "fs/ext4/ext4_jbd2.h"),
    "__ext4_forget": ((1,), "fs/ext4/ext4_jbd2.h"),
    "__ext4_mark_inode_dirty": ((3,), "fs/ext4/ext4_jbd2.h"),
    "__jbd2_debug": ((3,), "include/linux/jbd2.h"),
    "__ext4_journal_start_sb": ((1,), "fs/ext4/ext4_jbd2.h, until 6.1; later a pointer"),
    "ext4_check_blockref": ((1,), "fs/ext4/ext4.h"),
    "__ext4_handle_dirty_super": ((1,), "fs/ext4/ext4_jbd2.h, until 5.10"),
    "__ext4_journal_start_reserved": ((1,), "fs/ext4/ext4_jbd2.h"),
    "__ext4_check_dir_entry": ((1,), "fs/ext4/ext4.h"),
    "__ext4_iget": ((4,), "fs/ext4/ext4.h, since 5.0"),
    "__ext4_read_dirblock": ((4,), "fs/ext4/namei.c"),
    "assfail": ((2, 3), "fs/xfs/xfs_linux.h; since 5.10 behind the mount"),
    "xfs_error_report": ((4,), "fs/xfs/xfs_error.h"),
    "xfs_corruption_error": ((5, 6), "fs/xfs/xfs_error.h; since 4.18 behind the buffer's size"),
    "gfs2_assert_warn_i": ((4,), "fs/gfs2/util.h"),
    "gfs2_assert_withdraw_i": ((4,), "fs/gfs2/util.h"),
    "gfs2_consist_i": ((3, 4), "fs/gfs2/util.h; until 5.5 with cluster_wide"),
    "gfs2_consist_inode_i": ((3, 4), "fs/gfs2/util.h; until 5.5 with cluster_wide"),
    "gfs2_consist_rgrpd_i": ((3, 4), "fs/gfs2/util.h; until 5.5 with cluster_wide"),
    "gfs2_io_error_i": ((3,), "fs/gfs2/util.h"),
    "gfs2_io_error_bh_i": ((4,), "fs/gfs2/util.h"),
    "gfs2_meta_check_ii": ((4, 5), "fs/gfs2/util.h; until 6.x with the type"),
    "acpi_error": ((1,), "include/acpi/acpixf.h"),
    "acpi_exception": ((1,), "include/acpi/acpixf.h"),
    "acpi_warning": ((1,), "include/acpi/acpixf.h"),
    "acpi_bios_error": ((1,), "include/acpi/acpixf.h"),
    "acpi_bios_exception": ((1,), "include/acpi/acpixf.h"),
    "acpi_bios_warning": ((1,), "include/acpi/acpixf.h"),
    "acpi_debug_print": ((1,), "include/acpi/acpixf.h"),
    "printk 2": ((2,), "FORMATS"),
    "printk 3": ((3,), "FORMATS"),
}

_CONSTANT = re.compile(r"^(?P<to>%?\w+), (?:(?P<source>%?\w+), )?[#$]?(?P<value>0x[0-9a-f]+|\d+)$")
_TARGET = re.compile(r"0x[0-9a-f]+$|\b\d$")


def line_in_format(text: bytes) -> int:
    """Which argument of printk() with this format is a line; 0 if none is."""
    plain = text[2:] if text[:1] == b"\1" else text
    return next((argument for format, argument in FORMATS if format.fullmatch(plain)), 0)


def line_numbers(
    machine: Machine, left: bytes, right: bytes, calls: Mapping[int, str]
) -> Iterator[tuple[int, int]]:
    """The stretches (start, end) of two functions' code that differ in a line number only.

    left, right: code of equal size, relocated fields empty
    calls:       place of a call's field -> the function that it reaches ("printk 2": argument 2 is a line)
    """
    ours, theirs = (list(machine.instructions(code, 0, len(code))) for code in (left, right))
    if [row[:2] for row in ours] != [row[:2] for row in theirs]:
        return
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        start, end = one[0], one[0] + one[1]
        if left[start:end] == right[start:end]:
            continue
        register = _loaded(machine, ours, index)
        if register is None or register != _loaded(machine, theirs, index) or one[2] != other[2]:
            continue
        if _takes_line(machine, ours, index, register, calls):
            yield start, end


def _loaded(machine: Machine, code: Sequence[Instruction], index: int) -> frozenset[str] | None:
    """The argument's register that instruction `index` loads with a constant; None when it does not."""
    _, _, mnemonic, operands = code[index]
    match = _CONSTANT.match(operands)
    if match is None or not 0 <= int(match["value"], 0) < MAX_LINE:
        return None
    register = next((names for names in machine.lines.arguments if match["to"] in names), None)
    if register is None:
        return None
    if match["source"] in (None, "zero"):
        return register if mnemonic in machine.lines.loads else None
    # The lower part of a constant whose upper part was loaded just before.
    if mnemonic not in machine.lines.continued or match["source"] != match["to"]:
        return None
    for before in range(index - 1, max(index - 4, -1), -1):
        if _mentions(register, code[before][3]):
            first = _CONSTANT.match(code[before][3])
            whole = first is not None and first["to"] == match["to"] and first["source"] in (None, "zero")
            return register if whole and code[before][2] in machine.lines.loads else None
    return None


def _takes_line(
    machine: Machine,
    code: Sequence[Instruction],
    index: int,
    register: frozenset[str],
    calls: Mapping[int, str],
) -> bool:
    """A call takes a line in this register, and on no other way anything looks at it.

    Compilers load the constant before they know whether the call will be made.
    """
    places = {row[0]: number for number, row in enumerate(code)}
    waiting, seen, found = [index + 1], {index}, False
    while waiting:
        number = waiting.pop()
        if number in seen:  # among these the load itself, which begins anew
            continue
        if number >= len(code) or len(seen) > REACH:
            return False
        seen.add(number)
        address, size, mnemonic, operands = code[number]
        callee = next((calls[place] for place in range(address, address + size) if place in calls), "")
        if callee in machine.lines.thunks:
            continue
        if callee:
            if not _is_taker(machine, callee, register):
                return False
            found = True
        elif machine.lines.flow(mnemonic):
            if machine.lines.returns(mnemonic, operands):
                continue
            target = _TARGET.search(operands)
            goal = places.get(int(target[0], 0)) if target is not None else None
            if goal is None or mnemonic in machine.lines.calls or _mentions(register, operands):
                return False
            waiting.append(goal)
            if mnemonic not in machine.lines.jumps:
                waiting.append(number + 1)
        elif not machine.lines.plain(mnemonic, operands):
            return False
        elif not _mentions(register, operands):
            waiting.append(number + 1)
        else:
            match = _CONSTANT.match(operands)
            if match is None or match["to"] not in register:
                return False
            whole = match["source"] in (None, "zero") and mnemonic in machine.lines.loads
            if not whole:  # and if it is, the register holds something else from here on
                if match["source"] != match["to"] or mnemonic not in machine.lines.continued:
                    return False
                waiting.append(number + 1)
    return found


def _is_taker(machine: Machine, callee: str, register: frozenset[str]) -> bool:
    positions, arguments = TAKERS.get(callee, ((), ""))[0], machine.lines.arguments
    return any(arguments[position] == register for position in positions if position < len(arguments))


def _mentions(register: frozenset[str], operands: str) -> bool:
    return any(word in register for word in re.findall(r"%?\w+", operands))
