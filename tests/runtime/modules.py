# SPDX-License-Identifier: GPL-2.0-or-later
"""Patch modules for tests of runtime/kpatch: written by hand, of both kinds, and the victim of tests/core.

Each is a few lines of C with what the command looks for in .modinfo.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from kbuild_py import run
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.module.build import build_core, kbuild
from tests.core.modules import CORE, HERE, Symbols

LINE = """\
static noinline int new_cmdline(struct seq_file *m, void *v)
{
	seq_puts(m, NAME "\\n");
	return 0;
}
"""
SLEEP = """\
static noinline int new_sleep(void)
{
	msleep(1);
	return -EINTR;
}
"""
COMMON = """\
// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/delay.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include "kpatch.h"
#define NAME "{name}"
{code}
static bool replace;
module_param(replace, bool, 0);
"""
KPATCH = """
static int pre_patch(const struct kpatch_object *object)
{{
	if ({crash})
		panic("the patch of the test");
	return 0;
}}
static const struct kpatch_func funcs[] = {{ {{ .old_name = "{function}", .old_addr = {address:#x},
	.old_size = {size}, .new_func = {new} }} }};
static const struct kpatch_object objects[] = {{ {{ .name = {object}, .funcs = funcs, .nr_funcs = 1,
	.callbacks = {{ .pre_patch = pre_patch }} }} }};
static const u8 build_id[] = {{ {bytes} }};
static struct kpatch_module patch = {{ .mod = THIS_MODULE, .name = NAME, .release = "{release}",
	.build_id = build_id, .build_id_size = sizeof(build_id), .objects = objects, .nr_objects = 1 }};
static int __init patch_init(void) {{ return kpatch_register(&patch, replace); }}
static void __exit patch_exit(void) {{ kpatch_unregister(&patch); barrier(); }}
"""
LIVEPATCH = """
static struct klp_func funcs[] = {{ {{ .old_name = "{function}", .new_func = {new} }}, {{ }} }};
static struct klp_object objects[] = {{ {{ .name = {object}, .funcs = funcs }}, {{ }} }};
static struct klp_patch patch = {{ .mod = THIS_MODULE, .objs = objects }};
static int __init patch_init(void) {{ patch.replace = replace; return klp_enable_patch(&patch); }}
static void __exit patch_exit(void) {{ }}
MODULE_INFO(livepatch, "Y");
"""
END = """
module_init(patch_init);
module_exit(patch_exit);
MODULE_INFO(kpatch, NAME);
MODULE_INFO(kpatch_release, "{said_release}");
MODULE_INFO(kpatch_build_id, "{said_build_id}");
MODULE_DESCRIPTION("a patch of the tests");
MODULE_LICENSE("GPL");
"""


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch module: it changes cmdline_proc_show, or the victim's victim_sleep.

    crash: its pre_patch callback panics; release, build_id: what it says it is for ("": the truth)
    """

    name: str
    backend: str = "kpatch"
    victim: bool = False
    crash: bool = False
    release: str = ""
    build_id: str = ""


PATCHES = (
    Patch("alpha"),
    Patch("beta"),
    Patch("gamma"),
    Patch("crash", crash=True),
    Patch("other", release="6.1.0-1-amd64"),
    Patch("rebuilt", build_id="00" * 20),
    Patch("sleeper", victim=True),
    Patch("one", "livepatch"),
    Patch("two", "livepatch"),
    Patch("alien", "livepatch", build_id="00" * 20),
    Patch("slow", "livepatch", victim=True),
)


def build(kernel: TargetKernel, folder: Path) -> Path:
    """Build the core, the victim and all of `PATCHES`; returns the folder that has all their .ko files."""
    build_core(kernel, CORE, folder / "core")
    home = folder / "modules"
    home.mkdir()
    for name in ("victim.c", "victim_other.c"):
        shutil.copy(HERE / "modules" / name, home)
    shutil.copy(CORE / "kpatch.h", home)
    rules = ["obj-m := kpt_victim.o", "kpt_victim-y := victim.o victim_other.o"]
    rules += [f"obj-m += {patch.backend}-{patch.name}.o" for patch in PATCHES]
    (home / "Kbuild").write_text("\n".join((*rules, "ccflags-y := -g0 -I$(src)", "")))
    # The victim first: its function's size goes into the patches.
    address, size = Symbols(kernel).one("cmdline_proc_show")
    victim = folder / "victim"
    shutil.copytree(home, victim)
    (victim / "Kbuild").write_text("\n".join((*rules[:2], "ccflags-y := -g0 -I$(src)", "")))
    kbuild(kernel, victim)
    rows = [line.split() for line in run.run(["nm", "-S", victim / "kpt_victim.ko"]).stdout.splitlines()]
    (sleep_size,) = (int(row[1], 16) for row in rows if len(row) == 4 and row[3] == "victim_sleep")
    for patch in PATCHES:
        facts = {
            "name": patch.name,
            "crash": int(patch.crash),
            "function": "victim_sleep" if patch.victim else "cmdline_proc_show",
            "object": '"kpt_victim"' if patch.victim else "NULL",
            "address": 0 if patch.victim else address,
            "size": sleep_size if patch.victim else size,
            "new": "new_sleep" if patch.victim else "new_cmdline",
            "release": kernel.release,
            "bytes": ", ".join(f"0x{byte:02x}" for byte in bytes.fromhex(kernel.build_id)),
            "code": SLEEP if patch.victim else LINE,
            "said_release": patch.release or kernel.release,
            "said_build_id": patch.build_id or kernel.build_id,
        }
        body = KPATCH if patch.backend == "kpatch" else LIVEPATCH
        text = (COMMON + body + END).format(**facts)
        (home / f"{patch.backend}-{patch.name}.c").write_text(text)
    kbuild(kernel, home, extra_symbols=folder / "core" / "Module.symvers")
    shutil.copy(folder / "core" / "kpatch.ko", home)
    return home
