/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int notrace f(int x)
{
	return other(x) + 1;
}
