/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kpatch: the interface between the core module and patch modules.
 *
 * A patch module describes in static tables what it replaces and hands them to kpatch_register() from
 * its init function; kpatch_unregister() in its exit function undoes it:
 *
 *	static int __init patch_init(void) { return kpatch_register(&patch, false); }
 *	static void __exit patch_exit(void) { kpatch_unregister(&patch); }
 *
 * The tables and every string in them must live as long as the module does, so neither may be __init.
 * They may be const except for struct kpatch_module itself.
 */
#ifndef _KPATCH_H
#define _KPATCH_H

#include <linux/types.h>
#include <linux/module.h>

/*
 * How symbols are named, here and below: @sympos is the 1-based position of the symbol among those
 * of the same name in the same object, in the order of kallsyms; 0 says that the name is unique there,
 * and is refused when it is not.
 */

/**
 * struct kpatch_span - bytes of an old function that may differ in memory from what was shipped
 * @offset:	from the function's beginning
 * @size:	in bytes, at least 1
 */
struct kpatch_span {
	unsigned int offset;
	unsigned int size;
};

/**
 * struct kpatch_code - what an old function must look like in memory
 * @bytes:	its bytes as they were shipped, or NULL: they are not compared
 * @spans:	what the kernel may have changed of them, in order and not overlapping, or NULL
 * @nr_spans:	entries in @spans
 *
 * The kernel moves itself and rewrites instructions: @spans has addresses, calls of ftrace, alternatives,
 * jump labels and so on.  Kprobes need no span, the core knows them.
 */
struct kpatch_code {
	const u8 *bytes;
	const struct kpatch_span *spans;
	size_t nr_spans;
};

/**
 * struct kpatch_part - code of an old function outside its main symbol
 * @name:	symbol, usually the function's name with ".cold"
 * @sympos:	position among equal names
 * @addr:	link-time address, 0 in modules
 * @size:	size in bytes
 * @code:	its @size bytes
 *
 * The compiler moves unlikely blocks away from the function.  A task there is inside the function,
 * though no address on its stack lies in the main symbol.
 */
struct kpatch_part {
	const char *name;
	unsigned long sympos;
	unsigned long addr;
	unsigned long size;
	struct kpatch_code code;
};

/**
 * struct kpatch_func - one function and its replacement
 * @old_name:	symbol of the function to be replaced
 * @old_sympos:	its position among equal names
 * @old_addr:	its link-time address (without KASLR), 0 in modules
 * @old_size:	its size in bytes as the compiler knows it, without the padding that follows
 * @old_code:	its @old_size bytes
 * @old_parts:	other code of the function (.cold), or NULL
 * @nr_old_parts: entries in @old_parts
 * @new_func:	the replacement, in the patch module
 * @force_unsafe: switch even while tasks are inside the old function, which then go on in it
 */
struct kpatch_func {
	const char *old_name;
	unsigned long old_sympos;
	unsigned long old_addr;
	unsigned long old_size;
	struct kpatch_code old_code;
	const struct kpatch_part *old_parts;
	size_t nr_old_parts;
	void *new_func;
	bool force_unsafe;
};

/**
 * struct kpatch_dynrela - a relocation that the core writes into the patch module at registration
 * @dest:	place in the patch module; what it holds before must be zero
 * @type:	R_X86_64_64, _32, _32S, _PC32, _PLT32 or _PC64
 * @name:	symbol that the place refers to
 * @sympos:	its position among equal names
 * @objname:	NULL for vmlinux, or the module that has the symbol: the object itself, or one that it uses
 * @addend:	the relocation's addend
 */
struct kpatch_dynrela {
	const void *dest;
	unsigned long type;
	const char *name;
	unsigned long sympos;
	const char *objname;
	long addend;
};

/**
 * struct kpatch_reference - a symbol of the object that patched code reaches without a dynrela
 * @name:	symbol, possibly not exported
 * @sympos:	its position among equal names
 * @addr:	where the patch module thinks that it is
 *
 * KASLR moves vmlinux as a whole, so ordinary relocations reach its non-exported symbols as an
 * exported symbol plus a distance.  @addr is what such a relocation gave; the core compares it with
 * kallsyms before it switches anything.
 */
