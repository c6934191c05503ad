// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: is this the kernel that the patch was built for, and are these its functions?
 *
 * A patch module carries code that was compiled against one exact kernel.  The release can be equal
 * in two builds, the build ID cannot.  Each function is then checked by name, position, address and size:
 * these come from the image that the builder read, and kallsyms says what runs.  Everything that is wrong
 * is logged before the patch is refused.  Its bytes are compared by code.c.
 */
#include "internal.h"

#include <linux/elf.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/utsname.h>

#define NOTE_TYPE_BUILD_ID 3	/* of owner GNU, as the linker writes it */

/* Find the GNU build ID among the kernel's ELF notes; NULL if it has none. */
static const u8 *running_build_id(unsigned int *size)
{
	const void *note = (const void *)kpatch_vmlinux_symbol("__start_notes");
	const void *end = (const void *)kpatch_vmlinux_symbol("__stop_notes");

	while (note + sizeof(struct elf64_note) <= end) {
		const struct elf64_note *header = note;
		const char *owner = note + sizeof(*header);
		const u8 *content = owner + ALIGN(header->n_namesz, 4);

		if ((const void *)content + header->n_descsz > end)
			break;
		if (header->n_type == NOTE_TYPE_BUILD_ID && header->n_namesz == sizeof("GNU") &&
		    !memcmp(owner, "GNU", sizeof("GNU"))) {
			*size = header->n_descsz;
			return content;
		}
		note = content + ALIGN(header->n_descsz, 4);
	}
	return NULL;
}

/**
 * kpatch_verify_kernel - compare release and build ID with what the patch was built for
 * @kpmod:	the patch's description
 *
 * Return: 0 or -EINVAL; everything that differs has been logged.
 */
int kpatch_verify_kernel(const struct kpatch_module *kpmod)
{
	const char *release = init_uts_ns.name.release;
	const u8 *build_id;
	unsigned int size;
	int err = 0;

	if (strcmp(release, kpmod->release)) {
		pr_err("%s: built for kernel %s, this is %s\n", kpmod->name, kpmod->release, release);
		err = -EINVAL;
	}

	build_id = running_build_id(&size);
	if (!build_id) {
		pr_err("%s: this kernel has no build ID to compare with\n", kpmod->name);
		return -EINVAL;
	}
	if (size != kpmod->build_id_size || memcmp(build_id, kpmod->build_id, size)) {
		pr_err("%s: built for the kernel with build ID %*phN, this one has %*phN\n", kpmod->name,
		       (int)kpmod->build_id_size, kpmod->build_id, (int)size, build_id);
		err = -EINVAL;
	}
	return err;
}

/*
 * Is @size, which the compiler gave to the code at @addr, consistent with @known?  In a module that is
 * the same number again.  In vmlinux it is the distance to the next symbol, so it includes
 * padding: as much as the alignment of that symbol's address explains, or what functions may have.
 */
static bool size_ok(struct module *mod, unsigned long addr, unsigned long size, unsigned long known)
{
	unsigned long next = addr + known;

	if (!size || size > known)
		return false;
	if (mod)
		return size == known;
	return known - size < max(kpatch_arch_max_padding(), next & -next);
}

/* Find one piece of old code and check where it is, how long, and what it is; logs what is wrong. */
static int verify_code(const struct kpatch_patch *patch, const struct kpatch_target_object *object,
		       const char *name, unsigned long sympos, unsigned long link_addr,
		       unsigned long size, const struct kpatch_code *code, struct kpatch_symbol *symbol)
{
	const char *patch_name = patch->kpmod->name;
	const char *object_name = kpatch_object_name(object->desc->name);
	int err;

	err = kpatch_find_symbol(object->mod, name, sympos, symbol);
	if (err) {
		pr_err("%s: %s: %s,%lu: %s\n", patch_name, object_name, name, sympos,
		       kpatch_find_error(err));
		return -EINVAL;
	}
	if (!object->mod && link_addr + kpatch_arch_image_offset() != symbol->addr) {
		pr_err("%s: %s: %s,%lu: expected at %lx, is at %lx (addresses without KASLR)\n",
		       patch_name, object_name, name, sympos, link_addr,
		       symbol->addr - kpatch_arch_image_offset());
		return -EINVAL;
	}
	if (object->mod && !within_module_core(symbol->addr, object->mod)) {
		pr_err("%s: %s: %s,%lu: not in the module's permanent code\n", patch_name, object_name,
		       name, sympos);
		return -EINVAL;
	}
	if (!size_ok(object->mod, symbol->addr, size, symbol->size)) {
		pr_err("%s: %s: %s,%lu: expected %lu bytes, has %lu\n", patch_name, object_name, name,
		       sympos, size, symbol->size);
		return -EINVAL;
	}
	return kpatch_compare_code(patch, name, sympos, symbol->addr, size, code);
}

static int verify_parts(const struct kpatch_patch *patch, const struct kpatch_target_object *object,
			const struct kpatch_func *func)
{
	struct kpatch_symbol symbol;
	int first = 0;
	size_t i;

	if (func->nr_old_parts && !func->old_parts) {
		pr_err("%s: %s,%lu: has a number of parts without a table\n", patch->kpmod->name,
		       func->old_name, func->old_sympos);
		return -EINVAL;
	}
	for (i = 0; i < func->nr_old_parts; i++) {
		const struct kpatch_part *part = &func->old_parts[i];
		int err = verify_code(patch, object, part->name, part->sympos, part->addr, part->size,
				      &part->code, &symbol);

		first = first ?: err;
	}
	return first;
}

