/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int array[8];

int f(int x)
{
	return array[x];
}
