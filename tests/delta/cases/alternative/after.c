/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

void f(void)
{
	alternative("nop", "", 5);
	other(1);
}

void g(void)
{
	alternative(NOTHING, READ_BARRIER, 6);
	other(2);
}
