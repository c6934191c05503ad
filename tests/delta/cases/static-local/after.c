/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int before(void)
{
	static int fresh;

	fresh++;
	return other(1);
}

int f(int x)
{
	static int calls;

	calls += 2 * x;
	return calls;
}
