// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Says \"* /\" and \\
 *
 * Patch module "all" for kernel 6.1.0-50-amd64 (6.1.176-1).
 * Generated from the manifest; edit that.
 */
#include <linux/module.h>
#include "kpatch.h"

/* The new functions; the patch object of each source file defines them. */
extern void new_1(void) asm("show");
extern void new_2(void) asm("work.isra.0.fs_b");
extern void new_3(void) asm("rest");

/* Exported symbols from which those that are not exported are reached. */
extern const char anchor_1[] asm("FSE_readNCount");
extern const char anchor_2[] asm("__preempt_count");

/* The old code as it was shipped, and what the running kernel may have changed of it: offset, size. */
static const u8 code_1[] = {
	0x00, 0x07, 0x0e, 0x15, 0x1c, 0x23, 0x2a, 0x31, 0x38, 0x3f, 0x46, 0x4d, 0x54, 0x5b, 0x62, 0x69,
	0x70, 0x77, 0x7e, 0x85, 0x8c, 0x93, 0x9a, 0xa1, 0xa8, 0xaf, 0xb6, 0xbd, 0xc4, 0xcb, 0xd2, 0xd9,
};
static const struct kpatch_span spans_1[] = {
	{ 0x0, 5 },
};

static const u8 code_2[] = {
	0x00, 0x07, 0x0e, 0x15, 0x1c, 0x23, 0x2a, 0x31, 0x38, 0x3f, 0x46, 0x4d, 0x54, 0x5b, 0x62, 0x69,
	0x70, 0x77, 0x7e, 0x85, 0x8c, 0x93, 0x9a, 0xa1, 0xa8, 0xaf, 0xb6, 0xbd, 0xc4, 0xcb, 0xd2, 0xd9,
	0xe0, 0xe7, 0xee, 0xf5, 0xfc, 0x03, 0x0a, 0x11,
};
static const struct kpatch_span spans_2[] = {
	{ 0x0, 5 }, { 0x6, 4 }, { 0xc, 1 }, { 0x10, 4 }, { 0x18, 4 }, { 0x1e, 2 },
	{ 0x21, 7 },
};

static const u8 code_2_1[] = {
	0x00, 0x07, 0x0e, 0x15, 0x1c, 0x23, 0x2a, 0x31, 0x38, 0x3f, 0x46, 0x4d, 0x54, 0x5b, 0x62, 0x69,
	0x70,
};
static const struct kpatch_span spans_2_1[] = {
	{ 0x1, 4 },
};

static const u8 code_2_2[] = {
	0x00, 0x07, 0x0e, 0x15, 0x1c,
};

static const struct kpatch_part parts_of_2[] = {
	{
		"work.isra.0.cold", 1, 0xffffffff81900000, 17,
		{ code_2_1, spans_2_1, ARRAY_SIZE(spans_2_1) },
	},
	{
		"work.isra.0.cold.1", 3, 0xffffffff81900100, 5,
		{ code_2_2 },
	},
};

static const u8 code_3[] = {
	0x00, 0x07, 0x0e, 0x15, 0x1c, 0x23, 0x2a,
};
static const struct kpatch_span spans_3[] = {
	{ 0x0, 5 },
};

static const u8 code_3_1[] = {
	0x00, 0x07, 0x0e, 0x15, 0x1c, 0x23, 0x2a, 0x31, 0x38,
};

static const struct kpatch_part parts_of_3[] = {
	{
		"rest.cold", 2, 0xffffffff81900200, 9,
		{ code_3_1 },
	},
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
	{
		.old_name = "work.isra.0",
		.old_sympos = 2,
		.old_addr = 0xffffffff81001000,
		.old_size = 40,
		.old_code = { code_2, spans_2, ARRAY_SIZE(spans_2) },
		.old_parts = parts_of_2,
		.nr_old_parts = ARRAY_SIZE(parts_of_2),
		.new_func = new_2,
		.force_unsafe = true,
	},
	{
		.old_name = "rest",
		.old_sympos = 3,
		.old_addr = 0xffffffff81003000,
		.old_size = 7,
		.old_code = { code_3, spans_3, ARRAY_SIZE(spans_3) },
		.old_parts = parts_of_3,
		.nr_old_parts = ARRAY_SIZE(parts_of_3),
		.new_func = new_3,
	},
};

/* What the patched code reaches; the core compares each address with the running kernel's symbols. */
static const struct kpatch_reference references_1[] = {
	{ "after", 1, anchor_1 + 0x4000 },
	{ "before", 4, anchor_1 - 0x800 },
	{ "per_cpu", 1, anchor_2 + 0x40 },
	{ "same", 1, anchor_1 + 0x0 },
};

static const struct kpatch_object objects[] = {
	{
		.funcs = funcs_1,
		.nr_funcs = ARRAY_SIZE(funcs_1),
		.references = references_1,
		.nr_references = ARRAY_SIZE(references_1),
	},
};

static const u8 build_id[] = {
	0x06, 0xf8, 0xbd, 0xe3, 0x00, 0x46, 0x98, 0x50, 0x60, 0xc6,
	0x08, 0x20, 0xf7, 0xa1, 0x15, 0x15, 0xa3, 0x3a, 0xfb, 0x06,
};

static struct kpatch_module patch = {
	.mod = THIS_MODULE,
	.name = "all",
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
MODULE_INFO(kpatch, "all");
MODULE_INFO(kpatch_release, "6.1.0-50-amd64");
MODULE_INFO(kpatch_build_id, "06f8bde30046985060c60820f7a11515a33afb06");
