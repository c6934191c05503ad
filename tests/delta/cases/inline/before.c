/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static inline int add(int x)
{
	return x + 3;
}

int f(int x)
{
	return add(x) * 2;
}

int g(int x)
{
	return other(add(x));
}

int h(int x)
{
	return other(x);
}
