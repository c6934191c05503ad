/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "../kernel.h"

void __might_sleep(const char *file, int line, int preempt_offset);
void warn_slowpath_null(const char *file, int line);
void lockdep_rcu_suspicious(const char *file, int line, const char *what);
void __ext4_error_inode(void *inode, const char *function, int line, long block, int error);

int f(int x)
{
	__might_sleep(__FILE__, __LINE__, 0);
	return other(x);
}

int g(int x, void *inode)
{
	if (unlikely(x > 3))
		__ext4_error_inode(inode, __func__, __LINE__, x, 5);
	return other(x);
}

int h(int x)
{
	if (unlikely(x == 7))
		warn_slowpath_null(__FILE__, __LINE__);
	WARN_ON(x == 9);
	return other(x) + 1;
}

void bug(int x)
{
	if (unlikely(x))
		_printk("BUG: failure at %s:%d/%s()!\n", __FILE__, __LINE__, __func__);
}

void rtnl(int x)
{
	if (unlikely(x))
		_printk("\0013" "RTNL: assertion failed at %s (%d)\n", __FILE__, __LINE__);
}

#line 5000
int large(int x)
{
	lockdep_rcu_suspicious(__FILE__, __LINE__, "suspicious");
	return other(x);
}
