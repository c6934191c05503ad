/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(int x)
{
	TRAP(5);
	return other(x);
}
