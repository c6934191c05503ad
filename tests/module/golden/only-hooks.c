// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Says \"* /\" and \\
 *
 * Patch module "only-hooks" for kernel 6.1.0-50-amd64 (6.1.176-1).
 * Generated from the manifest; edit that.
 */
#include <linux/module.h>
#include "kpatch.h"
/* The hooks take no argument, so that one source fits every backend. */
extern void hook_1_post_patch(void) asm("do_post_patch");

static void object_1_post_patch(const struct kpatch_object *object)
{
	hook_1_post_patch();
}

extern void hook_1_pre_unpatch(void) asm("do_pre_unpatch");

static void object_1_pre_unpatch(const struct kpatch_object *object)
{
	hook_1_pre_unpatch();
}

static const struct kpatch_object objects[] = {
	{
		.callbacks = {
			.post_patch = object_1_post_patch,
			.pre_unpatch = object_1_pre_unpatch,
		},
	},
};

static const u8 build_id[] = {
	0x06, 0xf8, 0xbd, 0xe3, 0x00, 0x46, 0x98, 0x50, 0x60, 0xc6,
	0x08, 0x20, 0xf7, 0xa1, 0x15, 0x15, 0xa3, 0x3a, 0xfb, 0x06,
};

static struct kpatch_module patch = {
	.mod = THIS_MODULE,
	.name = "only-hooks",
	.release = "6.1.0-50-amd64",
	.build_id = build_id,
	.build_id_size = sizeof(build_id),
	.objects = objects,
	.nr_objects = ARRAY_SIZE(objects),
};

static bool replace;
module_param(replace, bool, 0);
MODULE_PARM_DESC(replace, "supersede all other patches when this one is applied");

static int __init patch_init(void)
{
	return kpatch_register(&patch, replace);
}

static void __exit patch_exit(void)
{
	kpatch_unregister(&patch);
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Says \"* /\" and \\");
MODULE_INFO(kpatch, "only-hooks");
MODULE_INFO(kpatch_release, "6.1.0-50-amd64");
MODULE_INFO(kpatch_build_id, "06f8bde30046985060c60820f7a11515a33afb06");
