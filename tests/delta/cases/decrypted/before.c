/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

section(".data..decrypted") int known;

void f(void)
{
	use(&known);
}
