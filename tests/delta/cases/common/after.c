/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

__attribute__((common)) int knob;

int f(void)
{
	return other(knob);
}
