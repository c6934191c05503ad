/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static noinline int helper(int x)
{
	static int calls;

	calls += x;
	return calls;
}

int f(int x)
{
	return helper(x) + 1;
}
