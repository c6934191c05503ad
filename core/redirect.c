// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: callers of an old function are sent to the new one, by ftrace.
 *
 * A function that can be traced begins with a call that ftrace has turned into a no-op.  ftrace turns it on
 * again for the functions of patches; the handler looks the place up in a hash table, and changes the address
 * at which the function would go on to the entry of the new function.
 *
 * Each such place is a site.  The patches that have its function are stacked on it, the one that was applied
 * last on top, and the topmost that is applied counts.  The sites that a patch is the first to use form
 * a group with an ftrace_ops of its own, because only registering one arranges with BPF programs that are
 * attached to the same functions; adding functions to one that is registered does not, and callers would
 * silently stay in the old functions.  A site leaves when no patch is left on it; a group may so outlive the
 * patch that brought it.
 *
 * Which version counts.  Patches are on their sites before they are applied and for a while after they have
 * been undone: what the handler does is decided by patch->applied alone.  There are two of it, and bit 0 of
 * `state` says which one counts.  A switch prepares the other one for all patches and then flips the
 * bit, so that any number of functions and patches change at one instant.
 *
 * NMIs are the only code that can run while the machine is stopped.  An NMI handler that has called an old
 * function must not see a new one before it returns.  So before the flip, COMMITTING is set and switch.c waits
 * until every CPU has been outside of NMIs since; an NMI that calls a function which is about to change
 * takes COMMITTING away, gets the old version, and the flip fails.  What begins later finds one
 * version from start to end.
 *
 * The handler takes no lock, so it may run in any context, NMI included.  It calls nothing that ftrace could
 * trace, so it needs none of ftrace's protection from recursion (FTRACE_OPS_FL_RECURSION), which would now and
 * then skip it and let a caller through to the old function.  When it lets preemption on again the scheduler
 * may run, and be patched itself; that handler finds preemption off and goes no deeper.
 */
#include "internal.h"

#include <linux/atomic.h>
#include <linux/hashtable.h>
#include <linux/preempt.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

/* The macro has a longer name in newer kernels. */
#ifdef ftrace_regs_set_instruction_pointer
#define set_ip ftrace_regs_set_instruction_pointer
#else
#define set_ip ftrace_instruction_pointer_set
#endif

#define TABLE_BITS 10

/* In `state`. */
#define VERSION 1
#define COMMITTING 2

/**
 * struct kpatch_site - a place where ftrace calls the handler
 * @node:	in the hash table
 * @list:	in group.sites, or among the dead
 * @group:	whose ftrace_ops calls the handler here
 * @ip:		the place
 * @top:	the target of the patch that was applied last
 */
struct kpatch_site {
	struct hlist_node node;
	struct list_head list;
	struct kpatch_group *group;
	unsigned long ip;
	struct kpatch_target *top;
};

/**
 * struct kpatch_group - sites with one ftrace_ops
 * @list:	in `groups`, or among the dead
 * @sites:	of struct kpatch_site
 * @ops:	calls the handler
 */
struct kpatch_group {
	struct list_head list;
	struct list_head sites;
	struct ftrace_ops ops;
};

static DEFINE_HASHTABLE(table, TABLE_BITS);
static atomic_t state = ATOMIC_INIT(0);

/* The rest is protected by kpatch_mutex.  The dead are freed when no handler can look at them any more. */
static LIST_HEAD(groups);
static LIST_HEAD(dead_sites);
static LIST_HEAD(dead_groups);

static __always_inline int version_now(void)
{
	return atomic_read(&state) & VERSION;
}

/* The target that counts in one of the versions, or NULL: the kernel's own function. */
static __always_inline const struct kpatch_target *choose(const struct kpatch_site *site, int version)
{
	const struct kpatch_target *target;

	for (target = READ_ONCE(site->top); target; target = READ_ONCE(target->below))
		if (READ_ONCE(target->patch->applied[version]))
			break;
	return target;
}

static void notrace redirect_handler(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
				     struct ftrace_regs *fregs)
{
	const struct kpatch_target *target = NULL;
	const struct kpatch_site *site;
	int now;

	preempt_disable_notrace();
	hash_for_each_possible_rcu_notrace(table, site, node, ip) {
		if (site->ip != ip)
			continue;
		now = atomic_read(&state);
		target = choose(site, now & VERSION);
		if (unlikely(now & COMMITTING) && target != choose(site, ~now & VERSION)) {
			/* In an NMI.  This fails if the switch, or another NMI, was faster. */
			atomic_cmpxchg(&state, now, now & ~COMMITTING);
			target = choose(site, version_now());
		}
		break;
	}
	if (target)
		set_ip(fregs, (unsigned long)target->func->new_func);
	preempt_enable_notrace();
}

