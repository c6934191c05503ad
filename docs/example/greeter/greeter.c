// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A module to be patched, in the part of a driver.  Who writes a name to /proc/greeter is greeted by it.
 */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

struct greeting {
	char name[16];
};

static DEFINE_MUTEX(lock);
static struct greeting *current_greeting;

static int greeting_show(struct seq_file *m, void *v)
{
	mutex_lock(&lock);
	if (current_greeting)
		seq_printf(m, "hello %s\n", current_greeting->name);
	mutex_unlock(&lock);
	return 0;
}

static noinline void greeting_free(struct greeting *greeting)
{
	kfree(greeting);
}

static ssize_t greeter_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	struct greeting *greeting;

	greeting = kzalloc(sizeof(*greeting), GFP_KERNEL);
	if (!greeting)
		return -ENOMEM;
	if (copy_from_user(greeting->name, buf, min(count, sizeof(greeting->name) - 1))) {
		greeting_free(greeting);
		return -EFAULT;
	}
	strreplace(greeting->name, '\n', '\0');

	mutex_lock(&lock);
	swap(greeting, current_greeting);
	mutex_unlock(&lock);
	greeting_free(greeting);
	return count;
}

static int greeter_open(struct inode *inode, struct file *file)
{
	return single_open(file, greeting_show, NULL);
}

static const struct proc_ops greeter_ops = {
	.proc_open = greeter_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
	.proc_write = greeter_write,
};

static int __init greeter_init(void)
{
	return proc_create("greeter", 0600, NULL, &greeter_ops) ? 0 : -ENOMEM;
}

static void __exit greeter_exit(void)
{
	remove_proc_entry("greeter", NULL);
	greeting_free(current_greeting);
}

module_init(greeter_init);
module_exit(greeter_exit);
MODULE_DESCRIPTION("kpatch example: a module to be patched");
MODULE_LICENSE("GPL");
