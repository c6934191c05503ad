/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

static int f(void)
{
	return other(1);
}

void *const __initcall_f section(".initcall5.init") = f;
