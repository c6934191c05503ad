/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

void f(void)
{
	_printk("VmallocTotal\n");
}

void g(void)
{
	_printk("tail: VmallocTotal\n");
}
