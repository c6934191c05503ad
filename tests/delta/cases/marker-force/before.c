/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(int x)
{
	return other(x) * 3;
}

static noinline notrace int g(int x)
{
	return other(x) + 1;
}

int h(int x)
{
	return g(x) + 5;
}
