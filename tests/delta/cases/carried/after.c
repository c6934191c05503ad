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

int entry32(int x)
{
	return body(x & 0xff) * 3;
}

int bystander(int x)
{
	return other(x) * 5;
}
