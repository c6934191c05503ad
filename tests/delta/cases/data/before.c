/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int knob = 3;

int f(void)
{
	return knob;
}
