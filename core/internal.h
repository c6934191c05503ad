/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kpatch: what the core's files share.
 *
 * main.c		registration, the life of a patch, and the order of all steps
 * symbols.c	functions that the kernel does not export; kallsyms look-ups by name and position
 * verify.c	is this the kernel, are these the functions, that the patch was built for?
 * reloc.c	dynamic relocations
 * redirect.c	ftrace sends callers of an old function to the new one
 * switch.c	stop_machine, the check of every task's stack, the switch
 * sysfs.c	/sys/kernel/kpatch
 * arch_*.c	everything that depends on the architecture
 */
#ifndef _KPATCH_INTERNAL_H
#define _KPATCH_INTERNAL_H

#define pr_fmt(fmt) "kpatch: " fmt

#include <linux/ftrace.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/types.h>

#include "kpatch.h"

/**
 * struct kpatch_range - code that must not be on any stack
 * @start:	first address
 * @end:	last address, inclusive: see switch.c
 * @name:	what to call it in the log
 */
struct kpatch_range {
	unsigned long start;
	unsigned long end;
	const char *name;
};

struct kpatch_ranges {
	struct kpatch_range *range;	/* sorted by start, touching at most */
	size_t nr;
};

/**
 * struct kpatch_target - one function of a patch, found in this kernel
 * @kobj:	its folder in sysfs; owns this structure
 * @list:	in kpatch_patch.targets
 * @node:	in the table of redirected functions (redirect.c)
 * @patch:	the patch that it belongs to
 * @object:	the object that the function is in
 * @func:	what the patch module says about it
 * @addr:	address of the old function
 * @size:	its size up to the next symbol, padding included
 * @ip:		the place in it that ftrace can change
 */
struct kpatch_target {
	struct kobject kobj;
	struct list_head list;
	struct hlist_node node;
	struct kpatch_patch *patch;
	struct kpatch_target_object *object;
	const struct kpatch_func *func;
	unsigned long addr;
	unsigned long size;
	unsigned long ip;
};

/**
 * struct kpatch_target_object - vmlinux or a module that a patch changes
 * @kobj:	its folder in sysfs; owns this structure
 * @list:	in kpatch_patch.objects
 * @desc:	what the patch module says about it
 * @mod:	the module, with a reference held; NULL for vmlinux
 */
struct kpatch_target_object {
	struct kobject kobj;
	struct list_head list;
	const struct kpatch_object *desc;
	struct module *mod;
};

enum kpatch_state {
	KPATCH_COMING,
	KPATCH_REGISTERED,
	KPATCH_LEAVING,
};

/**
 * struct kpatch_patch - the core's side of a struct kpatch_module
 * @kobj:	its folder in sysfs; owns this structure
 * @list:	in the list of registered patches
 * @kpmod:	the patch module's side
 * @objects_kobj: the folder of the objects' folders
 * @objects:	of struct kpatch_target_object
 * @targets:	of struct kpatch_target
 * @nr_targets:	entries in @targets
 * @ips:	their ftrace locations, in the same order
 * @ops:		their user of ftrace (redirect.c)
 * @old_ranges:	code that no task may be in when the patch is applied
 * @new_ranges:	code outside the patch module that no task may be in when the patch is undone
 * @applied:	callers are sent to the new functions; written only while the machine is stopped
 * @forced:	some function has force_unsafe
 * @state:	only while registered may sysfs apply or undo it
 */
struct kpatch_patch {
	struct kobject kobj;
	struct list_head list;
	struct kpatch_module *kpmod;
	struct kobject *objects_kobj;
	struct list_head objects;
	struct list_head targets;
	size_t nr_targets;
	unsigned long *ips;
	struct ftrace_ops ops;
	struct kpatch_ranges old_ranges;
	struct kpatch_ranges new_ranges;
	bool applied;
	bool forced;
	enum kpatch_state state;
};

#define for_each_target(patch, target) \
	list_for_each_entry(target, &(patch)->targets, list)

#define for_each_object(patch, object) \
	list_for_each_entry(object, &(patch)->objects, list)

static inline const char *kpatch_object_name(const char *name)
{
	return name ?: "vmlinux";
}

/* main.c */
int kpatch_enable(struct kpatch_patch *patch);
int kpatch_disable(struct kpatch_patch *patch, bool quiet);
extern struct mutex kpatch_mutex;

/* symbols.c */
struct kpatch_symbol {
	unsigned long addr;
	unsigned long size;	/* in vmlinux up to the next symbol, in modules the symbol's own */
};

int kpatch_symbols_init(void);
int kpatch_find_symbol(struct module *mod, const char *name, unsigned long sympos,
		       struct kpatch_symbol *symbol);
const char *kpatch_find_error(int err);
unsigned long kpatch_vmlinux_symbol(const char *name);
struct module *kpatch_get_module(const char *name);
unsigned long kpatch_ftrace_location(unsigned long addr);
int kpatch_save_stack_reliable(struct task_struct *task, unsigned long *entries, unsigned int size);
unsigned int kpatch_save_stack(struct task_struct *task, unsigned long *entries, unsigned int size);
struct task_struct *kpatch_idle_task(int cpu);
const struct sched_class *kpatch_stop_class(void);
int kpatch_write_code(void *dest, const void *bytes, size_t size);

/* verify.c */
int kpatch_verify_kernel(const struct kpatch_module *kpmod);
int kpatch_verify_object(struct kpatch_patch *patch, struct kpatch_target_object *object);

/* reloc.c */
int kpatch_relocate(struct kpatch_patch *patch);

/* redirect.c */
int kpatch_redirect(struct kpatch_patch *patch);
void kpatch_unredirect(struct kpatch_patch *patch);

/* switch.c */
int kpatch_switch_init(void);
void kpatch_switch_exit(void);
int kpatch_prepare_switch(struct kpatch_patch *patch);
int kpatch_switch(struct kpatch_patch *patch, bool apply);
void kpatch_log_refusal(const struct kpatch_patch *patch);
u64 kpatch_last_stop_ns(void);

/* sysfs.c */
int kpatch_sysfs_init(void);
void kpatch_sysfs_exit(void);
void kpatch_sysfs_init_patch(struct kpatch_patch *patch);
void kpatch_sysfs_init_object(struct kpatch_target_object *object);
void kpatch_sysfs_init_target(struct kpatch_target *target);
int kpatch_sysfs_add(struct kpatch_patch *patch);
void kpatch_sysfs_remove(struct kpatch_patch *patch);

/* arch_*.c */
unsigned long kpatch_arch_image_offset(void);
bool kpatch_arch_entry_ok(unsigned long addr, unsigned long ip);
int kpatch_arch_relocation(unsigned long type, unsigned long place, unsigned long symbol, long addend,
			   u64 *value, unsigned int *size);

#endif /* _KPATCH_INTERNAL_H */
