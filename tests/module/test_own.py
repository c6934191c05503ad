# SPDX-License-Identifier: GPL-2.0-or-later
"""A manifest's own C sources: what the compiler says of them, and what becomes of hooks in a module."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.elf.object import SHN_UNDEF
from kbuild_py.elf.read import read_object
from kbuild_py.errors import UserError
from kbuild_py.kernel.target import TargetKernel
from kbuild_py.manifest.load import load_manifest
from kbuild_py.manifest.model import Hook, HookKind
from kbuild_py.module.own import compile_source
from tests.manifest.project import make_project
from tests.projects import MEMINFO, TOP, Answer, Throwaway, edited, throw_away

pytestmark = pytest.mark.kernel

AT = "manifests/probe/hooks.c"
SHOW = "static int meminfo_proc_show(struct seq_file *m, void *v)\n{\n"


def compiled(
    kernel: TargetKernel, folder: Path, text: str, *hooks: tuple[HookKind, str], header: str = ""
) -> Path:
    """The object of a source with these hooks in its manifest."""
    manifest = load_manifest(make_project(folder))
    (vmlinux,) = manifest.objects
    named = tuple(Hook(kind, name, "m.yaml:9:9") for kind, name in hooks)
    manifest = replace(manifest, objects=(replace(vmlinux, hooks=named),))
    (manifest.folder / "hooks.c").write_text(text)
    (manifest.folder / "hooks.h").write_text(header)
    headers = (TOP / "core" / "kpatch.h", manifest.folder / "hooks.h")
    return compile_source(kernel, manifest, manifest.folder / "hooks.c", headers, folder / "out")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "void go(void) { }\n\nvoid prepare(void)\n{\n}\n",
            f"{AT}:3:6: conflicting types for 'prepare'; have 'void(void)'\n"
            "  hint: the pre_patch hook must be: int prepare(void), and not static",
        ),
        (
            "static int prepare(void) { return 0; }\n",
            f"{AT}:1:12: static declaration of 'prepare' follows non-static declaration\n"
            "  hint: the pre_patch hook must be: int prepare(void), and not static",
        ),
        (
            "int prepare(void *object) { return 0; }\nvoid go(int x) { }\n",
            f"{AT}:1:5: conflicting types for 'prepare'; have 'int(void *)'\n"
            "  hint: the pre_patch hook must be: int prepare(void), and not static\n"
            f"{AT}:2:6: conflicting types for 'go'; have 'void(int)'\n"
            "  hint: the load hook must be: void go(void), and not static",
        ),
        ("int x\n", f"{AT}:1:1: expected '=', ',', ';', 'asm' or '__attribute__' at end of input"),
        ("#include <linux/none.h>\n", f"{AT}:1:10: linux/none.h: No such file or directory"),
        ('#include "hooks.h"\n', "manifests/probe/hooks.h:2:2: #error this header is wrong"),
        ("void f(void) { g(); }\n", f"{AT}:1:16: implicit declaration of function 'g'"),
    ],
    ids=["type", "static", "parameters", "syntax", "include", "header", "undeclared"],
)
def test_errors_have_their_place_in_the_manifests_folder(
    debian12: TargetKernel, tmp_path: Path, text: str, says: str
) -> None:
    hooks = ((HookKind.PRE_PATCH, "prepare"), (HookKind.LOAD, "go"))
    with pytest.raises(UserError) as caught:
        compiled(debian12, tmp_path, text, *hooks, header="\n#error this header is wrong\n")
    assert str(caught.value).startswith(says)
    assert not (tmp_path / "out" / "hooks.o").exists()


def test_a_source_is_one_of_a_module(debian12: TargetKernel, tmp_path: Path) -> None:
    """Its names are its own (not the folder's), it knows all headers, ftrace sees it."""
    text = """\
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/module.h>
#include "kpatch.h"
#include "hooks.h"
#ifndef MODULE
#error
#endif
const char names[] = __FILE__ " " KBUILD_MODNAME " " VALUE;
struct kpatch_callbacks callbacks;
void go(void) { pr_info("%s\\n", names); }
"""
    made = compiled(debian12, tmp_path, text, (HookKind.LOAD, "go"), header='#define VALUE "value"\n')
    assert b"manifests/probe/hooks.c kpatch_probe value\0" in made.read_bytes()
    assert str(tmp_path).encode() not in made.read_bytes()
    sections = {section.name for section in read_object(made).sections if section.size}
    assert sections & {"__mcount_loc", "__patchable_function_entries"}


def test_a_header_that_is_not_listed_any_more(debian12: TargetKernel, tmp_path: Path) -> None:
    """What an earlier build had beside the source is not there."""
    made = compiled(debian12, tmp_path, '#include "hooks.h"\n')
    manifest = load_manifest(tmp_path / "manifests/probe/manifest.yaml")
    with pytest.raises(UserError, match=rf"{AT}:1:10: hooks\.h: No such file"):
        compile_source(debian12, manifest, manifest.folder / "hooks.c", (), made.parent)
    assert not made.exists()


# --- whole builds ---------------------------------------------------------------------------------------

# A function that the patch calls, which calls a new one of the patch, and a variable that is not exported.
SOURCE = """\
#include <linux/module.h>
#include <linux/printk.h>
extern unsigned long total_forks;
extern int from_the_patch(void);
static int level = 3;
module_param(level, int, 0444);
int from_the_source(int x) { return from_the_patch() + x; }
void go(void) { pr_info("total_forks %lu %s\\n", total_forks, THIS_MODULE->name); }
"""
ADDED = """\
int from_the_source(int x);
int from_the_patch(void);
extern void *kpatch_shadow_get(void *object, unsigned long id);
noinline int from_the_patch(void) { return current->pid + !kpatch_shadow_get(current, 7); }
static __used int prepare(void) { return from_the_source(-1) > 0 ? 0 : -1; }
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, debian12: TargetKernel) -> Throwaway:
    return throw_away(tmp_path_factory.mktemp("own") / "project", [])


def patch(kernel: TargetKernel, added: str = ADDED) -> str:
    return edited(kernel.tree, MEMINFO, SHOW, f"{added}{SHOW}")


def titles(answer: Answer) -> list[str]:
    return [title.split(": ", 1)[1] for title in answer.ran]


def test_hooks_and_patch_call_each_other(project: Throwaway, debian12: TargetKernel) -> None:
    """Only new functions, and every place that a hook may be in; what changes rebuilds what it must."""
    added = (
        "extern unsigned long total_forks;\nstatic void marked(void) { total_forks++; }\n"
        'static void (*marker)(void) __used __section(".kpatch.hooks.load") = marked;\n'
    )
    hooks = "{pre_patch: prepare, post_patch: go}"
    sources = {"own.c": SOURCE}
    project.add("both", patch(debian12, ADDED + added), functions="[]", hooks=hooks, sources=sources)
    said = project.built("build:both").stderr
    assert "both.ko: pre_patch runs prepare; load runs marked; post_patch runs go" in said
    obj = read_object(project.module("both"))
    undefined = {symbol.name for symbol in obj.symbols if symbol.section == SHN_UNDEF}
    assert {"kpatch_register", "kpatch_shadow_get", "_printk"} <= undefined
    assert not undefined & {"total_forks", "go", "prepare", "marked", "from_the_source", "from_the_patch"}
    before = project.module("both").read_bytes()

    source = project.root / "manifests" / "both" / "own.c"
    source.write_text(SOURCE.replace("total_forks %lu", "forks %lu"))
    assert titles(project.built("build:both")) == [
        "compile own.c",
        "build the patch module",
        "write the build's record",
    ]
    assert project.module("both").read_bytes() != before
    source.write_text(SOURCE)
    project.built("build:both")
    assert project.module("both").read_bytes() == before
    # A line more above changes where hooks stand, and nothing that is compiled.
    path = project.manifest("both")
    path.write_text(path.read_text().replace("objects:", "# hooks and no functions\nobjects:"))
    assert titles(project.built("build:both")) == [
        "compare what changed with what is declared",
        "write the build's record",
    ]


def test_another_folder_gives_the_same_module(
    project: Throwaway, debian12: TargetKernel, tmp_path: Path
) -> None:
    other = throw_away(tmp_path / "deeper" / "project", [], source=project.root)
    more = "int to_the_patch(void);\nint to_the_patch(void) { return __LINE__ + sizeof(__FILE__); }\n"
    sources = {"own-1.c": SOURCE.replace("from_the", "to_the"), "more.c": more}
    for one in (project, other):
        one.add("same", "", functions="[]", hooks="{load: go}", sources=sources)
        one.built("build:same")
    assert other.module("same").read_bytes() == project.module("same").read_bytes()


def test_a_hook_in_the_patch_has_its_prototype(project: Throwaway, debian12: TargetKernel) -> None:
    """The compiler compares it with the one that it is called with; names that are not added do not count."""
    added = "static __used void prepare(void) { }\nint go(int x);\nint go(int x) { return x; }\n"
    hooks = "{pre_patch: prepare, load: go, unload: show_val_kb}"
    project.add("wrong", patch(debian12, added), functions="[]", hooks=hooks)
    answer = project.doit("build:wrong")
    assert answer.status == 1
    place = "manifests/wrong/manifest.yaml:9"
    assert (
        f"{place}:24: {MEMINFO} defines the pre_patch hook otherwise: conflicting types for 'prepare'; "
        "have 'int(void)'\n  hint: write it as: int prepare(void)\n"
        f"{place}:39: {MEMINFO} defines the load hook otherwise: conflicting types for 'go'; "
        "have 'void(void)'\n  hint: write it as: void go(void)\n"
    ) in answer.stdout + answer.stderr


def test_what_the_kernel_has_is_not_defined_again(project: Throwaway) -> None:
    text = "void si_meminfo(void *x);\nvoid si_meminfo(void *x) { }\nvoid go(void) { }\n"
    project.add("again", "", functions="[]", hooks="{load: go}", sources={"own.c": text})
    answer = project.doit("build:again")
    assert answer.status == 1
    assert (
        "manifests/again/own.c: defines 'si_meminfo', and the kernel has a global symbol of that name"
        in answer.stdout + answer.stderr
    )


# --- in the booted kernel -------------------------------------------------------------------------------

# Each says its name, for the last one to print: nothing prints within the stop.
NAMES = """\
#include <linux/errno.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <linux/irqflags.h>
static char said[128];
static void say(const char *name)
{
	strlcat(said, name, sizeof(said));
	strlcat(said, irqs_disabled() ? "! " : " ", sizeof(said));
}
void from_the_patch(const char *name);
void from_the_patch(const char *name) { say(name); }
void load(void) { say("load"); }
void post_patch(void) { say("post_patch"); }
void pre_unpatch(void) { say("pre_unpatch"); }
void unload(void) { say("unload"); }
void post_unpatch(void) { pr_info("%spost_unpatch\\n", said); }
"""
# As kpatch's macro writes it, for a function of livepatch's type.
CALLBACK = """\
void from_the_patch(const char *name);
struct klp_object { const char *name; char rest[200]; };
static int prepare(struct klp_object *object)
{
	from_the_patch(object->name ? object->name : "vmlinux");
	return memchr_inv(object, 0, sizeof(*object)) ? -EINVAL : 0;
}
struct kpatch_pre_patch_callback { int (*callback)(struct klp_object *); char *name; };
static struct kpatch_pre_patch_callback kpatch_pre_patch_data __used
	__section(".kpatch.callbacks.pre_patch") = { .callback = prepare };
"""


@pytest.mark.boot
def test_every_hook_runs_in_its_order(project: Throwaway, debian12: TargetKernel) -> None:
    names = ("load", "post_patch", "pre_unpatch", "unload", "post_unpatch")
    checks = """\
checks:
  after_unload:
    - run: dmesg | grep -o 'vmlinux [a-z]*! .*'
      stdout: vmlinux load! post_patch pre_unpatch unload! post_unpatch
"""
    hooks = f"{{{', '.join(f'{name}: {name}' for name in names)}}}"
    sources = {"own.c": NAMES}
    project.add("order", patch(debian12, CALLBACK), checks, "[]", hooks, sources)
    project.built("verify:order")


@pytest.mark.boot
def test_a_hook_that_refuses(project: Throwaway) -> None:
    """Nothing has happened, no other hook runs, and the log says why."""
    text = "#include <linux/errno.h>\n#include <linux/printk.h>\nint check(void) { return -EUCLEAN; }\n"
    text += 'void tell(void) { pr_info("told\\n"); }\n'
    hooks = "{pre_patch: check, load: tell, post_patch: tell, post_unpatch: tell}"
    project.add("refuses", "", functions="[]", hooks=hooks, sources={"own.c": text})
    answer = project.doit("verify:refuses")
    said = answer.stdout + answer.stderr
    assert answer.status == 1
    assert "[FAILED] insmod kpatch-refuses.ko" in said
    console = (project.folder("refuses") / "06-vm" / "console.log").read_text()
    assert "vmlinux: pre_patch says -117" in console
    assert "told" not in console


@pytest.mark.boot
def test_the_examples(tmp_path: Path, debian12: TargetKernel) -> None:
    """Data that a hook sets, data that hooks convert within the stop, and a shadow variable."""
    examples = throw_away(tmp_path / "project", ["nr-open-min", "freeze-timeout", "mount-age"])
    examples.built("verify")
