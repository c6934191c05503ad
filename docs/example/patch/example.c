// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A patch written by hand.  It hides what follows "secret=" in /proc/cmdline, and lets the greeter, a module that
 * may be loaded or not, count how often each greeting was read.
 */
#include <linux/elf.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "kpatch.h"

/* Made by describe.sh: ADDR_ and SIZE_ of each function, KERNEL_RELEASE, BUILD_ID. */
#include "kernel.h"
#include "greeter.h"

/* --- vmlinux: fs/proc/cmdline.c ------------------------------------------------------------------------- */

/* The kernel's variable saved_command_line, which is not exported: a relocation puts its address here. */
static char **command_line;

static char *shown;

static int cmdline_show(struct seq_file *m, void *v)
{
	seq_puts(m, shown);
	seq_putc(m, '\n');
	return 0;
}

static int hide_secret(const struct kpatch_object *object)
{
	char *secret;

	shown = kstrdup(*command_line, GFP_KERNEL);
	if (!shown)
		return -ENOMEM;
	secret = strstr(shown, "secret=");
	if (secret)
		for (secret += strlen("secret="); *secret && *secret != ' '; secret++)
			*secret = '*';
	return 0;
}

static void free_shown(const struct kpatch_object *object)
{
	kfree(shown);
}

static const struct kpatch_func vmlinux_funcs[] = {
	{
		.old_name = "cmdline_proc_show",
		.old_addr = ADDR_cmdline_proc_show,
		.old_size = SIZE_cmdline_proc_show,
		.new_func = cmdline_show,
	},
};

static const struct kpatch_dynrela vmlinux_dynrelas[] = {
	{
		.dest = &command_line,
		.type = R_X86_64_64,
		.name = "saved_command_line",
	},
};

/* --- the module greeter --------------------------------------------------------------------------------- */

/* As greeter.c has it. */
struct greeting {
	char name[16];
};

static struct mutex *greeter_lock;
static struct greeting **current_greeting;

/* Which shadow variable: a number that no other patch uses. */
#define TIMES_READ 0x67726565

static int counting_show(struct seq_file *m, void *v)
{
	unsigned int *times;

	mutex_lock(greeter_lock);
	if (*current_greeting) {
		times = kpatch_shadow_get_or_alloc(*current_greeting, TIMES_READ, sizeof(*times),
						   GFP_KERNEL, NULL, NULL);
		seq_printf(m, "hello %s", (*current_greeting)->name);
		if (times)
			seq_printf(m, ", for the %u. time", ++*times);
		seq_putc(m, '\n');
	}
	mutex_unlock(greeter_lock);
	return 0;
}

static void counting_free(struct greeting *greeting)
{
	kpatch_shadow_free(greeting, TIMES_READ, NULL);
	kfree(greeting);
}

static void free_counts(const struct kpatch_object *object)
{
	kpatch_shadow_free_all(TIMES_READ, NULL);
}

static const struct kpatch_func greeter_funcs[] = {
	{
		.old_name = "greeting_show",
		.old_size = SIZE_greeting_show,
		.new_func = counting_show,
	},
	{
		.old_name = "greeting_free",
		.old_size = SIZE_greeting_free,
		.new_func = counting_free,
	},
};

static const struct kpatch_dynrela greeter_dynrelas[] = {
	{
		.dest = &greeter_lock,
		.type = R_X86_64_64,
		.name = "lock",
		.objname = "greeter",
	},
	{
		.dest = &current_greeting,
		.type = R_X86_64_64,
		.name = "current_greeting",
		.objname = "greeter",
	},
};

/* --- the patch ------------------------------------------------------------------------------------------ */

static const struct kpatch_object objects[] = {
	{
		.funcs = vmlinux_funcs,
		.nr_funcs = ARRAY_SIZE(vmlinux_funcs),
		.dynrelas = vmlinux_dynrelas,
		.nr_dynrelas = ARRAY_SIZE(vmlinux_dynrelas),
		.callbacks = {
			.pre_patch = hide_secret,
			.post_unpatch = free_shown,
		},
	},
	{
		.name = "greeter",
		.funcs = greeter_funcs,
		.nr_funcs = ARRAY_SIZE(greeter_funcs),
		.dynrelas = greeter_dynrelas,
		.nr_dynrelas = ARRAY_SIZE(greeter_dynrelas),
		.callbacks = {
			.post_unpatch = free_counts,
		},
	},
};

static const u8 build_id[] = { BUILD_ID };

static struct kpatch_module patch = {
	.mod = THIS_MODULE,
	.name = "example",
	.release = KERNEL_RELEASE,
	.build_id = build_id,
	.build_id_size = sizeof(build_id),
	.objects = objects,
	.nr_objects = ARRAY_SIZE(objects),
};

static int __init example_init(void)
{
	return kpatch_register(&patch, false);
}

static void __exit example_exit(void)
{
	kpatch_unregister(&patch);
}

module_init(example_init);
module_exit(example_exit);
MODULE_DESCRIPTION("kpatch example: a patch written by hand");
MODULE_LICENSE("GPL");
