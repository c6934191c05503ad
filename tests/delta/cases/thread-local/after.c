/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static __thread int knob;

int f(void)
{
	return other(knob++);
}
