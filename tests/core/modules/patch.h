/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A patch of one function, written by hand, whose description comes from module parameters: so one module
 * can be right or wrong in every way that a test wants.  patch_a.c and patch_b.c make two modules of it.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "kpatch.h"

static char *name = KBUILD_MODNAME;	module_param(name, charp, 0);
static char *object;			module_param(object, charp, 0);
static char *func;			module_param(func, charp, 0);
static ulong sympos;			module_param(sympos, ulong, 0);
static ulong addr;			module_param(addr, ulong, 0);
static ulong size;			module_param(size, ulong, 0);
static char *release;			module_param(release, charp, 0);
static char *build_id;			module_param(build_id, charp, 0);
static bool force;			module_param(force, bool, 0);
static bool replace;			module_param(replace, bool, 0);
static bool twice;			module_param(twice, bool, 0);
static bool outside;			module_param(outside, bool, 0);
static char *part;			module_param(part, charp, 0);
static ulong part_addr;			module_param(part_addr, ulong, 0);
static ulong part_size;			module_param(part_size, ulong, 0);
static char *code;			module_param(code, charp, 0);	/* of the part, if there is one */
static uint spans[4], nr_spans;		module_param_array(spans, uint, &nr_spans, 0);
static char *ref;			module_param(ref, charp, 0);
static ulong ref_sympos;		module_param(ref_sympos, ulong, 0);
static long ref_off;			module_param(ref_off, long, 0);
static char *func2;			module_param(func2, charp, 0);
static ulong size2;			module_param(size2, ulong, 0);
static bool vmlinux_too;		module_param(vmlinux_too, bool, 0);
static bool callbacks;			module_param(callbacks, bool, 0);
static int pre_patch_error;		module_param(pre_patch_error, int, 0);
static char seen[800];			module_param_string(seen, seen, sizeof(seen), 0400);

static int calls;

static noinline int new_value(void)
{
	return READ_ONCE(calls) * 0 + 2;
}

static noinline int new_dup(void)
{
	return READ_ONCE(calls) * 0 + 20;
}

static noinline int new_sleep(void)
{
	while (!signal_pending(current))
		schedule_timeout_interruptible(HZ / 20);
	return -EINTR;
}

