/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

section(".data..decrypted") int known;
section(".data..decrypted") __attribute__((aligned(64))) int fresh;

void f(void)
{
	use(&known);
	use(&fresh);
}
