// SPDX-License-Identifier: GPL-2.0-or-later
/* Changes one byte of a function of the kernel, as long as it is loaded. */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>

static char *func;	module_param(func, charp, 0);
static uint offset;	module_param(offset, uint, 0);

static unsigned long (*lookup_name)(const char *name);
static void *(*text_poke_fn)(void *addr, const void *opcode, size_t len);
static struct mutex *text_lock;
static u8 *place;

static void flip(void)
{
	u8 value = ~*place;

	mutex_lock(text_lock);
	text_poke_fn(place, &value, 1);
	mutex_unlock(text_lock);
}

static int __init poke_init(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int err = register_kprobe(&probe);

	if (err)
		return err;
	lookup_name = (void *)probe.addr;
	unregister_kprobe(&probe);
	text_poke_fn = (void *)lookup_name("text_poke");
	text_lock = (void *)lookup_name("text_mutex");
	place = (u8 *)lookup_name(func);
	if (!text_poke_fn || !text_lock || !place)
		return -ENOENT;
	place += offset;
	flip();
	return 0;
}

static void __exit poke_exit(void)
{
	flip();
}

module_init(poke_init);
module_exit(poke_exit);
MODULE_DESCRIPTION("kpatch tests: spoils the kernel's code");
MODULE_LICENSE("GPL");
