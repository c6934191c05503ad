// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Uses shadow variables as hard as it can: threads on every CPU find, make and free the same few.  Does
 * not load unless each variable was set up once, torn down once, and never seen half made.
 */
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/smp.h>

#include "kpatch.h"

#define NR_OBJECTS 4
#define NR_IDS 2
#define RACE_ID 100
#define LEFT_ID 200
#define MAGIC 0x6b70617463680000UL
#define LEFT_SIZE (64 << 10)

static int seconds = 3;		module_param(seconds, int, 0);
static int left;		module_param(left, int, 0);

struct variable {
	void *obj;
	unsigned long magic;
};

static int objects[NR_OBJECTS];
static char left_objects[4096];
static atomic_t made, unmade, running, winners, wrong, found;
static struct completion start, done;

static void complain(const char *what)
{
	if (atomic_inc_return(&wrong) < 10)
		pr_err("kpt_shadow: %s\n", what);
}

static int make(void *obj, void *data, void *ctor_data)
{
	struct variable *variable = data;

	if (variable->obj || variable->magic || !irqs_disabled())
		complain("is not zero, or was made without the lock");
	variable->obj = obj;
	variable->magic = *(unsigned long *)ctor_data;
	atomic_inc(&made);
	return 0;
}

static int fail(void *obj, void *data, void *ctor_data)
{
	return -EINVAL;
}

static void unmake(void *obj, void *data)
{
	struct variable *variable = data;

	if (variable->obj != obj || variable->magic != MAGIC)
		complain("was not made, or unmade twice");
	if (irqs_disabled())
		complain("is unmade under a lock");
	variable->magic = 0;
	atomic_inc(&unmade);
}

static void look(void *obj, unsigned long id)
{
	struct variable *variable;

	rcu_read_lock();
	variable = kpatch_shadow_get(obj, id);
	if (variable) {
		atomic_inc(&found);
		if (variable->obj != obj || !IS_ALIGNED((unsigned long)variable, 8))
			complain("another object's variable");
	}
	rcu_read_unlock();
}

static int hammer(void *arg)
{
	unsigned long seed = (unsigned long)arg, magic = MAGIC, end, i;
	struct variable *variable;

	wait_for_completion(&start);
	variable = kpatch_shadow_alloc(objects, RACE_ID, sizeof(*variable), GFP_KERNEL, make, &magic);
	if (variable)
		atomic_inc(&winners);
	end = jiffies + seconds * HZ;
	for (i = 0; time_before(jiffies, end); i++) {
		void *obj;
		unsigned long id;

		seed = seed * 6364136223846793005UL + 1442695040888963407UL;
		obj = &objects[(seed >> 33) % NR_OBJECTS];
		id = 1 + (seed >> 40) % NR_IDS;
		switch ((seed >> 50) % 4) {
		case 0:
			/* Another thread may free it at once. */
			if (!kpatch_shadow_get_or_alloc(obj, id, sizeof(*variable), GFP_KERNEL, make, &magic))
				complain("no memory");
			break;
		case 1:
			kpatch_shadow_free(obj, id, unmake);
			break;
		case 2:
			if (i % 16 == 0)
				kpatch_shadow_free_all(id, unmake);
			break;
		}
		look(obj, id);
		cond_resched();
	}
	if (atomic_dec_and_test(&running))
		complete(&done);
	return 0;
}

/* In an interrupt. */
static void atomically(void *unused)
{
	unsigned long magic = MAGIC;

	if (!kpatch_shadow_get_or_alloc(&objects[0], 1, sizeof(struct variable), GFP_ATOMIC, make, &magic))
		complain("none in an interrupt");
	look(&objects[0], 1);
	kpatch_shadow_free(&objects[0], 1, NULL);
	atomic_dec(&made);
	if (kpatch_shadow_get(&objects[0], 1))
		complain("still there");
}

static void hammer_everywhere(void)
{
	struct task_struct *thread;
	int cpu, copy;

	init_completion(&start);
	init_completion(&done);
	atomic_set(&running, 1);
	for_each_online_cpu(cpu) {
		for (copy = 0; copy < 3; copy++) {
			thread = kthread_create(hammer, (void *)(cpu * 16UL + copy), "kpt-shadow");
			if (IS_ERR(thread))
				continue;
			atomic_inc(&running);
			kthread_bind(thread, cpu);
			wake_up_process(thread);
		}
	}
	complete_all(&start);
	if (!atomic_dec_and_test(&running))
		wait_for_completion(&done);
	msleep(100);	/* the threads are about to leave this module's code */
}

static int __init shadow_init(void)
{
	unsigned long magic = MAGIC;
	int i;

	if (kpatch_shadow_get(objects, 1))
		complain("found where there is none");
	if (kpatch_shadow_alloc(objects, 1, 8, GFP_KERNEL, fail, NULL) || kpatch_shadow_get(objects, 1))
		complain("is there though its constructor failed");
	if (kpatch_shadow_alloc(objects, 1, SIZE_MAX, GFP_KERNEL | __GFP_NOWARN, NULL, NULL))
		complain("has the size of everything");
	kpatch_shadow_free(objects, 1, unmake);
	if (!kpatch_shadow_alloc(objects, 1, sizeof(struct variable), GFP_KERNEL, make, &magic) ||
	    kpatch_shadow_alloc(objects, 1, sizeof(struct variable), GFP_KERNEL, make, &magic))
		complain("is there twice");
	if (kpatch_shadow_get(objects, 2) || kpatch_shadow_get(&objects[1], 1))
		complain("found under another id or object");
	kpatch_shadow_free(objects, 1, unmake);

	for_each_online_cpu(i)
		smp_call_function_single(i, atomically, NULL, 1);
	hammer_everywhere();
	kpatch_shadow_free_all(1, unmake);
	kpatch_shadow_free_all(2, unmake);
	kpatch_shadow_free_all(RACE_ID, unmake);
	for (i = 0; i < NR_OBJECTS; i++)
		if (kpatch_shadow_get(&objects[i], 1) || kpatch_shadow_get(&objects[i], 2))
			complain("was not freed");
	if (atomic_read(&winners) != 1)
		complain("not made by exactly one thread");
	if (atomic_read(&made) != atomic_read(&unmade))
		complain("made and unmade differ");

	for (i = 0; i < left && i < sizeof(left_objects); i++)
		if (!kpatch_shadow_alloc(&left_objects[i], LEFT_ID, LEFT_SIZE, GFP_KERNEL, NULL, NULL))
			complain("no memory to leave");
	pr_info("kpt_shadow: made %d, unmade %d, found %d\n", atomic_read(&made), atomic_read(&unmade),
		atomic_read(&found));
	return atomic_read(&wrong) ? -EINVAL : 0;
}

static void __exit shadow_exit(void)
{
}

module_init(shadow_init);
module_exit(shadow_exit);
MODULE_DESCRIPTION("kpatch tests: shadow variables");
MODULE_LICENSE("GPL");
