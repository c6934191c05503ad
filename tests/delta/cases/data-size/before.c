/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int array[4];

int f(int x)
{
	return array[x];
}
