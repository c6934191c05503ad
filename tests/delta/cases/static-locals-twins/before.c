/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(int x)
{
	static int count;

	return count += x;
}

int g(int x)
{
	static int count;

	return count += x * 3;
}
