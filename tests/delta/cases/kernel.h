/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the cases need of a kernel: the shapes of its macros, written as small as they go. */
#pragma once
#define NULL ((void *)0)
#define noinline __attribute__((noinline))
#define section(name) __attribute__((section(name)))
#define __init section(".init.text")
#define __sched section(".sched.text")
#define __read_mostly section(".data..read_mostly")
#define unlikely(x) __builtin_expect(!!(x), 0)

/* What differs with the processor: instructions, and how ftrace hooks functions. */
#if defined(__x86_64__)
#define TRAP_INSTRUCTION "ud2"
#define JUMP_NOP ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00"
#define LOAD "mov (%2), %0"
#define BASE "r"
#define NOTHING "nop; nop; nop"
#define BARRIER "mfence"
#define READ_BARRIER "lfence"
#elif defined(__aarch64__)
#define TRAP_INSTRUCTION "brk 0x800"
#define JUMP_NOP "nop"
#define LOAD "ldr %w0, [%2]"
#define BASE "r"
#define NOTHING "nop"
#define BARRIER "dmb ish"
#define READ_BARRIER "dmb ishld"
#elif defined(__powerpc64__)
#define TRAP_INSTRUCTION "twi 31, 0, 0"
#define JUMP_NOP "nop"
#define LOAD "lwz %0, 0(%2)"
#define BASE "b"
#define NOTHING "nop"
#define BARRIER "sync"
#define READ_BARRIER "lwsync"
#elif defined(__s390x__)
#define TRAP_INSTRUCTION "mc 0, 0"
#define JUMP_NOP "brcl 0, 0"
#define LOAD "l %0, 0(%2)"
#define BASE "a"
#define NOTHING "bcr 0, %%r0"
#define BARRIER "bcr 15, %%r0"
#define READ_BARRIER "bcr 14, %%r0"
#elif defined(__loongarch64)
#define TRAP_INSTRUCTION "break 1"
#define JUMP_NOP "nop"
#define LOAD "ld.w %0, %2, 0"
#define BASE "r"
#define NOTHING "nop"
#define BARRIER "dbar 0"
#define READ_BARRIER "dbar 1"
#endif

/* -pg obeys one attribute, -fpatchable-function-entry and -mhotpatch others */
#if defined(__s390x__) && !defined(__clang__)
#define notrace __attribute__((no_instrument_function, hotpatch(0, 0)))
#else
#define notrace __attribute__((no_instrument_function, patchable_function_entry(0, 0)))
#endif

int _printk(const char *format, ...) __attribute__((cold));
void use(void *what);
int other(int value);

/* struct bug_entry as with CONFIG_GENERIC_BUG_RELATIVE_POINTERS and CONFIG_DEBUG_BUGVERBOSE */
#define TRAP(flags)								\
	asm volatile("1: " TRAP_INSTRUCTION "\n"				\
		     ".pushsection __bug_table, \"aw\"\n"			\
		     "2: .long 1b - .\n"					\
		     "   .long %c0 - .\n"					\
		     "   .short %c1\n"						\
		     "   .short %c2\n"						\
		     "   .org 2b + 12\n"					\
		     ".popsection" : : "i" (__FILE__), "i" (__LINE__), "i" (flags))
#define WARN_ON(condition) ({ int _c = !!(condition); if (unlikely(_c)) TRAP(1); _c; })

/* static_branch_unlikely() with relative jump labels */
struct static_key { int enabled; void *entries; };
#define static_branch(key) ({							\
	__label__ yes, end; int _r = 0;						\
	asm goto("1: " JUMP_NOP "\n"						\
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
	asm volatile("1: " LOAD "\n2:\n"					\
		     ".pushsection __ex_table, \"a\"\n"				\
		     ".balign 4\n"						\
		     ".long 1b - ., 2b - ., 3\n"				\
		     ".popsection" : "+r" (_v), "+r" (_e) : BASE (pointer));	\
	failed = _e; _v; })

#if defined(__powerpc64__)
/* ALT_FTR_SECTION_END(): code for processors with a feature, and for those without */
#define alternative(old, new, feature)						\
	asm volatile("661: " old "\n662:\n"					\
		     ".pushsection __ftr_alt_97, \"a\"\n"			\
		     ".balign 4\n"						\
		     "663: " new "\n664:\n"					\
		     ".popsection\n"						\
		     ".pushsection __ftr_fixup, \"a\"\n"			\
		     ".balign 8\n"						\
		     "665: .quad " #feature ", " #feature "\n"			\
		     ".quad 661b - 665b, 662b - 665b\n"				\
		     ".quad 663b - 665b, 664b - 665b\n"				\
		     ".popsection" : : : "memory")
#else
/* ALTERNATIVE() of 6.1: 12-byte entries.  arm64 has the replacement behind the function. */
#if defined(__aarch64__)
#define REPLACEMENT ".subsection 1\n"
#define REPLACED ".previous"
#else
#define REPLACEMENT ".pushsection .altinstr_replacement, \"ax\"\n"
#define REPLACED ".popsection"
#endif
#define alternative(old, new, feature)						\
	asm volatile("661: " old "\n662:\n"					\
		     ".pushsection .altinstructions, \"a\"\n"			\
		     ".long 661b - ., 663f - .\n"				\
		     ".short " #feature "\n"					\
		     ".byte 662b - 661b, 664f - 663f\n"				\
		     ".popsection\n"						\
		     REPLACEMENT						\
		     "663: " new "\n664:\n"					\
		     REPLACED : : : "memory")
#endif
