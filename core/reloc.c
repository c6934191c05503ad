// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: dynamic relocations.
 *
 * The module loader resolves only exported symbols.  The rest is in the patch module's table of
 * dynamic relocations, which are applied here, after the loader is done and before any of the code runs.
 *
 * The loader has by then rewritten alternatives, static calls, jump labels and return thunks.  It would do
 * harm to write into bytes that it has changed, and bytes that wait for a relocation are zero in
 * every object that compiler and linker make for x86-64 (the addend is in the table).  So a place that
 * holds anything else has two owners, and the patch is refused.
 */
#include "internal.h"

#include <linux/string.h>

static int relocate_one(const struct kpatch_patch *patch, const struct kpatch_target_object *object,
			const struct kpatch_dynrela *rela, bool write)
{
	const char *patch_name = patch->kpmod->name;
	unsigned long place = (unsigned long)rela->dest;
	struct module *owner = NULL;
	struct kpatch_symbol symbol;
	unsigned int size;
	u64 value;
	int err;

	if (rela->objname) {
		owner = kpatch_used_module(object, rela->objname);
		if (!owner) {
			pr_err("%s: relocation to %s: module %s is neither the object that the relocation belongs to nor one that it uses\n",
			       patch_name, rela->name, rela->objname);
			return -EOPNOTSUPP;
		}
	}
	err = kpatch_find_symbol(owner, rela->name, rela->sympos, &symbol);
	if (err) {
		pr_err("%s: relocation to %s:%s,%lu: %s\n", patch_name, kpatch_object_name(rela->objname),
		       rela->name, rela->sympos, kpatch_find_error(err));
		return -EINVAL;
	}

	err = kpatch_arch_relocation(rela->type, place, symbol.addr, rela->addend, &value, &size);
	if (err == -EOVERFLOW) {
		pr_err("%s: relocation to %s:%s,%lu: overflow, %llx does not fit into type %lu\n",
		       patch_name, kpatch_object_name(rela->objname), rela->name, rela->sympos, value,
		       rela->type);
		return err;
	}
	if (err) {
		pr_err("%s: relocation to %s:%s,%lu: unknown type %lu\n", patch_name,
		       kpatch_object_name(rela->objname), rela->name, rela->sympos, rela->type);
		return err;
	}
	if (!within_module_core(place, patch->kpmod->mod) ||
	    !within_module_core(place + size - 1, patch->kpmod->mod)) {
		pr_err("%s: relocation to %s:%s,%lu: its place is outside the patch module\n", patch_name,
		       kpatch_object_name(rela->objname), rela->name, rela->sympos);
		return -EFAULT;
	}
	if (memchr_inv(rela->dest, 0, size)) {
		pr_err("%s: relocation to %s:%s,%lu: %pS is not empty, it holds %*ph\n", patch_name,
		       kpatch_object_name(rela->objname), rela->name, rela->sympos, rela->dest, (int)size,
		       rela->dest);
		return -EEXIST;
	}

	/* The low bytes of a little-endian value come first. */
	return !write ? 0 : kpatch_arch_write((void *)rela->dest, &value, size);
}

/**
 * kpatch_relocate - write the dynamic relocations of an object
 * @patch:	the patch
 * @object:	loaded
 *
 * Return: 0 or the first error; all have been logged, and nothing is written.
 */
int kpatch_relocate(const struct kpatch_patch *patch, struct kpatch_target_object *object)
{
	int first = 0;
	size_t i;

	for (i = 0; i < object->desc->nr_dynrelas; i++) {
		int err = relocate_one(patch, object, &object->desc->dynrelas[i], !first);

		first = first ?: err;
		if (!first)
			object->nr_relocated = i + 1;
	}
	if (first)
		kpatch_unrelocate(object);
	return first;
}

/* Make the places empty again, for a module that may come back elsewhere.  Nobody is in the code. */
void kpatch_unrelocate(struct kpatch_target_object *object)
{
	const struct kpatch_dynrela *rela;
	unsigned int size;
	u64 value;

	while (object->nr_relocated) {
		rela = &object->desc->dynrelas[--object->nr_relocated];
		kpatch_arch_relocation(rela->type, 0, 0, 0, &value, &size);
		value = 0;
		kpatch_arch_write((void *)rela->dest, &value, size);
	}
}
