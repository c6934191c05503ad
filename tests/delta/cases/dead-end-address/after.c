/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static int seen;

static noinline __attribute__((noreturn)) void stop(int x)
{
	seen += x;
	for (;;)
		use(&seen);
}

static noinline void go_on(int x)
{
	seen -= x;
	use(&seen);
}

int f(int x)
{
	if (unlikely(x < 0))
		stop(x);
	go_on(x);
	return other(x) + 2;
}

void (*const hook)(int) = stop;

int bystander(int x)
{
	if (unlikely(x > 9))
		stop(x + 1);
	go_on(x + 1);
	return other(x) * 5;
}
