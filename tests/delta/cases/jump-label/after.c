/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

struct static_key one, two;

int f(int x)
{
	if (static_branch(&two))
		return other(x);
	return x;
}
