/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int knob = 4;

int f(void)
{
	return knob;
}
