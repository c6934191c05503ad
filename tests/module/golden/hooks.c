// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Says \"* /\" and \\
 *
 * Patch module "hooks" for kernel 6.1.0-50-amd64 (6.1.176-1).
 * Generated from the manifest; edit that.
 */
#include <linux/module.h>
#include "kpatch.h"

/* The new functions; the patch object of each source file defines them. */
extern void new_1(void) asm("show");

/* Exported symbols from which those that are not exported are reached. */
extern const char anchor_1[] asm("FSE_readNCount");

/* The old code as it was shipped, and what the running kernel may have changed of it: offset, size. */
static const u8 code_1[] = {
	0x00, 0x07, 0x0e, 0x15, 0x1c, 0x23, 0x2a, 0x31, 0x38, 0x3f, 0x46, 0x4d, 0x54, 0x5b, 0x62, 0x69,
	0x70, 0x77, 0x7e, 0x85, 0x8c, 0x93, 0x9a, 0xa1, 0xa8, 0xaf, 0xb6, 0xbd, 0xc4, 0xcb, 0xd2, 0xd9,
};
static const struct kpatch_span spans_1[] = {
	{ 0x0, 5 },
};

static const struct kpatch_func funcs_1[] = {
	{
		.old_name = "show",
		.old_sympos = 1,
		.old_addr = 0xffffffff81000010,
		.old_size = 32,
		.old_code = { code_1, spans_1, ARRAY_SIZE(spans_1) },
		.new_func = new_1,
	},
};

/* What the patched code reaches; the core compares each address with the running kernel's symbols. */
static const struct kpatch_reference references_1[] = {
	{ "after", 1, anchor_1 + 0x4000 },
};

/* The hooks take no argument, so that one source fits every backend. */
extern int hook_1_pre_patch(void) asm("do_pre_patch");

static int object_1_pre_patch(const struct kpatch_object *object)
{
	return hook_1_pre_patch();
}

extern void hook_1_load(void) asm("do_load");

static void object_1_load(const struct kpatch_object *object)
{
	hook_1_load();
}

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

extern void hook_1_unload(void) asm("do_unload");

static void object_1_unload(const struct kpatch_object *object)
{
	hook_1_unload();
}

extern void hook_1_post_unpatch(void) asm("do_post_unpatch");

static void object_1_post_unpatch(const struct kpatch_object *object)
{
	hook_1_post_unpatch();
}

static const struct kpatch_object objects[] = {
	{
		.funcs = funcs_1,
		.nr_funcs = ARRAY_SIZE(funcs_1),
		.references = references_1,
		.nr_references = ARRAY_SIZE(references_1),
		.callbacks = {
			.pre_patch = object_1_pre_patch,
			.load = object_1_load,
			.post_patch = object_1_post_patch,
			.pre_unpatch = object_1_pre_unpatch,
			.unload = object_1_unload,
			.post_unpatch = object_1_post_unpatch,
		},
	},
};

static const u8 build_id[] = {
	0x06, 0xf8, 0xbd, 0xe3, 0x00, 0x46, 0x98, 0x50, 0x60, 0xc6,
	0x08, 0x20, 0xf7, 0xa1, 0x15, 0x15, 0xa3, 0x3a, 0xfb, 0x06,
};

static struct kpatch_module patch = {
	.mod = THIS_MODULE,
	.name = "hooks",
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
MODULE_INFO(kpatch, "hooks");
MODULE_INFO(kpatch_release, "6.1.0-50-amd64");
MODULE_INFO(kpatch_build_id, "06f8bde30046985060c60820f7a11515a33afb06");
