/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

void __might_sleep(const char *file, int line, int preempt_offset);
void takes_no_line(const char *file, int number, int other);
void __ext4_error_inode(void *inode, const char *function, int line, long block, int error);


/* another argument changes with the line */
int f(int x)
{
	__might_sleep(__FILE__, __LINE__, 2);
	return other(x);
}

/* not a function that takes a line */
int g(int x)
{
	takes_no_line(__FILE__, 41, 1);
	return other(x);
}

/* a constant for another call, in the same register */
int h(int x)
{
	takes_no_line(__FILE__, 51, 1);
	__might_sleep(__FILE__, __LINE__, 1);
	return other(x);
}

/* only the line changes */
int same(int x)
{
	__might_sleep(__FILE__, __LINE__, 1);
	return other(x);
}

/* another argument than the line's */
int error(int x, void *inode)
{
	__ext4_error_inode(inode, __func__, __LINE__, 9, 5);
	return other(x);
}

/* what is printed is no line */
void print(int x)
{
	_printk("%s:%d: %s\n", __FILE__, 61, "text");
}
