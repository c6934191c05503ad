/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static int count;

static noinline int old(int x)
{
	count += x;
	return count;
}

static int extra;

static noinline int added(int x)
{
	extra += x;
	return old(extra) + count;
}

int f(int x)
{
	return added(x);
}
