// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: the switch, and the check that makes it safe.
 *
 * The machine is stopped: on every online CPU, stop_machine's thread spins with interrupts off, and one of
 * them looks at the stack of every task.  If a task is inside code that must not be in use, the switch is
 * refused and nothing has changed.  Otherwise a single store switches all functions at once (redirect.c).
 *
 * What must not be in use:
 *
 * - When a patch is applied: for each of its functions the version that callers get now, be it the kernel's or
 *   that of a patch below.  Functions with force_unsafe are left out.
 * - When a patch is undone or superseded: everything in its module, with the exception of what a forced
 *   function replaces.
 *
 * Which tasks are looked at:
 *
 * - All threads in the task list, and the idle task of every online CPU.  None of them runs, so the stack
 *   that was saved when it was last switched away from is what it will go on with.  A stack that the
 *   kernel's unwinder does not vouch for counts as unsafe.
 * - The thread that does the check, and the worker that has stopped the machine: like any other.
 * - stop_machine's threads on the other CPUs run, so there is nothing saved to look at.  They are skipped:
 *   they came to the same loop in multi_cpu_stop() by the same functions as the thread that does the check,
 *   and what they call from that loop is this file's, and returns at once.  No other thread can be running;
 *   one that seems to be is unsafe.
 * - The idle task of an offline CPU is skipped: that CPU is parked, its task's saved stack is stale, and
 *   the CPU comes back through its start-up code.  The few functions in which it is parked (play_dead)
 *   must not be patched: nothing here sees that they are in use.
 *
 * Interrupt handlers are done before the machine stops.  An NMI need not be: before the store, each CPU says
 * that it has been outside of NMIs, and redirect.c notices those that come later.  A task that has left
 * the task list and is just dying finishes in the old code, which stays where it is;
 * kpatch_wait_for_handlers() waits for such tasks before a patch module's code is freed.
 *
 * Which addresses count: an address on a stack is where a call returns to.  If the call is the last
 * instruction of a function, that is one past the function's end, so the end is inclusive.  The start
 * is inclusive as well: a task can be preempted there.  Ranges are sorted, so the cost of the check is
 * tasks times depth of their stacks, and hardly depends on the number of functions.
 *
 * Between the handler's decision and its effect a task can be preempted: its stack then shows the return
 * address of the call to ftrace, in the old function.  It may be on its way to the version of any
 * patch, so the bytes after each ftrace location count as part of the version that callers get now.
 */
#include "internal.h"

#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/stop_machine.h>
#include <linux/workqueue.h>

/* A stack that is full of return addresses still fits. */
#define MAX_ENTRIES (THREAD_SIZE / sizeof(unsigned long))

#define TRIES 10
#define RETRY_MS 100

/* What a thread of stop_machine() that does not do the check is to do. */
enum {
	CHECKING,	/* wait */
	ASKING,		/* answer: this CPU is not in an NMI */
	DONE,		/* return */
};

/* One switch, and what stood in its way.  There is one at a time (kpatch_mutex). */
static struct {
	struct work_struct work;
	struct kpatch_patch *patch;
	bool apply;
	void (*hook)(const struct kpatch_object *object);	/* for kpatch_call_stopped() */
	const struct task_struct *caller;	/* of kpatch_switch() */
	struct kpatch_ranges unsafe;		/* code that no task may be in */
	struct kpatch_ranges forced;		/* code that it may be in all the same */
	struct list_head leaving;		/* patches whose modules no task may be in */

	atomic_t entered;			/* threads of stop_machine() */
	atomic_t answered;
	int phase;
	int err;
	u64 stop_ns;

	unsigned long *entries;			/* the stack being looked at */
	unsigned int nr_entries;
	unsigned int nr_tasks;

	const char *why;			/* the refusal, for log_refusal() */
	unsigned long where;
	pid_t pid;
	char comm[TASK_COMM_LEN];
} sw = {
	.leaving = LIST_HEAD_INIT(sw.leaving),
};

