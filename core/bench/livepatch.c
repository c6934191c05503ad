// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The same patch for the kernel's own livepatch.  The parameter transition_ns says how long the transition took, from
 * when it began to when the last task had been switched; 0 before that.
 */
#include <linux/kprobes.h>
#include <linux/ktime.h>
#include <linux/livepatch.h>
#include <linux/module.h>

#include "functions.h"

static unsigned int nr = NR_FUNCTIONS;	module_param(nr, uint, 0);
static unsigned long transition_ns;	module_param(transition_ns, ulong, 0400);

static int zero;
static u64 start;

EACH(REPLACEMENT)

#define ENTRY(n) { .old_name = "kpb_" #n, .new_func = new_##n },
static struct klp_func funcs[NR_FUNCTIONS + 1] = { EACH(ENTRY) };

static void post_patch(struct klp_object *object)
{
	WRITE_ONCE(transition_ns, ktime_get_ns() - start);
}

static struct klp_object objects[] = {
	{ .name = "kpb_target", .funcs = funcs, .callbacks.post_patch = post_patch },
	{ }
};
static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int begin(struct kprobe *probe, struct pt_regs *regs)
{
	start = ktime_get_ns();
	return 0;
}

static int __init livepatch_init(void)
{
	struct kprobe probe = { .symbol_name = "klp_start_transition", .pre_handler = begin };
	int err;

	if (nr > NR_FUNCTIONS)
		return -EINVAL;
	funcs[nr] = (struct klp_func){ };
	err = register_kprobe(&probe);
	if (err)
		return err;
	err = klp_enable_patch(&patch);
	unregister_kprobe(&probe);
	return err;
}

static void __exit livepatch_exit(void)
{
}

module_init(livepatch_init);
module_exit(livepatch_exit);
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("kpatch bench: a kernel livepatch");
MODULE_LICENSE("GPL");
