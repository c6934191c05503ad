/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(int x)
{
	if (unlikely(x == 9)) {
		_printk("one %d\n", x);
		_printk("two %d\n", x);
		_printk("three %d\n", x);
		return other(x) + 3;
	}
	return other(x + 1);
}
