/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static noinline int inner(int x, int unused)
{
	return other(x) * 3;
}

int f(int x)
{
	return inner(x, 1) + inner(3, 1);
}
