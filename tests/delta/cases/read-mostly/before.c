/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static int first __read_mostly = 1;
static int second __read_mostly = 2;

void f(void)
{
	second = 5;
	other(first);
}

int g(void)
{
	return first + second;
}

void h(void)
{
	first = 6;
	other(second);
}
