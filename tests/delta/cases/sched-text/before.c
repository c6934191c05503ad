/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static __sched noinline int inner(int x)
{
	return other(x) * 3;
}

int __sched pad(int x)
{
	other(0);
	other(1);
	other(2);
	other(3);
	other(4);
	other(5);
	other(6);
	other(7);
	other(8);
	other(9);
	other(10);
	other(11);
	other(12);
	other(13);
	other(14);
	other(15);
	other(16);
	other(17);
	other(18);
	other(19);
	other(20);
	other(21);
	other(22);
	other(23);
	other(24);
	other(25);
	other(26);
	other(27);
	other(28);
	other(29);
	return other(x + 9);
}

int __sched f(int x)
{
	return inner(x) + 1;
}
