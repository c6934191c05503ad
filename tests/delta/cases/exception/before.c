/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(int *p)
{
	int e;

	return load(p, e) + e;
}

int g(int *p)
{
	int e;

	return load(p, e) - e;
}
