/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int knob = 3;

int added(int x)
{
	return x + knob;
}

int f(int x)
{
	return x;
}
