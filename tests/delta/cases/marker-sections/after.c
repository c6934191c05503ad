/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static int level section(".data.tunable") = 5;
static int other_level section(".data.tunable") = 4;
char *__UNIQUE_ID_kpatch_ignore_section_5 section(".kpatch.ignore.sections") = ".data.tunable";

int f(int x)
{
	return other(x) * 7 + level;
}

int g(int x)
{
	return other(x) + other_level++ + level++;
}
