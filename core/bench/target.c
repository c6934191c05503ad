// SPDX-License-Identifier: GPL-2.0-or-later
/* A module with functions to be patched.  Whoever reads /proc/kpatch-bench calls all of them, a hundred times. */
#include <linux/module.h>
#include <linux/proc_fs.h>

#include "functions.h"

static int zero, total;

/* All of the same size, as their patches' descriptions rely on, but not the same, or they would be merged. */
#define FUNCTION(n)				\
	static noinline int kpb_##n(void)	\
	{					\
		return READ_ONCE(zero) + 1##n;	\
	}
EACH(FUNCTION)

static ssize_t call_all(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	int i, sum = 0;

#define CALL(n) sum += kpb_##n();
	for (i = 0; i < 100; i++) {
		EACH(CALL)
	}
	WRITE_ONCE(total, sum);
	return clear_user(buf, size) ? -EFAULT : size;
}

static const struct proc_ops ops = { .proc_read = call_all };

static int __init target_init(void)
{
	return proc_create("kpatch-bench", 0400, NULL, &ops) ? 0 : -ENOMEM;
}

static void __exit target_exit(void)
{
	remove_proc_entry("kpatch-bench", NULL);
}

module_init(target_init);
module_exit(target_exit);
MODULE_DESCRIPTION("kpatch bench: functions to be patched");
MODULE_LICENSE("GPL");
