/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int knob __read_mostly = 1;

int f(void)
{
	knob++;
	return 2;
}
