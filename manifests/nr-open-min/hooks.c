// SPDX-License-Identifier: GPL-2.0-or-later
/* The limits of fs.nr_open, which fs/file.c has and does not export. */
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/printk.h>

extern unsigned int sysctl_nr_open, sysctl_nr_open_min;

static unsigned int before;

/* An error refuses the load, and nothing has happened. */
int check_nr_open(void)
{
	if (READ_ONCE(sysctl_nr_open) >= 1024)
		return 0;
	pr_err("fs.nr_open is below 1024 already\n");
	return -EBUSY;
}

void raise_nr_open_min(void)
{
	before = sysctl_nr_open_min;
	WRITE_ONCE(sysctl_nr_open_min, 1024);
}

void restore_nr_open_min(void)
{
	WRITE_ONCE(sysctl_nr_open_min, before);
}
