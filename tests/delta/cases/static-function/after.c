/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static noinline int inner(int x)
{
	return other(x) + 5;
}

int f(int x)
{
	return inner(x) + inner(x + 1);
}
