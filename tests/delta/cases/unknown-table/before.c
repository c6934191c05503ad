/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(int x)
{
	asm volatile("nop\n1: nop\n.pushsection .strange, \"a\"\n.quad 1b\n.popsection");
	return other(x) + 1;
}
