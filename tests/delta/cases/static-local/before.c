/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int before(void)
{
	return other(1);
}

int f(int x)
{
	static int calls;

	calls += x;
	return calls;
}
