/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

int f(const unsigned char *program, int value)
{
	static const void *const table[] = { &&add, &&twice, &&call, &&end };

	goto *table[*program];
add:
	value += 3;
	goto *table[*++program];
twice:
	value *= 2;
	goto *table[*++program];
call:
	value = other(value);
	goto *table[*++program];
end:
	return value;
}
