/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static int count;

static noinline int old(int x)
{
	count += x;
	return count;
}

int f(int x)
{
	return old(x);
}
