/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(int x)
{
	static char __already_done section(".data.once");

	if (x && !__already_done) {
		__already_done = 1;
		_printk("once %s\n", __func__);
	}
	return other(x) + 1;
}
