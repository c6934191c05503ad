/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What random programs need of the harness, live.c; with REFERENCE in plain C. */
#pragma once
#include "kernel.h"

typedef unsigned int u32;
typedef u32 (*operation)(u32, u32);

extern struct static_key key0, key1;
u32 hash(const char *text);
u32 step0(u32 a, u32 b);
u32 step1(u32 a, u32 b);
void later(operation what);
void once_hit(u32 what);
void warn_hit(void);
u32 try_load(const u32 *from);

#define once(what) do {								\
	static _Bool section(".data.once") __already_done;			\
	if (!__already_done) {							\
		__already_done = 1;						\
		once_hit(what);							\
	} } while (0)

#ifdef REFERENCE
#undef WARN_ON
#define WARN_ON(condition) ({ int _c = !!(condition); if (_c) warn_hit(); _c; })
#undef load
#define load(from, failed) ({ failed = 0; try_load(from); })
#undef static_branch
#define static_branch(key) ((key)->enabled)
#define choice(r, old, new, feature) (r = (feature) ? r ^ (new) : r + (old))
#elif defined(__x86_64__)
#define choice(r, old, new, feature)						\
	asm volatile("661: addl %1, %0\n.rept 7\nnop\n.endr\n662:\n"		\
		     ".pushsection .altinstructions, \"a\"\n"			\
		     ".long 661b - ., 663f - .\n"				\
		     ".short %c3\n"						\
		     ".byte 662b - 661b, 664f - 663f\n"				\
		     ".popsection\n"						\
		     REPLACEMENT						\
		     "663: xorl %2, %0\n664:\n"					\
		     REPLACED : "+r" (r) : "i" (old), "i" (new), "i" (feature) : "cc")
#else
#define choice(r, old, new, feature) (r = (feature) ? r ^ (new) : r + (old))
#endif
