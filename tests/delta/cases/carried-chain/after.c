/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static noinline notrace int inner(int x)
{
	return other(x) + 2;
}

static noinline notrace int outer(int x)
{
	return x ? inner(x) * 7 : 0;
}

int entry(int x)
{
	return outer(x) * 3;
}
