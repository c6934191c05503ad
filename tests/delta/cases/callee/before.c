/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int g1(int);
int g2(int);

int f(int x)
{
	return g1(x) + 1;
}
