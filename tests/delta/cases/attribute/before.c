/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int knob = 1;

int f(void)
{
	knob++;
	return 1;
}
