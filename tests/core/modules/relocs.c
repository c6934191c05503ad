// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A patch whose code and data have places that wait for dynamic relocations.  Applied, /proc/cmdline shows
 * what they hold.  The parameter `wrong` spoils one of them.
 */
#include <linux/delay.h>
#include <linux/elf.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "kpatch.h"

static ulong addr;	module_param(addr, ulong, 0);
static ulong size;	module_param(size, ulong, 0);
static char *release;	module_param(release, charp, 0);
static char *build_id;	module_param(build_id, charp, 0);
static char *low;	module_param(low, charp, 0);	/* a symbol below 2 GB: a per-CPU variable */
static char *wrong;	module_param(wrong, charp, 0);

/* Labels without symbols: objtool takes a symbol within a function for a function. */
extern const char place_pc32[] asm(".Lplace_pc32"), place_plt32[] asm(".Lplace_plt32");
extern const char place_32s[] asm(".Lplace_32s"), place_32[] asm(".Lplace_32");
static unsigned long place_64, place_pc64;
static unsigned long full = 1;

static noinline unsigned long by_pc32(void)
{
	unsigned long value;

	asm volatile(".byte 0x48, 0x8d, 0x05\n"		/* lea place(%%rip), %%rax */
		     ".Lplace_pc32: .long 0" : "=a" (value));
	return value;
}

static noinline unsigned long by_plt32(void)
{
	unsigned long value;

	asm volatile(".byte 0x48, 0x8d, 0x05\n"
		     ".Lplace_plt32: .long 0" : "=a" (value));
	return value;
}

static noinline unsigned long by_32s(void)
{
	unsigned long value;

	asm volatile(".byte 0x48, 0xc7, 0xc0\n"		/* mov $place, %%rax with sign extension */
		     ".Lplace_32s: .long 0" : "=a" (value));
	return value;
}

static noinline unsigned long by_32(void)
{
	unsigned long value;

	asm volatile(".byte 0xb8\n"			/* mov $place, %%eax */
		     ".Lplace_32: .long 0" : "=a" (value));
	return value;
}

static noinline int new_cmdline(struct seq_file *m, void *v)
{
	unsigned long here = (unsigned long)&place_pc64;
	int (*nr_processes)(void) = (void *)by_plt32();

	seq_printf(m, "64 %016lx\n", READ_ONCE(place_64));
	seq_printf(m, "pc64 %016lx\n", READ_ONCE(place_pc64) + here);
	seq_printf(m, "pc32 %016lx\n", by_pc32());
	seq_printf(m, "plt32 %016lx\n", by_plt32());
	seq_printf(m, "32s %016lx\n", by_32s());
	seq_printf(m, "32 %016lx\n", by_32());
	seq_printf(m, "processes %d\n", nr_processes() > 10);
	return 0;
}

/* What the tests compare with: a function, two variables, a constant, none of them exported. */
static struct kpatch_dynrela dynrelas[] = {
	{ &place_64, R_X86_64_64, "saved_command_line", 0, NULL, 0 },
	{ &place_pc64, R_X86_64_PC64, "saved_command_line", 0, NULL, 8 },
	{ place_pc32, R_X86_64_PC32, "cmdline_proc_show", 1, NULL, -4 },
	{ place_plt32, R_X86_64_PLT32, "nr_processes", 0, NULL, -4 },
	{ place_32s, R_X86_64_32S, "saved_command_line", 0, NULL, 1 },
	{ place_32, R_X86_64_32, NULL, 0, NULL, 0 },
};

static struct kpatch_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = new_cmdline },
};

static struct kpatch_object objects[] = {
	{
		.funcs = funcs, .nr_funcs = ARRAY_SIZE(funcs),
		.dynrelas = dynrelas, .nr_dynrelas = ARRAY_SIZE(dynrelas),
	},
};
static u8 build_id_bytes[20];
static struct kpatch_module patch = {
	.mod = THIS_MODULE, .name = "relocs", .objects = objects, .nr_objects = ARRAY_SIZE(objects),
	.build_id = build_id_bytes, .build_id_size = sizeof(build_id_bytes),
};

static int __init relocs_init(void)
{
	funcs[0].old_addr = addr;
	funcs[0].old_size = size;
	dynrelas[5].name = low;
	patch.release = release;
	if (hex2bin(build_id_bytes, build_id, sizeof(build_id_bytes)))
		return -EINVAL;

	if (wrong && !strcmp(wrong, "overflow32"))
		dynrelas[5].name = "saved_command_line";
	else if (wrong && !strcmp(wrong, "overflow32s"))
		dynrelas[4].addend = -0x70000000L;
	else if (wrong && !strcmp(wrong, "overflowpc32"))
		dynrelas[2].addend = -0x7fffffffL;
	else if (wrong && !strcmp(wrong, "type"))
		dynrelas[0].type = R_X86_64_GOTPCREL;
	else if (wrong && !strcmp(wrong, "symbol"))
		dynrelas[0].name = "no_such_symbol";
	else if (wrong && !strcmp(wrong, "name"))
		dynrelas[0].name = NULL;
	else if (wrong && !strcmp(wrong, "table"))
		objects[0].dynrelas = NULL;
	else if (wrong && !strcmp(wrong, "full"))
		dynrelas[0].dest = &full;
	else if (wrong && !strcmp(wrong, "outside"))
		dynrelas[0].dest = (void *)msleep;
	else if (wrong && !strcmp(wrong, "module"))
		dynrelas[0].objname = "kpt_victim";
	return kpatch_register(&patch, false);
}

static void __exit relocs_exit(void)
{
	kpatch_unregister(&patch);
}

module_init(relocs_init);
module_exit(relocs_exit);
MODULE_DESCRIPTION("kpatch tests: dynamic relocations");
MODULE_LICENSE("GPL");
