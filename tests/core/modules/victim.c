// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A module to be patched.  /proc/kpt-victim shows what its functions return; writing to it lets the writer
 * sleep inside a function ("sleep", until a signal) or starts a thread that never leaves one ("thread").
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

int victim_other_dup(void);

static struct task_struct *thread;
static int ticks;
static int init_value;
static bool fail;	module_param(fail, bool, 0);

static noinline int victim_value(void)
{
	return READ_ONCE(ticks) * 0 + 1;
}

/* There is another function of this name in victim_other.c. */
static noinline int victim_dup(void)
{
	return READ_ONCE(ticks) * 0 + 10;
}

static noinline int victim_sleep(void)
{
	while (!signal_pending(current))
		schedule_timeout_interruptible(HZ / 20);
	return -EINTR;
}

static noinline int victim_loop(void *unused)
{
	while (!kthread_should_stop()) {
		WRITE_ONCE(ticks, READ_ONCE(ticks) + 1);
		msleep(20);
	}
	return 0;
}

/* At init the value shows whether the module was patched before it started. */
static int init_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%d\n", init_value);
	return 0;
}

static int victim_show(struct seq_file *m, void *v)
{
	seq_printf(m, "value %d dup %d %d\n", victim_value(), victim_dup(), victim_other_dup());
	return 0;
}

static ssize_t victim_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	char command[8] = "";

	if (copy_from_user(command, buf, min(count, sizeof(command) - 1)))
		return -EFAULT;
	if (!strncmp(command, "sleep", 5))
		return victim_sleep();
	if (!strncmp(command, "thread", 6) && !thread) {
		thread = kthread_run(victim_loop, NULL, "kpt-loop");
		return IS_ERR(thread) ? PTR_ERR(thread) : count;
	}
	return -EINVAL;
}

static int victim_open(struct inode *inode, struct file *file)
{
	return single_open(file, victim_show, NULL);
}

static const struct proc_ops victim_ops = {
	.proc_open = victim_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
	.proc_write = victim_write,
};

static int __init victim_init(void)
{
	init_value = victim_value();
	if (fail)
		return -ENODEV;
	proc_create_single("kpt-victim-init", 0400, NULL, init_show);
	return proc_create("kpt-victim", 0600, NULL, &victim_ops) ? 0 : -ENOMEM;
}

static void __exit victim_exit(void)
{
	remove_proc_entry("kpt-victim", NULL);
	remove_proc_entry("kpt-victim-init", NULL);
	if (!IS_ERR_OR_NULL(thread))
		kthread_stop(thread);
}

module_init(victim_init);
module_exit(victim_exit);
MODULE_DESCRIPTION("kpatch tests: a module to be patched");
MODULE_LICENSE("GPL");
