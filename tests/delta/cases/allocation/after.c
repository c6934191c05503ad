/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

/* struct alloc_tag as DEFINE_ALLOC_TAG() makes it where allocations are profiled */
struct tag { unsigned int flags, line; const char *module, *function, *file; unsigned long *count; };
#define TAG ({									\
	static section(".data..percpu") unsigned long _alloc_tag_cntr;		\
	static section("alloc_tags") __attribute__((used, aligned(8))) struct tag _alloc_tag =	\
		{ 0, __LINE__, "unit", __func__, __FILE__, &_alloc_tag_cntr };	\
	(void *)&_alloc_tag; })

void f(int size)
{
	use(TAG);
	use(TAG);
	other(size);
}

void g(int size)
{
	use(TAG);
	other(size + 1);
}
