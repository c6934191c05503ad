/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int knob = 4;
int array[5];

int notrace f(void)
{
	return knob + 2;
}

int __init g(int x)
{
	return array[x + 1];
}
