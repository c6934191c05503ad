/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

struct callback { int (*fn)(void *object); char *objname; };

int f(int x)
{
	return other(x) * 3;
}

static noinline int prepare(void *object)
{
	static int count;

	_printk("preparing %p\n", object);
	return ++count;
}

static int restore(void *object)
{
	return other(4);
}

static struct callback kpatch_pre_patch_data section(".kpatch.callbacks.pre_patch")
	__attribute__((used)) = { prepare, NULL };
static struct callback kpatch_post_unpatch_data section(".kpatch.callbacks.post_unpatch")
	__attribute__((used)) = { restore, NULL };
void *__klp_post_patch_callback_vmlinux section(".discard.klp_callback_ptrs") = restore;
