/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static noinline int __init added(int x)
{
	return other(x) + 4;
}

int f(int x)
{
	return added(x);
}