/* Is the patch applied, as its functions' callers see it? */
bool kpatch_applied(const struct kpatch_patch *patch)
{
	return READ_ONCE(patch->applied[version_now()]);
}

/* What callers of a site's function get now; NULL: the kernel's own function. */
const struct kpatch_target *kpatch_active_target(const struct kpatch_site *site)
{
	return choose(site, version_now());
}

/* Decide whether the patch will be applied after the next kpatch_commit(). */
void kpatch_plan(struct kpatch_patch *patch, bool apply)
{
	WRITE_ONCE(patch->applied[!version_now()], apply);
}

/* A commit has been done or given up: what counts is the plan again. */
void kpatch_settle(struct kpatch_patch *patch)
{
	kpatch_plan(patch, kpatch_applied(patch));
}

/* From now on NMIs that call a function that will change make kpatch_commit() fail. */
void kpatch_commit_begin(void)
{
	atomic_or(COMMITTING, &state);
}

/**
 * kpatch_commit - make what was planned what counts, for all patches at one instant
 *
 * Runs while the machine is stopped.  Since kpatch_commit_begin() each CPU has been outside of NMIs.
 *
 * Return: 0, or -EBUSY if an NMI handler is using an old function.
 */
int kpatch_commit(void)
{
	int version = version_now();

	return atomic_cmpxchg(&state, version | COMMITTING, !version) == (version | COMMITTING) ? 0 : -EBUSY;
}

static struct kpatch_site *find_site(unsigned long ip)
{
	struct kpatch_site *site;

	hash_for_each_possible(table, site, node, ip)
		if (site->ip == ip)
			return site;
	return NULL;
}

/* Give the group sites for those functions of the object that have none. */
static int add_sites(struct kpatch_group *group, const struct kpatch_target_object *object)
{
	const struct kpatch_target *target;
	struct kpatch_site *site;

	for_each_target(object, target) {
		if (find_site(target->ip))
			continue;
		site = kzalloc(sizeof(*site), GFP_KERNEL);
		if (!site)
			return -ENOMEM;
		site->ip = target->ip;
		site->group = group;
		list_add_tail(&site->list, &group->sites);
		hash_add_rcu(table, &site->node, site->ip);
	}
	return 0;
}

static void kill_site(struct kpatch_site *site)
{
	hash_del_rcu(&site->node);
	list_move(&site->list, &dead_sites);
}

/*
 * Let ftrace call the handler at @nr places.
 *
 * IPMODIFY: no other user of ftrace may redirect the same functions.  PERMANENT: ftrace cannot be switched
 * off (sysctl kernel.ftrace_enabled) while a patch is applied, which would silently undo it.
 * With WITH_ARGS ftrace hands over enough of the registers, and more cheaply.
 */
static int attach(struct kpatch_group *group, unsigned long *ips, size_t nr)
{
	int err;

	if (group->ops.flags & FTRACE_OPS_FL_ENABLED)
		return -ENODEV;		/* detach() has failed before, ftrace still uses it */
	group->ops = (struct ftrace_ops){
		.func = redirect_handler,
		.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT |
			 (IS_ENABLED(CONFIG_HAVE_DYNAMIC_FTRACE_WITH_ARGS) ? 0 :
									     FTRACE_OPS_FL_SAVE_REGS),
	};
	err = ftrace_set_filter_ips(&group->ops, ips, nr, 0, 0);
	err = err ?: register_ftrace_function(&group->ops);
	if (err)
		ftrace_free_filter(&group->ops);
	return err;
}

/* Says whether the group can be freed. */
static bool detach(struct kpatch_group *group)
{
	int err;

	err = unregister_ftrace_function(&group->ops);
	if (err) {
		/* ftrace is broken, and may look at the ops and call the handler for ever: they must stay. */
		pr_err("ftrace does not let go: %pe\n", ERR_PTR(err));
		__module_get(THIS_MODULE);
		return false;
	}
	ftrace_free_filter(&group->ops);
	return true;
}

/*
 * ftrace has refused several places together, and does not say which one it is about.  It refuses the first
 * so many of them if that one is among them.
 */
static void name_conflict(struct kpatch_group *group, const struct kpatch_target_object *object,
			  unsigned long *ips, size_t nr)
{
	const struct kpatch_target *target;
	size_t good = 0, bad = nr;
	void *other;

	while (bad - good > 1) {
		size_t middle = good + (bad - good) / 2;

		if (attach(group, ips, middle)) {
			bad = middle;
		} else {
			detach(group);
			good = middle;
		}
	}
	other = kpatch_redirecting_handler(ips[good]);
	for_each_target(object, target) {
		const char *name = target->func->old_name, *patch_name = target->patch->kpmod->name;

		if (target->ip != ips[good])
			continue;
		if (other)
			pr_err("%s: %s,%lu: ftrace refuses to redirect it: %ps does so already\n", patch_name,
			       name, target->func->old_sympos, other);
		else
			pr_err("%s: %s,%lu: ftrace refuses to redirect it, or ftrace is switched off\n", patch_name,
			       name, target->func->old_sympos);
	}
}

