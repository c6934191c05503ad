/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int knob = 3;
int array[4];

int notrace f(void)
{
	return knob + 1;
}

int __init g(int x)
{
	return array[x];
}
