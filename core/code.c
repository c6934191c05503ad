// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: is the code in memory the code that the patch was built for?
 *
 * The build ID says which kernel was booted, not what has become of it: another patcher, a debugger, a rootkit
 * or bad memory may have changed a function since, and a patch that replaces it would silently undo that, or
 * build on what is no longer true.  So a patch brings the bytes of each old function as they were shipped.
 *
 * The kernel rewrites its own code, and the patch says where (struct kpatch_span).  Kprobes may be anywhere.
 * What they have overwritten the kernel keeps, and that is compared in place of the breakpoint.
 */
#include "internal.h"

#include <linux/minmax.h>
#include <linux/string.h>

#define SHOWN_BYTES 8

/* Do the spans lie within the code, in order, and apart from each other? */
static bool spans_ok(const struct kpatch_code *code, unsigned long size)
{
	unsigned long end = 0;
	size_t i;

	if (code->nr_spans && !code->spans)
		return false;
	for (i = 0; i < code->nr_spans; i++) {
		const struct kpatch_span *span = &code->spans[i];

		if (!span->size || span->offset < end || span->offset > size || span->size > size - span->offset)
			return false;
		end = span->offset + span->size;
	}
	return true;
}

/* The first byte from @start to before @end that is not as shipped; @end if there is none. */
static unsigned long first_difference(const u8 *bytes, unsigned long addr, unsigned long start,
				      unsigned long end)
{
	unsigned long at;

	if (!memcmp(bytes + start, (const void *)addr + start, end - start))
		return end;
	for (at = start; at < end; at++)
		if (bytes[at] != kpatch_arch_code_byte(addr + at))
			break;
	return at;
}

static unsigned long compare(const struct kpatch_code *code, unsigned long addr, unsigned long size)
{
	unsigned long start = 0, end, at;
	size_t i;

	for (i = 0; i <= code->nr_spans; i++) {
		end = i < code->nr_spans ? code->spans[i].offset : size;
		at = first_difference(code->bytes, addr, start, end);
		if (at < end)
			return at;
		if (i < code->nr_spans)
			start = end + code->spans[i].size;
	}
	return size;
}

/**
 * kpatch_compare_code - compare code in memory with what was shipped
 * @patch:	the patch, for the log
 * @name:	symbol that is compared, for the log
 * @sympos:	its position
 * @addr:	where it is
 * @size:	its size
 * @code:	what it must be
 *
 * Return: 0 or -EINVAL, and the first difference has been logged.
 */
int kpatch_compare_code(const struct kpatch_patch *patch, const char *name, unsigned long sympos,
			unsigned long addr, unsigned long size, const struct kpatch_code *code)
{
	const char *patch_name = patch->kpmod->name;
	u8 found[SHOWN_BYTES];
	unsigned long at;
	int i, shown = 0;

	if (!code->bytes)
		return 0;
	if (!spans_ok(code, size)) {
		pr_err("%s: %s,%lu: the spans of its code overlap or reach beyond it\n", patch_name, name, sympos);
		return -EINVAL;
	}

	/* Whoever changes code holds this while it is half changed. */
	kpatch_lock_code();
	at = compare(code, addr, size);
	if (at < size) {
		shown = min_t(unsigned long, SHOWN_BYTES, size - at);
		for (i = 0; i < shown; i++)
			found[i] = kpatch_arch_code_byte(addr + at + i);
	}
	kpatch_unlock_code();
	if (!shown)
		return 0;
	pr_err("%s: %s,%lu: its code is not what the patch was built for: at +%#lx expected %*ph, found %*ph\n",
	       patch_name, name, sympos, at, shown, code->bytes + at, shown, found);
	return -EINVAL;
}
