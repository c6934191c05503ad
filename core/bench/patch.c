// SPDX-License-Identifier: GPL-2.0-or-later
/* A patch of the first `nr` functions of kpb_target.ko. */
#include <linux/module.h>
#include <linux/string.h>

#include "functions.h"
#include "kpatch.h"

static unsigned int nr = NR_FUNCTIONS;	module_param(nr, uint, 0);
static ulong size;			module_param(size, ulong, 0);	/* of each old function */
static char *release;			module_param(release, charp, 0);
static char *build_id;			module_param(build_id, charp, 0);

static int zero;

EACH(REPLACEMENT)

#define ENTRY(n) { .old_name = "kpb_" #n, .new_func = new_##n },
static struct kpatch_func funcs[NR_FUNCTIONS] = { EACH(ENTRY) };
static struct kpatch_object object = { .name = "kpb_target", .funcs = funcs };
static u8 build_id_bytes[20];
static struct kpatch_module patch = {
	.mod = THIS_MODULE, .name = "bench", .objects = &object, .nr_objects = 1,
	.build_id = build_id_bytes, .build_id_size = sizeof(build_id_bytes),
};

static int __init patch_init(void)
{
	size_t i;

	if (nr > NR_FUNCTIONS || !build_id || hex2bin(build_id_bytes, build_id, sizeof(build_id_bytes)))
		return -EINVAL;
	for (i = 0; i < nr; i++)
		funcs[i].old_size = size;
	object.nr_funcs = nr;
	patch.release = release;
	return kpatch_register(&patch, false);
}

static void __exit patch_exit(void)
{
	kpatch_unregister(&patch);
}

module_init(patch_init);
module_exit(patch_exit);
MODULE_DESCRIPTION("kpatch bench: a patch");
MODULE_LICENSE("GPL");