/* Can callers of the function at @addr be redirected by this patch?  Gives the place for ftrace. */
static int verify_entry(const struct kpatch_patch *patch, const struct kpatch_target_object *object,
			const struct kpatch_func *func, unsigned long addr, unsigned long *ip)
{
	const struct kpatch_target *other;

	*ip = kpatch_ftrace_location(addr);
	if (!*ip || !kpatch_arch_entry_ok(addr, *ip)) {
		pr_err("%s: %s,%lu: ftrace cannot redirect it (notrace, or no call at its entry)\n",
		       patch->kpmod->name, func->old_name, func->old_sympos);
		return -EINVAL;
	}
	for_each_target(object, other) {
		if (other->ip != *ip)
			continue;
		pr_err("%s: %s,%lu: is the same function as %s,%lu of this patch\n",
		       patch->kpmod->name, func->old_name, func->old_sympos, other->func->old_name,
		       other->func->old_sympos);
		return -EINVAL;
	}
	return 0;
}

/* Verify one function and add it to the patch's targets. */
static int verify_func(struct kpatch_patch *patch, struct kpatch_target_object *object,
		       const struct kpatch_func *func)
{
	struct kpatch_target *target;
	struct kpatch_symbol symbol;
	unsigned long ip;
	int err, parts;

	if (!within_module_core((unsigned long)func->new_func, patch->kpmod->mod)) {
		pr_err("%s: %s,%lu: its replacement is not in the patch module's permanent code\n",
		       patch->kpmod->name, func->old_name, func->old_sympos);
		return -EINVAL;
	}
	err = verify_code(patch, object, func->old_name, func->old_sympos, func->old_addr, func->old_size,
			  &func->old_code, &symbol);
	parts = verify_parts(patch, object, func);
	if (!err)
		err = verify_entry(patch, object, func, symbol.addr, &ip);
	if (err || parts)
		return err ?: parts;

	target = kzalloc(sizeof(*target), GFP_KERNEL);
	if (!target)
		return -ENOMEM;
	kpatch_sysfs_init_target(target);
	err = kpatch_find_code(patch->kpmod->mod, (unsigned long)func->new_func, func->old_name,
			       &target->new_code);
	if (err) {
		if (err == -ENOENT) {
			pr_err("%s: %s,%lu: its replacement has no symbol in the patch module\n",
			       patch->kpmod->name, func->old_name, func->old_sympos);
			err = -EINVAL;
		}
		kobject_put(&target->kobj);
		return err;
	}
	target->patch = patch;
	target->object = object;
	target->func = func;
	target->addr = symbol.addr;
	target->size = symbol.size;
	target->ip = ip;
	list_add_tail(&target->list, &object->targets);
	object->nr_targets++;
	return 0;
}

/**
 * kpatch_verify_object_code - compare the code of an object's old functions once more
 * @patch:	the patch
 * @object:	verified before
 *
 * Return: 0 or the first error; all have been logged.
 */
int kpatch_verify_object_code(const struct kpatch_patch *patch, const struct kpatch_target_object *object)
{
	const struct kpatch_target *target;
	struct kpatch_symbol symbol;
	int first = 0;

	for_each_target(object, target) {
		const struct kpatch_func *func = target->func;

		first = verify_code(patch, object, func->old_name, func->old_sympos, func->old_addr,
				    func->old_size, &func->old_code, &symbol) ?: first;
		first = verify_parts(patch, object, func) ?: first;
	}
	return first;
}

static int verify_reference(const struct kpatch_patch *patch, const struct kpatch_target_object *object,
			    const struct kpatch_reference *ref)
{
	const char *object_name = kpatch_object_name(object->desc->name);
	struct kpatch_symbol symbol;
	int err;

	err = kpatch_find_symbol(object->mod, ref->name, ref->sympos, &symbol);
	if (err) {
		pr_err("%s: %s: reference to %s,%lu: %s\n", patch->kpmod->name, object_name, ref->name,
		       ref->sympos, kpatch_find_error(err));
		return -EINVAL;
	}
	if (symbol.addr != (unsigned long)ref->addr) {
		pr_err("%s: %s: reference to %s,%lu is %ld bytes off\n", patch->kpmod->name, object_name,
		       ref->name, ref->sympos, (long)((unsigned long)ref->addr - symbol.addr));
		return -EINVAL;
	}
	return 0;
}

/**
 * kpatch_verify_object - find and verify everything that a patch says about one object
 * @patch:	the patch, gets one target for each function
 * @object:	vmlinux or a module, loaded and held
 *
 * Return: 0 or the first error; all have been logged.  Targets already added stay with the patch.
 */
int kpatch_verify_object(struct kpatch_patch *patch, struct kpatch_target_object *object)
{
	const struct kpatch_object *desc = object->desc;
	int first = 0;
	size_t i;

	for (i = 0; i < desc->nr_funcs; i++) {
		int err = verify_func(patch, object, &desc->funcs[i]);

		first = first ?: err;
	}
	for (i = 0; i < desc->nr_references; i++) {
		int err = verify_reference(patch, object, &desc->references[i]);

		first = first ?: err;
	}
	return first;
}
