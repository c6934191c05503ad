/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static noinline int helper(int x)
{
	return other(x) + 1;
}

int f(int x)
{
	return helper(x) * 3;
}

int g(int x)
{
	return other(x) - 1;
}
