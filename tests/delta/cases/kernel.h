/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the cases need of a kernel: the shapes of its macros, written as small as they go. */
#pragma once
#define NULL ((void *)0)
#define noinline __attribute__((noinline))
#define notrace __attribute__((no_instrument_function))
#define section(name) __attribute__((section(name)))
#define __init section(".init.text")
#define __sched section(".sched.text")
#define __read_mostly section(".data..read_mostly")
#define unlikely(x) __builtin_expect(!!(x), 0)

int _printk(const char *format, ...) __attribute__((cold));
void use(void *what);
int other(int value);

/* struct bug_entry as with CONFIG_GENERIC_BUG_RELATIVE_POINTERS and CONFIG_DEBUG_BUGVERBOSE */
#define TRAP(flags)								\
	asm volatile("1: ud2\n"							\
		     ".pushsection __bug_table, \"aw\"\n"			\
		     "2: .long 1b - .\n"					\
		     "   .long %c0 - .\n"					\
		     "   .word %c1\n"						\
		     "   .word %c2\n"						\
		     "   .org 2b + 12\n"					\
		     ".popsection" : : "i" (__FILE__), "i" (__LINE__), "i" (flags))
#define WARN_ON(condition) ({ int _c = !!(condition); if (unlikely(_c)) TRAP(1); _c; })

/* static_branch_unlikely() with relative jump labels */
struct static_key { int enabled; void *entries; };
#define static_branch(key) ({							\
	__label__ yes, end; int _r = 0;						\
	asm goto("1: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"			\
		 ".pushsection __jump_table, \"aw\"\n"				\
		 ".balign 8\n"							\
		 ".long 1b - ., %l[yes] - .\n"					\
		 ".quad %c0 - .\n"						\
		 ".popsection" : : "i" (key) : : yes);				\
	goto end;								\
yes:	_r = 1;									\
end:	_r; })

/* a load that may fault */
#define load(pointer, failed) ({						\
	int _v = 0, _e = 0;							\
	asm volatile("1: mov (%2), %0\n2:\n"					\
		     ".pushsection __ex_table, \"a\"\n"				\
		     ".balign 4\n"						\
		     ".long 1b - ., 2b - ., 3\n"				\
		     ".popsection" : "+r" (_v), "+r" (_e) : "r" (pointer));	\
	failed = _e; _v; })

/* ALTERNATIVE() of 6.1: 12-byte entries */
#define alternative(old, new, feature)						\
	asm volatile("661: " old "\n662:\n"					\
		     ".pushsection .altinstructions, \"a\"\n"			\
		     ".long 661b - ., 663f - .\n"				\
		     ".word " #feature "\n"					\
		     ".byte 662b - 661b, 664f - 663f\n"				\
		     ".popsection\n"						\
		     ".pushsection .altinstr_replacement, \"ax\"\n"		\
		     "663: " new "\n664:\n"					\
		     ".popsection" : : : "memory")
