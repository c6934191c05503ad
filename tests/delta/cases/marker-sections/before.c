/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static int level section(".data.tunable") = 3;
static int other_level section(".data.tunable") = 4;

int f(int x)
{
	return other(x) * 3 + level;
}

int g(int x)
{
	return other(x) + other_level++ + level++;
}
