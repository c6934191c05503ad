/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static noinline notrace int body(int x)
{
	return other(x) + 2;
}

int entry(int x)
{
	return body(x);
}

int (*const operation)(int) = body;
