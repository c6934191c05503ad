// SPDX-License-Identifier: GPL-2.0-or-later
/* The second function named victim_dup. */
#include <linux/compiler.h>

int victim_other_dup(void);

static int zero;

static noinline int victim_dup(void)
{
	return READ_ONCE(zero) + 11;
}

int victim_other_dup(void)
{
	return victim_dup();
}
