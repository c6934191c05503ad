// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: callers of an old function are sent to the new one, by ftrace.
 *
 * A function that can be traced begins with a call that ftrace has turned into a no-op.  Each patch has an
 * ftrace_ops that turns it on again for the functions of the patch; the handler looks the function up in a
 * hash table, and changes the address at which the function would go on to the entry of the new function.
 *
 * Each patch has an ftrace_ops of its own because only registering one arranges with BPF programs that are
 * attached to the same functions; adding functions to one that is registered does not, and callers would
 * silently stay in the old functions.
 *
 * Functions are in the table, and ftrace calls the handler, before a patch is applied and for a
 * while after it has been undone: what the handler does is decided by patch->applied alone, which changes
 * for all functions of a patch at once, by a single store.  The handler takes no lock, so it may
 * run in any context, NMI included.  It calls nothing that ftrace could trace, so it needs none of ftrace's
 * protection from recursion (FTRACE_OPS_FL_RECURSION), which would now and then skip it and let a caller
 * through to the old function.  When it lets preemption on again the scheduler may run, and be patched
 * itself; that handler finds preemption off and goes no deeper.
 */
#include "internal.h"

#include <linux/hashtable.h>
#include <linux/preempt.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>

/* The macro has a longer name in newer kernels. */
#ifdef ftrace_regs_set_instruction_pointer
#define set_ip ftrace_regs_set_instruction_pointer
#else
#define set_ip ftrace_instruction_pointer_set
#endif

#define TABLE_BITS 10

static DEFINE_HASHTABLE(table, TABLE_BITS);

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

/* The target that has claimed an ftrace location, or NULL. */
static const struct kpatch_target *find_target(unsigned long ip)
{
	const struct kpatch_target *target;

	hash_for_each_possible(table, target, node, ip)
		if (target->ip == ip)
			return target;
	return NULL;
}

/* Two patches cannot have the same function; logs those that are taken. */
static int check_free(const struct kpatch_patch *patch)
{
	const struct kpatch_target *target, *other;
	int err = 0;

	for_each_target(patch, target) {
		other = find_target(target->ip);
		if (!other)
			continue;
		pr_err("%s: %s,%lu: already patched by %s\n", patch->kpmod->name, target->func->old_name,
		       target->func->old_sympos, other->patch->kpmod->name);
		err = -EBUSY;
	}
	return err;
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

/*
 * Let ftrace call the handler for the first @nr functions of the patch.
 *
 * IPMODIFY: no other user of ftrace may redirect the same functions.  PERMANENT: ftrace cannot be switched
 * off (sysctl kernel.ftrace_enabled) while a patch is applied, which would silently undo it.
 * With WITH_ARGS ftrace hands over enough of the registers, and more cheaply.
 */
static int attach(struct kpatch_patch *patch, size_t nr)
{
	int err;

	if (patch->ops.flags & FTRACE_OPS_FL_ENABLED)
		return -ENODEV;		/* detach() has failed before, ftrace still uses it */
	patch->ops = (struct ftrace_ops){
		.func = redirect_handler,
		.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT |
			 (IS_ENABLED(CONFIG_HAVE_DYNAMIC_FTRACE_WITH_ARGS) ? 0 :
									     FTRACE_OPS_FL_SAVE_REGS),
	};
	err = ftrace_set_filter_ips(&patch->ops, patch->ips, nr, 0, 0);
	err = err ?: register_ftrace_function(&patch->ops);
	if (err)
		ftrace_free_filter(&patch->ops);
	return err;
}

static void detach(struct kpatch_patch *patch)
{
	int err;

	err = unregister_ftrace_function(&patch->ops);
	if (err) {
		/* ftrace is broken, and may look at the ops and call the handler for ever: they must stay. */
		pr_err("%s: ftrace does not let go: %pe\n", patch->kpmod->name, ERR_PTR(err));
		kobject_get(&patch->kobj);
		__module_get(THIS_MODULE);
		return;
	}
	ftrace_free_filter(&patch->ops);
}

/*
 * ftrace has refused the functions of a patch together, and does not say which one it is about.  It
 * refuses the first so many functions if that one is among them.
 */
static void name_conflict(struct kpatch_patch *patch)
{
	size_t good = 0, bad = patch->nr_targets;
	const struct kpatch_target *target;

	while (bad - good > 1) {
		size_t middle = good + (bad - good) / 2;

		if (attach(patch, middle)) {
			bad = middle;
		} else {
			detach(patch);
			good = middle;
		}
	}
	for_each_target(patch, target) {
		if (target->ip != patch->ips[good])
			continue;
		pr_err("%s: %s,%lu: ftrace refuses to redirect it: another user, such as a kernel livepatch, does so already, or ftrace is switched off\n",
		       patch->kpmod->name, target->func->old_name, target->func->old_sympos);
	}
}

/**
 * kpatch_redirect - let ftrace call the handler for all functions of a patch
 * @patch:	the patch
 *
 * Nothing changes for their callers until the patch is applied.
 *
 * Return: 0, -EBUSY if one of them belongs to another patch or another user of ftrace, or another error of
 * ftrace; logged.
 */
int kpatch_redirect(struct kpatch_patch *patch)
{
	struct kpatch_target *target;
	int err;

	if (!patch->nr_targets)
		return 0;
	err = check_free(patch);
	if (err)
		return err;
	for_each_target(patch, target)
		hash_add_rcu(table, &target->node, target->ip);
	err = attach(patch, patch->nr_targets);
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
	detach(patch);
	for_each_target(patch, target)
		hash_del_rcu(&target->node);
	wait_for_handlers();
}
