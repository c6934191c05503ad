// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Says \"* /\" and \\
 *
 * Patch module "module" for kernel 6.1.0-50-amd64 (6.1.176-1).
 * Generated from the manifest; edit that.
 */
#include <linux/module.h>
#include "kpatch.h"

/* The new functions; the patch object of each source file defines them. */
extern void new_1(void) asm("partscan");

/* The old code as it was shipped, and what the running kernel may have changed of it: offset, size. */
static const u8 code_1[] = {
	0x00, 0x07, 0x0e, 0x15, 0x1c, 0x23, 0x2a, 0x31, 0x38, 0x3f, 0x46, 0x4d, 0x54, 0x5b, 0x62, 0x69,
};
static const struct kpatch_span spans_1[] = {
	{ 0x4, 4 },
};

static const struct kpatch_func funcs_1[] = {
	{
		.old_name = "partscan",
		.old_sympos = 1,
		.old_size = 16,
		.old_code = { code_1, spans_1, ARRAY_SIZE(spans_1) },
		.new_func = new_1,
	},
};

/* What the core writes when the module is there, and the places in the patch objects. */
extern const char kpatch_place_1_1[];
extern const char kpatch_place_1_2[];

static const struct kpatch_dynrela dynrelas_1[] = {
	{ kpatch_place_1_1, R_X86_64_PC32, "max_part", 2, "loop", -4 },
	{ kpatch_place_1_2, R_X86_64_64, "jbd2_journal_start", 0, "jbd2", 0 },
};

static const struct kpatch_object objects[] = {
	{
		.name = "loop",
		.funcs = funcs_1,
		.nr_funcs = ARRAY_SIZE(funcs_1),
		.dynrelas = dynrelas_1,
		.nr_dynrelas = ARRAY_SIZE(dynrelas_1),
	},
};

static const u8 build_id[] = {
	0x06, 0xf8, 0xbd, 0xe3, 0x00, 0x46, 0x98, 0x50, 0x60, 0xc6,
	0x08, 0x20, 0xf7, 0xa1, 0x15, 0x15, 0xa3, 0x3a, 0xfb, 0x06,
};

static struct kpatch_module patch = {
	.mod = THIS_MODULE,
	.name = "module",
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
MODULE_INFO(kpatch, "module");
MODULE_INFO(kpatch_release, "6.1.0-50-amd64");
MODULE_INFO(kpatch_build_id, "06f8bde30046985060c60820f7a11515a33afb06");
