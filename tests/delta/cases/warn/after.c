/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(int x)
{
	WARN_ON(x == 4);
	return other(x);
}

int g(int x)
{
	WARN_ON(x == 3);
	return other(x);
}
