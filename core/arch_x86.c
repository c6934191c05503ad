// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: what depends on the x86-64 architecture.
 */
#include "internal.h"

#include <linux/elf.h>
#include <linux/kprobes.h>
#include <linux/static_call.h>
#include <asm/page_types.h>
#include <asm/text-patching.h>

/* ENDBR64 of a kernel with indirect branch tracking comes before the call to __fentry__. */
#define ENDBR_SIZE 4

DEFINE_STATIC_CALL_NULL(kp_text_poke_copy, text_poke_copy);

/* Find what only this architecture has; says whether it is there. */
bool kpatch_arch_init(void)
{
	unsigned long addr = kpatch_need_symbol("text_poke_copy");

	if (addr)
		static_call_update(kp_text_poke_copy, (typeof(text_poke_copy) *)addr);
	return addr;
}

/* Write into the patch module, whose code is read-only to everybody else. */
int kpatch_arch_write(void *dest, const void *bytes, size_t size)
{
	return static_call(kp_text_poke_copy)(dest, bytes, size) ? 0 : -EFAULT;
}

/*
 * The most padding between a function and the next symbol, unless that is aligned to more.  The largest alignment
 * of functions is 64 bytes, and as much again may stand before a function to be used by call thunks.
 */
unsigned long kpatch_arch_max_padding(void)
{
	return 128;
}

/**
 * kpatch_arch_image_offset - by how much KASLR has moved vmlinux away from its link-time address
 *
 * Multiples of the kernel's alignment, 0 without KASLR.  The kernel's own variable for this is not
 * visible to modules, but the start of the image is.
 */
unsigned long kpatch_arch_image_offset(void)
{
	return kpatch_vmlinux_symbol("_text") - __START_KERNEL;
}

/**
 * kpatch_arch_entry_ok - may a function at @addr be redirected at @ip?
 * @addr:	address of the function
 * @ip:	the place that ftrace can change
 *
 * Only a call at the very entry can be sent elsewhere: nothing of the function may have run.
 */
bool kpatch_arch_entry_ok(unsigned long addr, unsigned long ip)
{
	return ip == addr || (IS_ENABLED(CONFIG_X86_KERNEL_IBT) && ip == addr + ENDBR_SIZE);
}

/**
 * kpatch_arch_code_byte - one byte of code, as it is without kprobes
 * @addr:	its address
 *
 * A kprobe is a breakpoint.  Where the instructions behind it allow, the kernel makes it a jump of five
 * bytes some time later.  It keeps what it has overwritten.  Called with the code locked.
 */
u8 kpatch_arch_code_byte(unsigned long addr)
{
	const u8 *byte = (const u8 *)addr;
	struct kprobe *probe;
	u8 value = *byte;

	preempt_disable();
	probe = kpatch_get_kprobe(addr);
	if (probe && (value == INT3_INSN_OPCODE || value == JMP32_INSN_OPCODE))
		value = probe->opcode;
#ifdef CONFIG_OPTPROBES
	for (int i = 1; i < JMP32_INSN_SIZE; i++) {
		probe = kpatch_get_kprobe(addr - i);
		/* The flag comes before the jump, so a jump that was there all along is no proof. */
		if (probe && kprobe_optimized(probe) && probe->opcode != JMP32_INSN_OPCODE &&
		    byte[-i] == JMP32_INSN_OPCODE)
			value = container_of(probe, struct optimized_kprobe, kp)->optinsn.copied_insn[i - 1];
	}
#endif
	preempt_enable();
	return value;
}

/**
 * kpatch_arch_relocation - compute one relocation
 * @type:	R_X86_64_*
 * @place:	address that is relocated
 * @symbol:	address of the symbol
 * @addend:	the relocation's addend
 * @value:	bytes to write, in the low @size bytes
 * @size:	number of bytes
 *
 * Return: 0, -ENOEXEC for a type that kernel code does not use, -EOVERFLOW when the value does not fit.
 */
int kpatch_arch_relocation(unsigned long type, unsigned long place, unsigned long symbol, long addend,
			   u64 *value, unsigned int *size)
{
	u64 absolute = symbol + addend;
	u64 relative = absolute - place;

	switch (type) {
	case R_X86_64_64:
		*value = absolute;
		*size = 8;
		return 0;
	case R_X86_64_PC64:
		*value = relative;
		*size = 8;
		return 0;
	case R_X86_64_32:
		*value = absolute;
		*size = 4;
		return absolute == (u32)absolute ? 0 : -EOVERFLOW;
	case R_X86_64_32S:
		*value = absolute;
		*size = 4;
		return (s64)absolute == (s32)absolute ? 0 : -EOVERFLOW;
	case R_X86_64_PC32:
	case R_X86_64_PLT32:
		*value = relative;
		*size = 4;
		return (s64)relative == (s32)relative ? 0 : -EOVERFLOW;
	default:
		return -ENOEXEC;
	}
}
