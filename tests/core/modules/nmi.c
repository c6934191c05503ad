// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Bursts of NMIs that two CPUs throw to each other, also while the machine is stopped.  Each calls two functions,
 * which are patched together, with some time in between.  /proc/kpt-nmi says whether NMIs saw the old version,
 * whether they saw the new one, and how many saw one of each.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <asm/apic.h>
#include <asm/nmi.h>

static struct task_struct *thread;
static atomic_t old_ones, new_ones, mixed;
static atomic_t left;		/* in this burst */
static int ticks;

noinline int nmi_one(void);
noinline int nmi_one(void)
{
	return READ_ONCE(ticks) * 0 + 1;
}

noinline int nmi_two(void);
noinline int nmi_two(void)
{
	return READ_ONCE(ticks) * 0 + 1;
}

static int nmi_handler(unsigned int type, struct pt_regs *regs)
{
	int one, two;

	if (!atomic_add_unless(&left, -1, 0))
		return NMI_DONE;
	one = nmi_one();
	udelay(50);
	two = nmi_two();
	atomic_inc(one != two ? &mixed : one == 1 ? &old_ones : &new_ones);
	/* To the other CPU.  This form does not disturb an interrupt that the interrupted code was about to send. */
	if (atomic_read(&left))
		apic->send_IPI_allbutself(NMI_VECTOR);
	return NMI_HANDLED;
}

static int send(void *unused)
{
	while (!kthread_should_stop()) {
		atomic_set(&left, 40);
		apic->send_IPI_allbutself(NMI_VECTOR);
		usleep_range(6000, 8000);
	}
	return 0;
}

static int nmi_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%d %d %d\n", atomic_read(&old_ones) > 0, atomic_read(&new_ones) > 0, atomic_read(&mixed));
	return 0;
}

static int __init nmi_init(void)
{
	int err = register_nmi_handler(NMI_LOCAL, nmi_handler, 0, "kpt-nmi");

	if (err)
		return err;
	proc_create_single("kpt-nmi", 0400, NULL, nmi_show);
	thread = kthread_run(send, NULL, "kpt-nmi");
	return 0;
}

static void __exit nmi_exit(void)
{
	kthread_stop(thread);
	msleep(100);
	remove_proc_entry("kpt-nmi", NULL);
	unregister_nmi_handler(NMI_LOCAL, "kpt-nmi");
}

module_init(nmi_init);
module_exit(nmi_exit);
MODULE_DESCRIPTION("kpatch tests: calls from NMI handlers");
MODULE_LICENSE("GPL");
