/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(int x)
{
	return x * 5;
}

void *__kpatch_ignore_func_other section(".kpatch.ignore.functions") = other;
void *__kpatch_force_func_use section(".kpatch.force") = use;
char *__UNIQUE_ID_kpatch_ignore_section_5 section(".kpatch.ignore.sections") = ".data.nothing";
