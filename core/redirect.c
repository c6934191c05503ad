// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: callers of an old function are sent to the new one, by ftrace.
 *
 * A function that can be traced begins with a call that ftrace has turned into a no-op.  For the functions
 * of all patches one ftrace_ops turns it on again; its handler looks the function up in a hash table, and
 * changes the address at which the function would go on to the entry of the new function.
 *
 * Functions are in the table, and ftrace calls the handler, before a patch is applied and for a
 * while after it has been undone: what the handler does is decided by patch->applied alone, which changes
 * for all functions of a patch at once, by a single store.  The handler takes no lock, so it may
 * run in any context, NMI included.
 */
#include "internal.h"

#include <linux/ftrace.h>
#include <linux/hashtable.h>
#include <linux/preempt.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>

/* Since Linux 6.3 (commit 94d095ffa0e1) the macro has the longer name. */
#ifdef ftrace_regs_set_instruction_pointer
#define set_ip ftrace_regs_set_instruction_pointer
#else
#define set_ip ftrace_instruction_pointer_set
#endif

#define TABLE_BITS 10

static DEFINE_HASHTABLE(table, TABLE_BITS);
static unsigned int nr_redirected;

static void notrace redirect_handler(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
				     struct ftrace_regs *fregs)
{
	const struct kpatch_target *target;

	preempt_disable_notrace();
	hash_for_each_possible_rcu_notrace(table, target, node, ip) {
		if (target->ip != ip)
			continue;
		if (READ_ONCE(target->patch->applied))
			set_ip(fregs, (unsigned long)target->func->new_func);
		break;
	}
	preempt_enable_notrace();
}

/*
 * IPMODIFY: no other user of ftrace may redirect the same functions.  PERMANENT: ftrace cannot be switched
 * off (sysctl kernel.ftrace_enabled) while a patch is applied, which would silently undo it.
 * With WITH_ARGS ftrace hands over enough of the registers, and more cheaply.
 */
static struct ftrace_ops redirect_ops = {
	.func = redirect_handler,
	.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT |
		 (IS_ENABLED(CONFIG_HAVE_DYNAMIC_FTRACE_WITH_ARGS) ? 0 : FTRACE_OPS_FL_SAVE_REGS),
};

/* The target that has claimed an ftrace location, or NULL. */
struct kpatch_target *kpatch_redirected(unsigned long ip)
{
	struct kpatch_target *target;

	hash_for_each_possible(table, target, node, ip)
		if (target->ip == ip)
			return target;
	return NULL;
}

/* Wait until no CPU is in the handler, and no task in what called it. */
static void wait_for_handlers(void)
{
	/* Tasks that ftrace has interrupted where RCU is not watching. */
#ifdef CONFIG_TASKS_RUDE_RCU
	synchronize_rcu_tasks_rude();
#endif
	/* Preempted tasks, and those that are exiting and no longer in the list of tasks. */
	synchronize_rcu_tasks();
}

static int add_filter(unsigned long *ips, unsigned int nr)
{
	int err;

	err = ftrace_set_filter_ips(&redirect_ops, ips, nr, 0, 0);
	if (!err && !nr_redirected) {
		err = register_ftrace_function(&redirect_ops);
		if (err)
			ftrace_set_filter_ips(&redirect_ops, ips, nr, 1, 0);
	}
	if (!err)
		nr_redirected += nr;
	return err;
}

static void remove_filter(unsigned long *ips, unsigned int nr)
{
	int err = 0;

	/* An empty filter would mean every function, so the last ones leave after the ops has. */
	if (nr == nr_redirected)
		err = unregister_ftrace_function(&redirect_ops);
	err = err ?: ftrace_set_filter_ips(&redirect_ops, ips, nr, 1, 0);
	if (err) {
		/* ftrace is broken and may call the handler for ever: so it must stay. */
		pr_err("ftrace does not release %u functions: %pe\n", nr, ERR_PTR(err));
		__module_get(THIS_MODULE);
		return;
	}
	nr_redirected -= nr;
}

/* ftrace has refused the functions of a patch together; adding them singly shows which one it is. */
static void name_conflict(const struct kpatch_patch *patch)
{
	const struct kpatch_target *target;
	unsigned int nr = 0;

	for_each_target(patch, target) {
		int err = add_filter(&patch->ips[nr], 1);

		if (err) {
			pr_err("%s: %s,%lu: ftrace refuses to redirect it: another user, such as a kernel livepatch, does so already or ftrace is switched off (%pe)\n",
			       patch->kpmod->name, target->func->old_name, target->func->old_sympos,
			       ERR_PTR(err));
			break;
		}
		nr++;
	}
	if (nr)
		remove_filter(patch->ips, nr);
}

/**
 * kpatch_redirect - let ftrace call the handler for all functions of a patch
 * @patch:	the patch
 *
 * Nothing changes for their callers until the patch is applied.
 *
 * Return: 0, -EBUSY if one of them belongs to another user of ftrace, or another error of ftrace; logged.
 */
int kpatch_redirect(struct kpatch_patch *patch)
{
	struct kpatch_target *target;
	int err;

	if (!patch->nr_targets)
		return 0;
	for_each_target(patch, target)
		hash_add_rcu(table, &target->node, target->ip);

	err = add_filter(patch->ips, patch->nr_targets);
	if (err) {
		name_conflict(patch);
		for_each_target(patch, target)
			hash_del_rcu(&target->node);
		wait_for_handlers();
	}
	return err;
}

/**
 * kpatch_unredirect - undo kpatch_redirect()
 * @patch:	the patch
 *
 * The patch is not applied.  When this returns, no CPU and no task is in the handler on behalf of
 * the patch, nor in the patch module's code: what switch.c cannot see (an NMI, a task that has left the
 * list of tasks and is about to die) has been waited for.
 */
void kpatch_unredirect(struct kpatch_patch *patch)
{
	struct kpatch_target *target;

	if (!patch->nr_targets)
		return;
	remove_filter(patch->ips, patch->nr_targets);
	for_each_target(patch, target)
		hash_del_rcu(&target->node);
	wait_for_handlers();
}
