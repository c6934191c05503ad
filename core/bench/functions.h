/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lists of 200 functions: EACH(M) is M(000) M(001) ... M(199). */
#define TENS(M, h) TEN(M, h, 0) TEN(M, h, 1) TEN(M, h, 2) TEN(M, h, 3) TEN(M, h, 4) \
		   TEN(M, h, 5) TEN(M, h, 6) TEN(M, h, 7) TEN(M, h, 8) TEN(M, h, 9)
#define TEN(M, h, t) M(h##t##0) M(h##t##1) M(h##t##2) M(h##t##3) M(h##t##4) \
		     M(h##t##5) M(h##t##6) M(h##t##7) M(h##t##8) M(h##t##9)
#define EACH(M) TENS(M, 0) TENS(M, 1)
#define NR_FUNCTIONS 200

/* What both patches put in place of a function; `zero` is a variable of theirs. */
#define REPLACEMENT(n)				\
	static noinline int new_##n(void)	\
	{					\
		return READ_ONCE(zero) + 1##n;	\
	}
