// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: the switch, and the check that makes it safe.
 *
 * The machine is stopped: on every online CPU, stop_machine's thread spins with interrupts off, and one of
 * them looks at the stack of every task.  If a task is inside an old function (or, when a patch is undone,
 * inside the patch module), the switch is refused and nothing has changed.  Otherwise one store
 * switches all functions of the patch at once.
 *
 * Which tasks are looked at:
 *
 * - All threads in the task list, and the idle task of every online CPU.  None of them runs, so the stack
 *   that was saved when it was last switched away from is what it will go on with.  A stack that the
 *   kernel's unwinder does not vouch for counts as unsafe.
 * - The thread that does the check, and the worker that has stopped the machine: like any other.
 * - stop_machine's threads on the other CPUs run, so there is nothing saved to look at.  They are skipped:
 *   they came to the same loop in multi_cpu_stop() by the same functions as the thread that does the check,
 *   and what they call from that loop returns at once.  No other thread can be running; one that
 *   seems to be is unsafe.
 * - The idle task of an offline CPU is skipped: that CPU is parked, its task's saved stack is stale, and
 *   the CPU comes back through its start-up code.  The few functions in which it is parked (play_dead)
 *   must not be patched: nothing here sees that they are in use.
 *
 * Interrupt handlers are done before the machine stops.  An NMI is not, nor is a task that has left
 * the task list and is just dying: these finish in the old code, which stays where it is;
 * kpatch_unredirect() waits for them before a patch module's code is freed.
 *
 * Which addresses count: an address on a stack is where a call returns to.  If the call is the last
 * instruction of a function, that is one past the function's end, so the end is inclusive.  The start
 * is inclusive as well: a task can be preempted there.  Ranges are sorted, so the cost of the check is
 * tasks times depth of their stacks, and hardly depends on the number of functions.
 *
 * Between the handler's decision and its effect a task can be preempted: its stack then shows the return
 * address of the call to ftrace, in the old function.  When a patch is applied, that is in the old
 * function's range.  When it is undone, the task may be on its way to the new function, so the bytes after
 * each ftrace location are checked too.
 */
#include "internal.h"

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

/* One switch, and what stood in its way.  There is one at a time (kpatch_mutex). */
static struct {
	struct work_struct work;
	struct kpatch_patch *patch;
	const struct kpatch_ranges *ranges;
	const struct task_struct *caller;	/* of kpatch_switch() */
	bool apply;

	unsigned long *entries;			/* the stack being looked at */
	unsigned int nr_entries;
	unsigned int nr_tasks;
	int err;
	u64 stop_ns;

	const char *why;			/* the refusal, for kpatch_log_refusal() */
	unsigned long where;
	pid_t pid;
	char comm[TASK_COMM_LEN];
} sw;

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
static bool is_call_of_core(const struct task_struct *task, unsigned int entry)
{
	return task == sw.caller && sw.patch->state == KPATCH_LEAVING && entry &&
	       within_module_core(sw.entries[entry - 1], THIS_MODULE);
}

