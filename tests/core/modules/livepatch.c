// SPDX-License-Identifier: GPL-2.0-or-later
/* A patch by the kernel's own livepatch, as another user who redirects cmdline_proc_show. */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int new_cmdline(struct seq_file *m, void *v)
{
	seq_puts(m, "livepatch\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = new_cmdline },
	{ }
};

static struct klp_object objects[] = { { .funcs = funcs }, { } };
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init livepatch_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit livepatch_exit(void)
{
}

module_init(livepatch_init);
module_exit(livepatch_exit);
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("kpatch tests: a kernel livepatch");
MODULE_LICENSE("GPL");
