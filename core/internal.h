/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kpatch: what the core's files share.
 *
 * main.c		registration: from kpatch_register() to kpatch_unregister()
 * apply.c	the order of the steps that apply a patch and undo it, whole or for one module
 * modules.c	modules that load after a patch, or unload before it
 * symbols.c	functions that the kernel does not export; kallsyms look-ups by name and position
 * verify.c	is this the kernel, are these the functions, that the patch was built for?
 * code.c	is their code in memory the code that was shipped?
 * reloc.c	dynamic relocations
 * redirect.c	ftrace sends callers of an old function to the new one
 * switch.c	stop_machine, the check of every task's stack, the switch
 * shadow.c	shadow variables
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

struct kpatch_site;

/**
 * struct kpatch_target - one function of a patch, found in this kernel
 * @kobj:	its folder in sysfs; owns this structure
 * @list:	in kpatch_target_object.targets
 * @patch:	the patch that it belongs to
 * @object:	the object that the function is in
 * @func:	what the patch module says about it
 * @addr:	address of the old function
 * @size:	its size up to the next symbol, padding included
 * @ip:		the place in it that ftrace can change
 * @new_code:	what its replacement is made of
 * @site:	that place among those that are redirected, NULL while this target is not (redirect.c)
 * @below:	the target of an earlier patch for the same function
 */
struct kpatch_target {
	struct kobject kobj;
	struct list_head list;
	struct kpatch_patch *patch;
	struct kpatch_target_object *object;
	const struct kpatch_func *func;
	unsigned long addr;
	unsigned long size;
	unsigned long ip;
	struct kpatch_ranges new_code;
	struct kpatch_site *site;
	struct kpatch_target *below;
};

/* How far an object is, as seen by its callbacks. */
enum kpatch_phase {
	KPATCH_UNPATCHED,	/* nothing was called, or post_unpatch */
	KPATCH_PATCHING,	/* pre_patch */
	KPATCH_PATCHED,		/* post_patch */
	KPATCH_UNPATCHING,	/* pre_unpatch */
};

/**
 * struct kpatch_target_object - vmlinux or a module that a patch changes
 * @kobj:	its folder in sysfs; owns this structure
 * @list:	in kpatch_patch.objects
 * @desc:	what the patch module says about it
 * @mod:	the module while it is loaded; NULL for vmlinux.  No reference is held: see modules.c
 * @ready:	its functions are found and verified, its relocations are written
 * @phase:	of its callbacks
 * @nr_relocated: how many of its relocations are written
 * @nr_targets:	entries in @targets
 * @targets:	of struct kpatch_target, while @ready
 */
struct kpatch_target_object {
	struct kobject kobj;
	struct list_head list;
	const struct kpatch_object *desc;
	struct module *mod;
	bool ready;
	enum kpatch_phase phase;
	size_t nr_relocated;
	size_t nr_targets;
	struct list_head targets;
};

enum kpatch_state {
	KPATCH_COMING,
	KPATCH_REGISTERED,
	KPATCH_SUPERSEDED,
	KPATCH_LEAVING,
};

/**
 * struct kpatch_patch - the core's side of a struct kpatch_module
 * @kobj:	its folder in sysfs; owns this structure
 * @list:	in the list of registered patches
 * @leaving:	in the list of patches that a switch undoes
 * @kpmod:	the patch module's side
 * @objects_kobj: the folder of the objects' folders
 * @objects:	of struct kpatch_target_object
 * @applied:	callers are sent to the new functions; which of the two counts is in redirect.c
 * @forced:	some function has force_unsafe
 * @holds_module: a reference to the patch module is held, as it is applied and forced
 * @unchecked:	a forced patch has superseded it, so that a task may still be in its code
 * @state:	only while registered may sysfs apply or undo it
 */
struct kpatch_patch {
	struct kobject kobj;
	struct list_head list;
	struct list_head leaving;
	struct kpatch_module *kpmod;
	struct kobject *objects_kobj;
	struct list_head objects;
	bool applied[2];
	bool forced;
	bool holds_module;
	bool unchecked;
	enum kpatch_state state;
};

#define for_each_object(patch, object) \
	list_for_each_entry(object, &(patch)->objects, list)

#define for_each_target(object, target) \
	list_for_each_entry(target, &(object)->targets, list)

/* Registered patches, those applied last at the end.  Protected by kpatch_mutex. */
extern struct list_head kpatch_patches;

/* Held for everything that changes a patch; notifiers of modules, sysfs and registration meet here. */
extern struct mutex kpatch_mutex;

