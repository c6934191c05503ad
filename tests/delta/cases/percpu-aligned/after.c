/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

section(".data..percpu..shared_aligned") int known;
section(".data..percpu..shared_aligned") __attribute__((aligned(64))) int fresh;
section(".data..percpu") int plain;

void f(void)
{
	use(&known);
	use(&fresh);
	use(&plain);
}