static int compare_ranges(const void *a, const void *b)
{
	const struct kpatch_range *left = a, *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

/* The range that has @addr, or NULL: the last one that does not start behind it. */
static const struct kpatch_range *find_range(const struct kpatch_ranges *ranges, unsigned long addr)
{
	size_t low = 0, high = ranges->nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (ranges->range[mid].start <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low && addr <= ranges->range[low - 1].end ? &ranges->range[low - 1] : NULL;
}

/*
 * Is this where the patch module's exit function has called kpatch_unregister()?  It is told by what was
 * called.  The return address that kpatch_unregister() itself could compare with may not be the real one: the
 * function graph tracer and kretprobes put their own in its place, and the unwinder takes it back.
 */
static bool is_call_of_core(const struct kpatch_patch *patch, const struct task_struct *task,
			    unsigned int entry)
{
	return task == sw.caller && patch->state == KPATCH_LEAVING && entry &&
	       within_module_core(sw.entries[entry - 1], THIS_MODULE);
}

/* Would the task go on inside code that must not be in use?  Gives the code's name, or NULL. */
static const char *unsafe_entry(const struct task_struct *task, unsigned int entry)
{
	unsigned long addr = sw.entries[entry];
	const struct kpatch_range *range;
	const struct kpatch_patch *patch;

	if (find_range(&sw.forced, addr))
		return NULL;
	range = find_range(&sw.unsafe, addr);
	if (range)
		return range->name;
	list_for_each_entry(patch, &sw.leaving, leaving)
		if (within_module(addr, patch->kpmod->mod) && !is_call_of_core(patch, task, entry))
			return "a patch module";
	return NULL;
}

static bool task_runs(const struct task_struct *task)
{
#ifdef CONFIG_SMP
	return task->on_cpu;
#else
	return task == current;
#endif
}

/*
 * Is the task preempted in a function that a kretprobe has given another return address?  The unwinder will not
 * look such an address up for a task that could be running, and some kernels warn when it is asked to.
 */
static bool preempted_under_kretprobe(const struct task_struct *task)
{
#ifdef CONFIG_RETHOOK
	return task != current && task_is_running(task) && READ_ONCE(task->rethooks.first);
#else
	return false;
#endif
}

static int refuse(struct task_struct *task, const char *why, unsigned long where)
{
	sw.why = why;
	sw.where = where;
	sw.pid = task->pid;
	memcpy(sw.comm, task->comm, sizeof(sw.comm));
	return -EBUSY;
}

static int check_task(struct task_struct *task)
{
	unsigned int i;
	int nr;

	sw.nr_tasks++;
	sw.nr_entries = 0;
	if (task_runs(task) && task != current) {
		if (task->sched_class == kpatch_stop_class())
			return 0;
		return refuse(task, "running", 0);
	}

	if (preempted_under_kretprobe(task))
		return refuse(task, "preempted in a function with a kretprobe", 0);

	nr = kpatch_save_stack_reliable(task, sw.entries, MAX_ENTRIES);
	if (nr < 0) {
		sw.nr_entries = kpatch_save_stack(task, sw.entries, MAX_ENTRIES);
		return refuse(task, "stack is not reliable", 0);
	}
	sw.nr_entries = nr;
	for (i = 0; i < sw.nr_entries; i++) {
		const char *name = unsafe_entry(task, i);

		if (name)
			return refuse(task, name, sw.entries[i]);
	}
	return 0;
}

static int check_all_tasks(void)
{
	struct task_struct *process, *task;
	int cpu, err;

	for_each_process_thread(process, task) {
		err = check_task(task);
		if (err)
			return err;
	}
	for_each_online_cpu(cpu) {
		err = check_task(kpatch_idle_task(cpu));
		if (err)
			return err;
	}
	return 0;
}

/* Ask every other CPU whether it is outside of NMIs, and switch. */
static int ask_and_commit(void)
{
	kpatch_commit_begin();
	smp_store_release(&sw.phase, ASKING);
	while (atomic_read(&sw.answered) < num_online_cpus() - 1)
		cpu_relax();
	if (!kpatch_commit())
		return 0;
	sw.why = "calls from an NMI handler";
	return -EBUSY;
}

static void call_hooks(const struct kpatch_patch *patch, bool apply)
{
	const struct kpatch_target_object *object;

	for_each_object(patch, object) {
		const struct kpatch_callbacks *calls = &object->desc->callbacks;
		void (*hook)(const struct kpatch_object *desc) = apply ? calls->load : calls->unload;

		/* A superseded patch is switched once more, to check its module, without any callback. */
		if (hook && object->phase == (apply ? KPATCH_PATCHING : KPATCH_UNPATCHING))
			hook(object->desc);
	}
}

/* The other CPUs: wait for the question, and answer it, which an NMI handler here would delay. */
static int answer(void)
{
	while (smp_load_acquire(&sw.phase) == CHECKING)
		cpu_relax();
	if (sw.phase == ASKING)
		atomic_inc(&sw.answered);
	return 0;
}

/*
 * Runs on every CPU, with interrupts off; the first one does the work.  Nothing here allocates, sleeps, takes a
 * lock or prints.
 */
static int switch_stopped(void *unused)
{
	u64 start;

	if (atomic_inc_return(&sw.entered) > 1)
		return answer();

	start = ktime_get_ns();
	sw.err = sw.unsafe.nr || !list_empty(&sw.leaving) ? check_all_tasks() : 0;
	sw.err = sw.err ?: ask_and_commit();
	smp_store_release(&sw.phase, DONE);
	if (!sw.err)
		call_hooks(sw.patch, sw.apply);
	sw.stop_ns = ktime_get_ns() - start;
	return 0;
}

/*
 * Runs in a worker, while the caller sleeps.  The thread that stops the machine is preempted at once, and
 * the unwinder does not vouch for a preempted stack with a kretprobe on it (rethook_find_ret_addr()): one on
 * the way to loading and unloading modules would stop every switch.
 */
static void stop_and_switch(struct work_struct *work)
{
	while (task_is_running(sw.caller))
		usleep_range(100, 200);
	atomic_set(&sw.entered, 0);
	atomic_set(&sw.answered, 0);
	sw.phase = CHECKING;
	sw.nr_tasks = 0;
	sw.nr_entries = 0;
	sw.why = NULL;
	sw.where = 0;
	sw.comm[0] = '\0';
	sw.err = stop_machine(switch_stopped, NULL, cpu_online_mask) ?: sw.err;
}

/* Log who stood in the way, and its stack. */
static void log_refusal(const struct kpatch_patch *patch)
{
	const char *name = patch->kpmod->name;
	unsigned int i;

	if (!sw.why)
		return;
	if (!sw.comm[0])
		pr_warn("%s: refused: %s\n", name, sw.why);
	else if (sw.where)
		pr_warn("%s: refused: task %s (pid %d) is in %s at %pS\n", name, sw.comm, sw.pid, sw.why,
			(void *)sw.where);
	else
		pr_warn("%s: refused: task %s (pid %d): %s\n", name, sw.comm, sw.pid, sw.why);
	for (i = 0; i < sw.nr_entries; i++)
		pr_warn("%s:   stack of pid %d: %pS\n", name, sw.pid, (void *)sw.entries[i]);
}

u64 kpatch_last_stop_ns(void)
{
	return sw.stop_ns;
}

static bool add_code(struct kpatch_ranges *ranges, unsigned long start, unsigned long end, const char *name)
{
	struct kpatch_range *range = ranges->range;

	/* Twice as many whenever their number reaches a power of two. */
	if (!(ranges->nr & (ranges->nr - 1))) {
		range = krealloc_array(range, ranges->nr * 2 ?: 1, sizeof(*range), GFP_KERNEL);
		if (!range)
			return false;
		ranges->range = range;
	}
	range[ranges->nr++] = (struct kpatch_range){ .start = start, .end = end, .name = name };
	return true;
}

/* Sort and merge, so that find_range() needs to look at one range only. */
static void sort_ranges(struct kpatch_ranges *ranges)
{
	struct kpatch_range *last = ranges->range;
	size_t i;

	if (!ranges->nr)
		return;
	sort(ranges->range, ranges->nr, sizeof(*ranges->range), compare_ranges, NULL);
	for (i = 1; i < ranges->nr; i++) {
		struct kpatch_range *range = &ranges->range[i];

		if (range->start < last->end)
			last->end = max(last->end, range->end);
		else
			*++last = *range;
	}
	ranges->nr = last - ranges->range + 1;
}

static bool add_entry(struct kpatch_ranges *ranges, const struct kpatch_target *target)
{
	return add_code(ranges, target->ip, target->ip + MCOUNT_INSN_SIZE, target->func->old_name);
}

/* The kernel's own version of a function. */
static bool add_kernel_version(struct kpatch_ranges *ranges, const struct kpatch_target *target)
{
	const struct kpatch_func *func = target->func;
	struct kpatch_symbol symbol;
	size_t i;

	if (!add_code(ranges, target->addr, target->addr + target->size, func->old_name))
		return false;
	for (i = 0; i < func->nr_old_parts; i++) {
		const struct kpatch_part *part = &func->old_parts[i];

		/* It has been found before, when it was verified. */
		if (kpatch_find_symbol(target->object->mod, part->name, part->sympos, &symbol) ||
		    !add_code(ranges, symbol.addr, symbol.addr + symbol.size, part->name))
			return false;
	}
	return true;
}

/* The version of a function that its callers get now, and the way to it. */
static bool add_version(struct kpatch_ranges *ranges, const struct kpatch_target *target)
{
	const struct kpatch_target *active = kpatch_active_target(target->site);
	size_t i;

	if (!active)
		return add_kernel_version(ranges, target);
	for (i = 0; i < active->new_code.nr; i++)
		if (!add_code(ranges, active->new_code.range[i].start, active->new_code.range[i].end,
			      target->func->old_name))
			return false;
	return add_entry(ranges, target);
}

static bool add_leaving(struct kpatch_patch *patch)
{
	const struct kpatch_target_object *object;
	const struct kpatch_target *target;

	list_add_tail(&patch->leaving, &sw.leaving);
	for_each_object(patch, object)
		for_each_target(object, target)
			if (target->site && !add_entry(&sw.unsafe, target))
				return false;
	return true;
}

/* Lay out what the check will need, as it cannot allocate. */
static int prepare(struct kpatch_patch *patch, bool apply, bool replace)
{
	const struct kpatch_target_object *object;
	const struct kpatch_target *target;
	struct kpatch_patch *other;
	bool ok = true;

	kpatch_plan(patch, apply);
	if (!apply)
		ok = add_leaving(patch);
	if (replace) {
		list_for_each_entry(other, &kpatch_patches, list) {
			if (other == patch || !kpatch_applied(other))
				continue;
			kpatch_plan(other, false);
			/* Also when there was no memory: clean_up() takes the plan back. */
			ok &= add_leaving(other);
		}
	}
	if (apply)
		for_each_object(patch, object)
			for_each_target(object, target)
				ok = ok && add_version(target->func->force_unsafe ? &sw.forced : &sw.unsafe,
						       target);
	sort_ranges(&sw.unsafe);
	sort_ranges(&sw.forced);
	return ok ? 0 : -ENOMEM;
}

static void clean_up(void)
{
	struct kpatch_patch *patch, *next;

	list_for_each_entry_safe(patch, next, &sw.leaving, leaving) {
		kpatch_settle(patch);
		list_del(&patch->leaving);
	}
	kpatch_settle(sw.patch);
	kfree(sw.unsafe.range);
	kfree(sw.forced.range);
	sw.unsafe = sw.forced = (struct kpatch_ranges){};
}

/**
 * kpatch_switch - apply a patch or undo it, for all its functions at one instant
 * @patch:	the patch; to be applied, its functions are on their sites already
 * @apply:	apply or undo; undoing a patch that is not applied only checks that nobody is in its module
 * @replace:	undo all other patches at the same instant
 * @quiet:	do not log who stood in the way
 *
 * A switch that a task stands in the way of is tried again: TRIES times, RETRY_MS apart.
 *
 * When a patch is unregistered, the calling task may be inside the function of the patch module that has
 * called the core, but nowhere else in the module.
 *
 * Return: 0; or, with nothing changed, -EBUSY if a task stands in the way, or -ENOMEM.
 */
int kpatch_switch(struct kpatch_patch *patch, bool apply, bool replace, bool quiet)
{
	int tries, err;

	sw.patch = patch;
	sw.apply = apply;
	sw.caller = current;
	sw.why = NULL;	/* may be a name in a module that is gone */
	err = prepare(patch, apply, replace);
	for (tries = 1; !err; tries++) {
		INIT_WORK(&sw.work, stop_and_switch);
		queue_work(system_unbound_wq, &sw.work);
		flush_work(&sw.work);
		err = sw.err;
		if (!err || tries == TRIES)
			break;
		msleep(RETRY_MS);
		err = 0;
	}
	if (!err) {
		const struct kpatch_target_object *object;
		size_t nr = 0;

		for_each_object(patch, object)
			nr += object->nr_targets;
		pr_info("%s: %s: %zu functions, %u tasks checked, stopped for %llu ns\n",
			patch->kpmod->name, apply ? "applied" : "undone", nr, sw.nr_tasks, sw.stop_ns);
	} else if (!quiet) {
		log_refusal(patch);
	}
	clean_up();
	return err;
}

static int call_hook(void *data)
{
	const struct kpatch_object *object = data;

	sw.hook(object);
	return 0;
}

/* Call a hook of one object, of a module that comes or goes, with the machine stopped. */
void kpatch_call_stopped(void (*hook)(const struct kpatch_object *object),
			 const struct kpatch_object *object)
{
	if (!hook)
		return;
	sw.hook = hook;
	stop_machine(call_hook, (void *)object, NULL);
}

int kpatch_switch_init(void)
{
	sw.entries = kcalloc(MAX_ENTRIES, sizeof(*sw.entries), GFP_KERNEL);
	return sw.entries ? 0 : -ENOMEM;
}

void kpatch_switch_exit(void)
{
	kfree(sw.entries);
}