static inline const char *kpatch_object_name(const char *name)
{
	return name ?: "vmlinux";
}

/* apply.c */
int kpatch_enable(struct kpatch_patch *patch, bool replace);
int kpatch_disable(struct kpatch_patch *patch, bool quiet);
int kpatch_object_coming(struct kpatch_patch *patch, struct kpatch_target_object *object, struct module *mod);
void kpatch_object_going(struct kpatch_patch *patch, struct kpatch_target_object *object);
void kpatch_drop_objects(struct kpatch_patch *patch);

/* modules.c */
int kpatch_modules_init(void);
void kpatch_modules_exit(void);
int kpatch_lock_settled(const struct kpatch_module *kpmod);

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
struct module *kpatch_find_module(const char *name, enum module_state state);
int kpatch_find_code(struct module *mod, unsigned long addr, const char *name, struct kpatch_ranges *ranges);
unsigned long kpatch_ftrace_location(unsigned long addr);
int kpatch_save_stack_reliable(struct task_struct *task, unsigned long *entries, unsigned int size);
unsigned int kpatch_save_stack(struct task_struct *task, unsigned long *entries, unsigned int size);
struct task_struct *kpatch_idle_task(int cpu);
const struct sched_class *kpatch_stop_class(void);
unsigned long kpatch_need_symbol(const char *name);
void kpatch_lock_code(void);
void kpatch_unlock_code(void);
struct kprobe *kpatch_get_kprobe(unsigned long addr);
struct module *kpatch_used_module(const struct kpatch_target_object *object, const char *name);
void *kpatch_redirecting_handler(unsigned long ip);

/* verify.c */
int kpatch_verify_kernel(const struct kpatch_module *kpmod);
int kpatch_verify_object(struct kpatch_patch *patch, struct kpatch_target_object *object);
int kpatch_verify_object_code(const struct kpatch_patch *patch, const struct kpatch_target_object *object);

/* code.c */
int kpatch_compare_code(const struct kpatch_patch *patch, const char *name, unsigned long sympos,
			unsigned long addr, unsigned long size, const struct kpatch_code *code);

/* reloc.c */
int kpatch_relocate(const struct kpatch_patch *patch, struct kpatch_target_object *object);
void kpatch_unrelocate(struct kpatch_target_object *object);

/* redirect.c */
int kpatch_redirect(struct kpatch_target_object *object);
void kpatch_unredirect(struct kpatch_target_object *object);
void kpatch_wait_for_handlers(void);
const struct kpatch_target *kpatch_active_target(const struct kpatch_site *site);
bool kpatch_applied(const struct kpatch_patch *patch);
void kpatch_plan(struct kpatch_patch *patch, bool apply);
void kpatch_commit_begin(void);
int kpatch_commit(void);
void kpatch_settle(struct kpatch_patch *patch);

/* switch.c */
int kpatch_switch_init(void);
void kpatch_switch_exit(void);
int kpatch_switch(struct kpatch_patch *patch, bool apply, bool replace, bool quiet);
void kpatch_call_stopped(void (*hook)(const struct kpatch_object *object),
			 const struct kpatch_object *object);
u64 kpatch_last_stop_ns(void);

/* shadow.c */
void kpatch_shadow_exit(void);

/* sysfs.c */
int kpatch_sysfs_init(void);
void kpatch_sysfs_exit(void);
void kpatch_sysfs_init_patch(struct kpatch_patch *patch);
void kpatch_sysfs_init_object(struct kpatch_target_object *object);
void kpatch_sysfs_init_target(struct kpatch_target *target);
int kpatch_sysfs_add(struct kpatch_patch *patch);
int kpatch_sysfs_add_targets(struct kpatch_target_object *object);
void kpatch_sysfs_remove_targets(struct kpatch_target_object *object);
void kpatch_sysfs_remove(struct kpatch_patch *patch);

/* arch_*.c */
bool kpatch_arch_init(void);
int kpatch_arch_write(void *dest, const void *bytes, size_t size);
unsigned long kpatch_arch_max_padding(void);
unsigned long kpatch_arch_image_offset(void);
bool kpatch_arch_entry_ok(unsigned long addr, unsigned long ip);
u8 kpatch_arch_code_byte(unsigned long addr);
int kpatch_arch_relocation(unsigned long type, unsigned long place, unsigned long symbol, long addend,
			   u64 *value, unsigned int *size);

#endif /* _KPATCH_INTERNAL_H */