/* Would the task go on inside code that must not be in use?  Gives the code's name, or NULL. */
static const char *unsafe_entry(const struct task_struct *task, unsigned int entry)
{
	unsigned long addr = sw.entries[entry];
	const struct kpatch_range *range = find_range(sw.ranges, addr);

	if (range)
		return range->name;
	if (!sw.apply && within_module(addr, sw.patch->kpmod->mod) && !is_call_of_core(task, entry))
		return "the patch module";
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

/* Runs on one CPU, with all others stopped.  Nothing here allocates, sleeps, takes a lock or prints. */
static int switch_stopped(void *data)
{
	struct kpatch_patch *patch = data;
	u64 start = ktime_get_ns();
	int err;

	err = check_all_tasks();
	if (!err)
		WRITE_ONCE(patch->applied, sw.apply);
	sw.stop_ns = ktime_get_ns() - start;
	return err;
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
	sw.err = stop_machine(switch_stopped, sw.patch, NULL);
}

/**
 * kpatch_switch - apply a patch or undo it, for all its functions at one instant
 * @patch:	the patch; ftrace already calls the handler for its functions
 * @apply:	apply or undo
 *
 * When a patch is unregistered, the calling task may be inside the function of the patch module that has
 * called the core, but nowhere else in the module.
 *
 * Return: 0, or -EBUSY if a task stands in the way, and then nothing has changed; see
 * kpatch_log_refusal().
 */
int kpatch_switch(struct kpatch_patch *patch, bool apply)
{
	sw.patch = patch;
	sw.ranges = apply ? &patch->old_ranges : &patch->new_ranges;
	sw.caller = current;
	sw.apply = apply;
	sw.nr_tasks = 0;
	sw.why = NULL;

	INIT_WORK(&sw.work, stop_and_switch);
	queue_work(system_unbound_wq, &sw.work);
	flush_work(&sw.work);
	if (!sw.err)
		pr_info("%s: %s: %zu functions, %u tasks checked, stopped for %llu ns\n",
			patch->kpmod->name, apply ? "applied" : "undone", patch->nr_targets, sw.nr_tasks,
			sw.stop_ns);
	return sw.err;
}

/* Log which task stood in the way of the last kpatch_switch(), and its stack. */
void kpatch_log_refusal(const struct kpatch_patch *patch)
{
	const char *name = patch->kpmod->name;
	unsigned int i;

	if (!sw.why)
		return;
	if (sw.where)
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

static void add_code(struct kpatch_ranges *ranges, unsigned long start, unsigned long size,
		     const char *name)
{
	ranges->range[ranges->nr++] = (struct kpatch_range){
		.start = start, .end = start + size, .name = name,
	};
}

/* Sort, and make sure that find_range() needs to look at one range only. */
static int sort_ranges(const struct kpatch_patch *patch, struct kpatch_ranges *ranges)
{
	size_t i;

	sort(ranges->range, ranges->nr, sizeof(*ranges->range), compare_ranges, NULL);
	for (i = 1; i < ranges->nr; i++) {
		if (ranges->range[i - 1].end > ranges->range[i].start) {
			pr_err("%s: %s and %s overlap\n", patch->kpmod->name, ranges->range[i - 1].name,
			       ranges->range[i].name);
			return -EINVAL;
		}
	}
	return 0;
}

static int add_old_parts(struct kpatch_patch *patch, const struct kpatch_target *target)
{
	const struct kpatch_func *func = target->func;
	size_t i;

	for (i = 0; i < func->nr_old_parts; i++) {
		struct kpatch_symbol symbol;
		int err = kpatch_find_symbol(target->object->mod, func->old_parts[i].name,
					     func->old_parts[i].sympos, &symbol);

		if (err)
			return err;
		add_code(&patch->old_ranges, symbol.addr, symbol.size, func->old_parts[i].name);
	}
	return 0;
}

/**
 * kpatch_prepare_switch - lay out what the checks will need, as they cannot allocate
 * @patch:	verified: its targets are known
 *
 * Return: 0 or -ENOMEM; -EINVAL if functions overlap.  The patch owns what was allocated.
 */
int kpatch_prepare_switch(struct kpatch_patch *patch)
{
	const struct kpatch_target *target;
	size_t nr = 0, i = 0;
	int err;

	for_each_target(patch, target)
		nr += 1 + target->func->nr_old_parts;
	patch->old_ranges.range = kvcalloc(nr, sizeof(struct kpatch_range), GFP_KERNEL);
	patch->new_ranges.range = kvcalloc(patch->nr_targets, sizeof(struct kpatch_range), GFP_KERNEL);
	patch->ips = kvcalloc(patch->nr_targets, sizeof(*patch->ips), GFP_KERNEL);
	if (!patch->old_ranges.range || !patch->new_ranges.range || !patch->ips)
		return -ENOMEM;

	for_each_target(patch, target) {
		patch->ips[i++] = target->ip;
		add_code(&patch->new_ranges, target->ip, MCOUNT_INSN_SIZE, target->func->old_name);
		if (target->func->force_unsafe)
			continue;
		add_code(&patch->old_ranges, target->addr, target->size, target->func->old_name);
		err = add_old_parts(patch, target);
		if (err)
			return err;
	}
	return sort_ranges(patch, &patch->old_ranges) ?: sort_ranges(patch, &patch->new_ranges);
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
