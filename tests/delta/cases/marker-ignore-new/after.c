/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static noinline int helper(int x)
{
	return other(x) + 2;
}

int f(int x)
{
	return helper(x) * 5;
}

void *__kpatch_ignore_func_helper section(".kpatch.ignore.functions") = helper;
