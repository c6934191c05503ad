/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(int x)
{
	return other(x) * 5;
}

static noinline notrace int g(int x)
{
	return other(x) + 2;
}

int h(int x)
{
	return g(x) + 5;
}

void *__kpatch_force_func_f section(".kpatch.force") = f;
void *__kpatch_force_func_g section(".kpatch.force") = g;
