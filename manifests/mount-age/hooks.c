// SPDX-License-Identifier: GPL-2.0-or-later
/* The age of a mount: what fs/namespace.c and fs/proc_namespace.c call, and the hook that ends it. */
#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/timekeeping.h>
#include "kpatch.h"

#define MOUNT_AGE 0x6d6f756e74 /* "mount": which shadow variable of an object it is */

void mount_age_begin(void *mnt);
void mount_age_end(void *mnt);
void mount_age_show(struct seq_file *m, void *mnt);

/* How many there are: /sys/module/kpatch_mount_age/parameters/known (or livepatch_) */
static atomic_t known = ATOMIC_INIT(0);
module_param_named(known, known.counter, int, 0444);

static int begin(void *mnt, void *data, void *unused)
{
	*(time64_t *)data = ktime_get_seconds();
	atomic_inc(&known);
	return 0;
}

static void end(void *mnt, void *data)
{
	atomic_dec(&known);
}

void mount_age_begin(void *mnt)
{
	/* Without memory for it the mount has no age, as the older ones have none. */
	kpatch_shadow_alloc(mnt, MOUNT_AGE, sizeof(time64_t), GFP_KERNEL, begin, NULL);
}

void mount_age_show(struct seq_file *m, void *mnt)
{
	time64_t *made = kpatch_shadow_get(mnt, MOUNT_AGE);

	if (made)
		seq_printf(m, " age=%lld", ktime_get_seconds() - *made);
}

void mount_age_end(void *mnt)
{
	kpatch_shadow_free(mnt, MOUNT_AGE, end);
}

/* post_unpatch: nobody calls the functions above any more, and mounts may still have an age. */
void forget_all(void)
{
	int before = atomic_read(&known);

	kpatch_shadow_free_all(MOUNT_AGE, end);
	pr_info("mount-age: forgot %d, %d left\n", before, atomic_read(&known));
}
