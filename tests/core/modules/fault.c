// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Makes things fail that do not fail by themselves.
 *
 * in=FUNCTION	while a task is in that function its allocations are counted, and the one with the number `fail` gets
 *		nothing (with on=1 those after it neither); `seen` says how many there were the last time
 * hold=MS	whoever calls the function is held at its entry for so long
 * refuse=MODULE  its load is refused, by the last notifier to hear of it; with early=1 by the first
 * slow=MODULE	its load is held up by 1.5 seconds before other notifiers hear of it
 *
 * should_failslab() is there for this: every slab allocation asks it.  Here a kprobe answers.
 */
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/string.h>

static char *in;	module_param(in, charp, 0);
static int fail;	module_param(fail, int, 0600);
static bool on;		module_param(on, bool, 0600);
static int seen;	module_param(seen, int, 0400);
static int hold;	module_param(hold, int, 0);
static char *refuse;	module_param(refuse, charp, 0);
static bool early;	module_param(early, bool, 0);
static char *slow;	module_param(slow, charp, 0);

static struct task_struct *task;

/* What a function does that only returns.  It is reached by a return, not by a call. */
void fault_return(void);
asm(".pushsection .text\n"
    ".type fault_return, @function\n"
    "fault_return:\n"
    "	" ASM_RET
    ".size fault_return, . - fault_return\n"
    ".popsection");

static int before_alloc(struct kprobe *probe, struct pt_regs *regs)
{
	gfp_t flags = regs->si;

	if (READ_ONCE(task) != current || !in_task() || flags & __GFP_NOFAIL)
		return 0;
	seen++;
	if (!fail || (on ? seen < fail : seen != fail))
		return 0;
	regs->ax = -ENOMEM;
	regs->ip = (unsigned long)fault_return;
	return 1;
}
NOKPROBE_SYMBOL(before_alloc);

/* With one of these the kprobe may change where the function goes on. */
static void after_entry(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}
NOKPROBE_SYMBOL(after_entry);

static struct kprobe alloc_probe = {
	.symbol_name = "should_failslab",
	.pre_handler = before_alloc,
	.post_handler = after_entry,
};

static int enter(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	mdelay(hold);
	seen = 0;
	WRITE_ONCE(task, current);
	return 0;
}
NOKPROBE_SYMBOL(enter);

static int leave(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	WRITE_ONCE(task, NULL);
	return 0;
}
NOKPROBE_SYMBOL(leave);

static struct kretprobe in_probe = { .entry_handler = enter, .handler = leave };

static int event(struct notifier_block *nb, unsigned long event, void *data)
{
	const struct module *mod = data;

	if (event == MODULE_STATE_COMING && slow && !strcmp(mod->name, slow))
		msleep(1500);
	return notifier_from_errno(event == MODULE_STATE_COMING && refuse && !strcmp(mod->name, refuse) ?
				   -EPERM : 0);
}

static struct notifier_block nb = { .notifier_call = event };

static int __init fault_init(void)
{
	int err;

	in_probe.kp.symbol_name = in;
	nb.priority = early || slow ? INT_MAX : INT_MIN;
	err = register_module_notifier(&nb);
	if (err)
		return err;
	err = register_kprobe(&alloc_probe);
	if (err)
		goto no_alloc_probe;
	err = in ? register_kretprobe(&in_probe) : 0;
	if (!err)
		return 0;
	unregister_kprobe(&alloc_probe);
no_alloc_probe:
	unregister_module_notifier(&nb);
	return err;
}

static void __exit fault_exit(void)
{
	if (in)
		unregister_kretprobe(&in_probe);
	unregister_kprobe(&alloc_probe);
	unregister_module_notifier(&nb);
}

module_init(fault_init);
module_exit(fault_exit);
MODULE_DESCRIPTION("kpatch tests: failures");
MODULE_LICENSE("GPL");