struct kpatch_reference {
	const char *name;
	unsigned long sympos;
	const void *addr;
};

struct kpatch_object;

/**
 * struct kpatch_callbacks - functions of the patch module, called when one of its objects changes hands
 * @pre_patch:	before the object is patched; an error (-errno) stops that, or the load of the module
 * @load:	right after the switch, while the machine is still stopped
 * @post_patch:	after the object has been patched, and when undoing it was refused after @pre_unpatch
 * @pre_unpatch: before it is undone
 * @unload:	right after the switch back, while the machine is still stopped
 * @post_unpatch: after it has been undone, and when patching was refused after @pre_patch
 *
 * Each may be NULL.  @load and @unload run on one CPU while all others spin with interrupts off: they must not
 * sleep, allocate, print or take a lock that anyone may hold.  The others run in process context and may
 * sleep, but must not load or unload modules or use the core.
 */
struct kpatch_callbacks {
	int (*pre_patch)(const struct kpatch_object *object);
	void (*load)(const struct kpatch_object *object);
	void (*post_patch)(const struct kpatch_object *object);
	void (*pre_unpatch)(const struct kpatch_object *object);
	void (*unload)(const struct kpatch_object *object);
	void (*post_unpatch)(const struct kpatch_object *object);
};

/**
 * struct kpatch_object - what a patch does to vmlinux or to one module
 * @name:	the module's name, NULL for vmlinux
 * @funcs:	functions to replace; may be none
 * @nr_funcs:	entries in @funcs
 * @dynrelas:	relocations to write, or NULL
 * @nr_dynrelas: entries in @dynrelas
 * @references:	symbols of this object that were reached by ordinary relocations, or NULL
 * @nr_references: entries in @references
 * @callbacks:	what to call when the object is patched or no longer is
 */
struct kpatch_object {
	const char *name;
	const struct kpatch_func *funcs;
	size_t nr_funcs;
	const struct kpatch_dynrela *dynrelas;
	size_t nr_dynrelas;
	const struct kpatch_reference *references;
	size_t nr_references;
	struct kpatch_callbacks callbacks;
};

struct kpatch_patch;

/**
 * struct kpatch_module - one patch
 * @mod:	THIS_MODULE
 * @name:	the patch's name, its folder under /sys/kernel/kpatch/patches
 * @release:	`uname -r` of the kernel it was built for
 * @build_id:	that kernel's GNU build ID
 * @build_id_size: bytes in @build_id
 * @objects:	what it changes
 * @nr_objects:	entries in @objects
 * @patch:	the core's own; starts as NULL
 */
struct kpatch_module {
	struct module *mod;
	const char *name;
	const char *release;
	const u8 *build_id;
	unsigned int build_id_size;
	const struct kpatch_object *objects;
	size_t nr_objects;
	struct kpatch_patch *patch;
};

int kpatch_register(struct kpatch_module *kpmod, bool replace);
int kpatch_unregister(struct kpatch_module *kpmod);

/*
 * Shadow variables: data that patched code attaches to objects which have no room for it.  An object has
 * at most one variable of each id; choose ids that no other patch has.  See shadow.c for each function.
 */
typedef int (*kpatch_shadow_ctor)(void *obj, void *data, void *ctor_data);
typedef void (*kpatch_shadow_dtor)(void *obj, void *data);

void *kpatch_shadow_get(void *obj, unsigned long id);
void *kpatch_shadow_alloc(void *obj, unsigned long id, size_t size, gfp_t gfp, kpatch_shadow_ctor ctor,
			  void *ctor_data);
void *kpatch_shadow_get_or_alloc(void *obj, unsigned long id, size_t size, gfp_t gfp,
				 kpatch_shadow_ctor ctor, void *ctor_data);
void kpatch_shadow_free(void *obj, unsigned long id, kpatch_shadow_dtor dtor);
void kpatch_shadow_free_all(unsigned long id, kpatch_shadow_dtor dtor);

#endif /* _KPATCH_H */