static noinline int new_loop(void *unused)
{
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

static noinline int new_nmi(void)
{
	return READ_ONCE(calls) * 0 + 2;
}

static noinline int new_cmdline(struct seq_file *m, void *v)
{
	seq_puts(m, KBUILD_MODNAME "\n");
	return 0;
}

static noinline ssize_t new_state(void *unused, void *attr, char *buf)
{
	return sysfs_emit(buf, KBUILD_MODNAME "\n");
}

/* For functions whose patch is going to be refused. */
static noinline int new_nothing(void)
{
	return READ_ONCE(calls);
}

static const struct {
	const char *name;
	void *func;
} replacements[] = {
	{ "victim_value", new_value },
	{ "victim_dup", new_dup },
	{ "nmi_one", new_nmi },
	{ "nmi_two", new_nmi },
	{ "victim_sleep", new_sleep },
	{ "victim_loop", new_loop },
	{ "cmdline_proc_show", new_cmdline },
	{ "state_show", new_state },
};

/* Which callbacks were called, for which object, and whether the machine was stopped. */
static void saw(const char *what, const struct kpatch_object *desc, bool stopped)
{
	strlcat(seen, what, sizeof(seen));
	strlcat(seen, desc->name ? "(module) " : "(vmlinux) ", sizeof(seen));
	if (irqs_disabled() != stopped || (stopped && in_task() && !strcmp(current->comm, "insmod")))
		strlcat(seen, "WRONG CONTEXT ", sizeof(seen));
}

static int pre_patch(const struct kpatch_object *desc)
{
	saw("pre_patch", desc, false);
	msleep(1);
	return desc->name || !vmlinux_too ? pre_patch_error : 0;
}

static void load(const struct kpatch_object *desc) { saw("load", desc, true); }
static void post_patch(const struct kpatch_object *desc) { saw("post_patch", desc, false); }
static void pre_unpatch(const struct kpatch_object *desc) { saw("pre_unpatch", desc, false); }
static void unload(const struct kpatch_object *desc) { saw("unload", desc, true); }
static void post_unpatch(const struct kpatch_object *desc) { saw("post_unpatch", desc, false); }

/* Writing to the parameter `leave` unregisters the patch though its module is not going. */
static int leave(const char *value, const struct kernel_param *param);
static const struct kernel_param_ops leave_ops = { .set = leave };
module_param_cb(leave, &leave_ops, NULL, 0200);

static const struct kpatch_callbacks all_callbacks = {
	.pre_patch = pre_patch, .load = load, .post_patch = post_patch,
	.pre_unpatch = pre_unpatch, .unload = unload, .post_unpatch = post_unpatch,
};

static struct kpatch_part parts[1];
static struct kpatch_func funcs[2];
static struct kpatch_reference references[1];
static struct kpatch_object objects[2] = { { .funcs = funcs, .references = references } };
static u8 build_id_bytes[20];
static u8 code_bytes[1024];
static struct kpatch_span code_spans[2];
static struct kpatch_module patch = { .mod = THIS_MODULE, .objects = objects, .nr_objects = 1 };

static int leave(const char *value, const struct kernel_param *param)
{
	return *value ? kpatch_unregister(&patch) : 0;
}

static int __init patch_init(void)
{
	size_t i;
	int err;

	funcs[0] = (struct kpatch_func){
		.old_name = func, .old_sympos = sympos, .old_addr = addr, .old_size = size,
		.new_func = outside ? (void *)msleep : (void *)new_nothing, .force_unsafe = force,
	};
	for (i = 0; func && !outside && i < ARRAY_SIZE(replacements); i++)
		if (!strcmp(func, replacements[i].name))
			funcs[0].new_func = replacements[i].func;
	if (part) {
		parts[0] = (struct kpatch_part){ .name = part, .addr = part_addr, .size = part_size };
		funcs[0].old_parts = parts;
		funcs[0].nr_old_parts = 1;
	}
	if (code) {
		struct kpatch_code *described = part ? &parts[0].code : &funcs[0].old_code;

		if (strlen(code) / 2 > sizeof(code_bytes) || hex2bin(code_bytes, code, strlen(code) / 2))
			return -EINVAL;
		for (i = 0; i < nr_spans / 2; i++)
			code_spans[i] = (struct kpatch_span){ spans[2 * i], spans[2 * i + 1] };
		*described = (struct kpatch_code){ code_bytes, code_spans, nr_spans / 2 };
	}
	funcs[1] = funcs[0];
	if (func2) {
		funcs[1].old_name = func2;
		funcs[1].old_size = size2;
	}
	if (ref) {
		/* Exported, so that the address which an ordinary relocation gives is known. */
		references[0] = (struct kpatch_reference){
			.name = ref, .sympos = ref_sympos, .addr = (void *)msleep + ref_off,
		};
		objects[0].nr_references = 1;
	}
	objects[0].name = object;
	objects[0].nr_funcs = func ? 1 + (twice || func2) : 0;
	if (vmlinux_too) {
		/* In front of the module. */
		objects[1] = objects[0];
		objects[0] = (struct kpatch_object){ };
		patch.nr_objects = 2;
	}
	if (callbacks)
		objects[0].callbacks = objects[1].callbacks = all_callbacks;
	if (build_id) {
		patch.build_id_size = strlen(build_id) / 2;
		if (patch.build_id_size > sizeof(build_id_bytes) ||
		    hex2bin(build_id_bytes, build_id, patch.build_id_size))
			return -EINVAL;
		patch.build_id = build_id_bytes;
	}
	patch.name = name;
	patch.release = release;
	err = kpatch_register(&patch, replace);
	if (err && callbacks)
		pr_info("%s: calls: %s\n", name, seen);
	return err;
}

/* With something left to do, so that the call is no jump: its return address is in this module. */
static void __exit patch_exit(void)
{
	WARN_ON(kpatch_unregister(&patch));
	if (callbacks)
		pr_info("%s: calls: %s\n", name, seen);
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_DESCRIPTION("kpatch tests: a patch described by parameters");
MODULE_LICENSE("GPL");
