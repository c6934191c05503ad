/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static int a(int x)
{
	return other(x);
}

static int b(int x)
{
	return other(x) + 1;
}

const struct { int (*one)(int), (*two)(int); } operations = { b, a };