static int attach_sites(struct kpatch_group *group, const struct kpatch_target_object *object)
{
	const struct kpatch_site *site;
	unsigned long *ips;
	size_t nr = 0;
	int err;

	ips = kvcalloc(object->nr_targets, sizeof(*ips), GFP_KERNEL);
	if (!ips)
		return -ENOMEM;
	list_for_each_entry(site, &group->sites, list)
		ips[nr++] = site->ip;
	err = attach(group, ips, nr);
	if (err)
		name_conflict(group, object, ips, nr);
	kvfree(ips);
	return err;
}

/* Give back the sites that no patch is on any more. */
static void drop_empty_sites(struct kpatch_group *group)
{
	struct kpatch_site *site, *next;
	bool empty = true;

	list_for_each_entry(site, &group->sites, list)
		empty &= !site->top;
	if (empty) {
		if (!detach(group))
			return;
		list_for_each_entry_safe(site, next, &group->sites, list)
			kill_site(site);
		list_move(&group->list, &dead_groups);
		return;
	}
	/* If ftrace has no memory for that, the site waits for the rest of its group. */
	list_for_each_entry_safe(site, next, &group->sites, list)
		if (!site->top && !ftrace_set_filter_ip(&group->ops, site->ip, 1, 0))
			kill_site(site);
}

/**
 * kpatch_redirect - put the functions of an object on top of their sites
 * @object:	ready
 *
 * Nothing changes for their callers unless and until the patch is applied.  After an error the caller waits,
 * kpatch_wait_for_handlers(), before it frees anything.
 *
 * Return: 0, -EBUSY if one of them belongs to another user of ftrace, or another error of ftrace; logged.
 */
int kpatch_redirect(struct kpatch_target_object *object)
{
	struct kpatch_site *site, *next;
	struct kpatch_target *target;
	struct kpatch_group *group;
	int err;

	group = kzalloc(sizeof(*group), GFP_KERNEL);
	if (!group)
		return -ENOMEM;
	INIT_LIST_HEAD(&group->sites);
	err = add_sites(group, object);
	if (!err && !list_empty(&group->sites))
		err = attach_sites(group, object);
	if (err) {
		list_for_each_entry_safe(site, next, &group->sites, list)
			kill_site(site);
		/* If detach() has failed meanwhile, ftrace still uses it. */
		if (!(group->ops.flags & FTRACE_OPS_FL_ENABLED))
			list_add(&group->list, &dead_groups);
		return err;
	}
	if (list_empty(&group->sites))
		kfree(group);
	else
		list_add(&group->list, &groups);

	for_each_target(object, target) {
		target->site = find_site(target->ip);
		target->below = target->site->top;
		smp_store_release(&target->site->top, target);
	}
	return 0;
}

/**
 * kpatch_unredirect - take the functions of an object from their sites
 * @object:	was redirected, or not
 *
 * The patch is not applied, or nobody can call the functions any more.  Handlers may still look at the targets
 * until kpatch_wait_for_handlers() returns.
 */
void kpatch_unredirect(struct kpatch_target_object *object)
{
	struct kpatch_group *group, *next;
	struct kpatch_target *target;
	struct kpatch_target **link;

	for_each_target(object, target) {
		if (!target->site)
			continue;
		for (link = &target->site->top; *link != target;)
			link = &(*link)->below;
		WRITE_ONCE(*link, target->below);
		target->site = NULL;
	}
	list_for_each_entry_safe(group, next, &groups, list)
		drop_empty_sites(group);
}

/**
 * kpatch_wait_for_handlers - wait until no CPU is in the handler, and no task in what called it
 *
 * After this, nobody is in the handler on behalf of targets that were taken from their sites before, nor in
 * the code of a patch that was undone before: what switch.c cannot see (an NMI, a task that has left the
 * list of tasks and is about to die) has been waited for.
 */
void kpatch_wait_for_handlers(void)
{
	struct kpatch_group *group, *next_group;
	struct kpatch_site *site, *next_site;

	/* Tasks that ftrace has interrupted where RCU is not watching. */
#ifdef CONFIG_TASKS_RUDE_RCU
	synchronize_rcu_tasks_rude();
#endif
	/* Preempted tasks, and those that are exiting and no longer in the list of tasks. */
	synchronize_rcu_tasks();

	list_for_each_entry_safe(site, next_site, &dead_sites, list) {
		list_del(&site->list);
		kfree(site);
	}
	list_for_each_entry_safe(group, next_group, &dead_groups, list) {
		list_del(&group->list);
		kfree(group);
	}
}
