// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: dynamic kernel patching, the core module.
 *
 * Patch modules call kpatch_register() when they load and kpatch_unregister() when they go.  A registered
 * patch is applied or not (sysfs `enabled`).  This file has the order of the steps:
 *
 *	register    check the description, verify the kernel, then each object: hold it, find and verify
 *		    its functions and references; apply relocations; show in sysfs; enable
 *	enable	    ftrace calls the handler; switch under stop_machine
 *	disable	    switch back under stop_machine; ftrace lets go; wait for what may still be there
 *	unregister  disable; remove from sysfs; let go of the objects
 *
 * A switch that a task stands in the way of is tried again: TRIES times, RETRY_MS apart.  After that
 * registration and a write to `enabled` fail with -EBUSY, and nothing has changed.  A module's
 * exit function cannot fail, so rmmod goes on trying, with longer pauses, and says in the log who is in
 * the way: code that may be running is never freed.  Whoever wants a refusal instead writes 0 to `enabled`
 * first.
 *
 * Functions with force_unsafe are switched without looking at stacks, so a task may go on in the old one
 * with new ones around it.  To undo that is a decision: such a patch holds a reference to its module, rmmod
 * refuses, and writing 0 to `enabled` gives the reference back.
 */
#include "internal.h"

#include <linux/delay.h>
#include <linux/init.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/string.h>

#define TRIES 10
#define RETRY_MS 100
#define PAUSE_MS 500		/* rmmod: that much longer after every TRIES in vain */
#define MAX_PAUSES 10

DEFINE_MUTEX(kpatch_mutex);	/* the list, all patches' state, and all switches */
static LIST_HEAD(patches);

/* Switch, with patience.  Unless told to be quiet, logs what stood in the way when it gives up. */
static int switch_patiently(struct kpatch_patch *patch, bool apply, bool quiet)
{
	int tries, err;

	for (tries = 1;; tries++) {
		err = kpatch_switch(patch, apply);
		if (!err || tries == TRIES)
			break;
		msleep(RETRY_MS);
	}
	if (err && !quiet)
		kpatch_log_refusal(patch);
	return err;
}

/**
 * kpatch_enable - apply a registered patch
 * @patch:	the patch
 *
 * Return: 0, also if it is applied already; -EBUSY if a task stays inside an old function or another user
 * of ftrace has one of them; nothing has changed then.
 */
int kpatch_enable(struct kpatch_patch *patch)
{
	int err;

	lockdep_assert_held(&kpatch_mutex);
	if (patch->applied)
		return 0;
	if (patch->forced && !try_module_get(patch->kpmod->mod))
		return -ENODEV;

	err = kpatch_redirect(patch);
	if (err)
		goto put;
	err = switch_patiently(patch, true, false);
	if (err)
		goto unredirect;
	add_taint(TAINT_LIVEPATCH, LOCKDEP_STILL_OK);
	return 0;

unredirect:
	kpatch_unredirect(patch);
put:
	if (patch->forced)
		module_put(patch->kpmod->mod);
	return err;
}

/**
 * kpatch_disable - undo a patch, which stays registered
 * @patch:	the patch
 * @quiet:	do not log who is in the way
 *
 * Return: 0, also if it is not applied; -EBUSY if a task stays inside the patch module.
 */
int kpatch_disable(struct kpatch_patch *patch, bool quiet)
{
	int err;

	lockdep_assert_held(&kpatch_mutex);
	if (!patch->applied)
		return 0;
	err = switch_patiently(patch, false, quiet);
	if (err)
		return err;
	kpatch_unredirect(patch);
	if (patch->forced)
		module_put(patch->kpmod->mod);
	return 0;
}

/* A name that can be a folder in sysfs. */
static bool name_ok(const char *name)
{
	return name && *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

/* Is the description complete?  Says what is missing, as its author has to mend it. */
static int check_description(const struct kpatch_module *kpmod)
{
	const struct kpatch_patch *other;
	size_t i, j;

	if (!kpmod || !kpmod->mod || !name_ok(kpmod->name)) {
		pr_err("a patch without a module or a valid name\n");
		return -EINVAL;
	}
	if (kpmod->patch) {
		pr_err("%s: is registered already\n", kpmod->name);
		return -EINVAL;
	}
	list_for_each_entry(other, &patches, list) {
		if (!strcmp(other->kpmod->name, kpmod->name)) {
			pr_err("%s: a patch of this name is registered already\n", kpmod->name);
			return -EEXIST;
		}
	}
	if (!kpmod->release || !kpmod->build_id || !kpmod->build_id_size) {
		pr_err("%s: does not say which kernel it is for\n", kpmod->name);
		return -EINVAL;
	}
	if (!kpmod->objects || !kpmod->nr_objects) {
		pr_err("%s: has no objects\n", kpmod->name);
		return -EINVAL;
	}
	for (i = 0; i < kpmod->nr_objects; i++) {
		const struct kpatch_object *object = &kpmod->objects[i];
		const char *name = kpatch_object_name(object->name);

		if ((object->nr_funcs && !object->funcs) || (object->nr_dynrelas && !object->dynrelas) ||
		    (object->nr_references && !object->references)) {
			pr_err("%s: object %s has a number of entries without a table\n", kpmod->name, name);
			return -EINVAL;
		}
		for (j = 0; j < i; j++) {
			if (!strcmp(name, kpatch_object_name(kpmod->objects[j].name))) {
				pr_err("%s: object %s is there twice\n", kpmod->name, name);
				return -EINVAL;
			}
		}
	}
	return 0;
}

/* Hold one object and verify what the patch says about it. */
static int add_object(struct kpatch_patch *patch, const struct kpatch_object *desc)
{
	struct kpatch_target_object *object;

	if (!name_ok(kpatch_object_name(desc->name))) {
		pr_err("%s: an object without a valid name\n", patch->kpmod->name);
		return -EINVAL;
	}
	object = kzalloc(sizeof(*object), GFP_KERNEL);
	if (!object)
		return -ENOMEM;
	object->desc = desc;
	kpatch_sysfs_init_object(object);
	list_add_tail(&object->list, &patch->objects);

	if (desc->name) {
		object->mod = kpatch_get_module(desc->name);
		if (!object->mod) {
			pr_err("%s: module %s is not loaded; patching modules that load later is not supported\n",
			       patch->kpmod->name, desc->name);
			return -EOPNOTSUPP;
		}
		/* switch.c knows the patch module's exit function by its call into the core. */
		if (object->mod == THIS_MODULE) {
			pr_err("%s: module %s cannot be patched: it is what patches\n",
			       patch->kpmod->name, desc->name);
			return -EINVAL;
		}
	}
	return kpatch_verify_object(patch, object);
}

static int do_register(struct kpatch_patch *patch)
{
	const struct kpatch_module *kpmod = patch->kpmod;
	size_t i;
	int err;

	err = kpatch_verify_kernel(kpmod);
	if (err)
		return err;
	/* Go on after an error: the log shall have everything that is wrong. */
	for (i = 0; i < kpmod->nr_objects; i++)
		err = add_object(patch, &kpmod->objects[i]) ?: err;
	if (err)
		return err;
	/* All functions are known and verified; nothing has been changed. */
	err = kpatch_prepare_switch(patch);
	if (err)
		return err;
	err = kpatch_relocate(patch);
	if (err)
		return err;
	/* The patch module's code is complete. */
	err = kpatch_sysfs_add(patch);
	if (err)
		return err;
	return kpatch_enable(patch);
}

/* Let go of everything but the patch module itself; kpatch_mutex is not held, see sysfs.c. */
static void drop_patch(struct kpatch_patch *patch)
{
	struct kpatch_target_object *object;

	for_each_object(patch, object)
		if (object->mod)
			module_put(object->mod);
	patch->kpmod->patch = NULL;
	kpatch_sysfs_remove(patch);
}

/**
 * kpatch_register - register a patch and apply it
 * @kpmod:	its description; stays valid until kpatch_unregister()
 * @replace:	supersede all other patches (not supported)
 *
 * To be called from the patch module's init function.  May sleep.  A task inside one of the functions to
 * be replaced is given a second to leave it.
 *
 * Return: 0; or, with nothing changed and the reason in the kernel log:
 * -EBUSY	a task is inside one of the functions, or a function is taken by another patch, a kernel
 *		livepatch or another user of ftrace that redirects it;
 * -EINVAL	the description is incomplete, is for another kernel, or does not fit it: a function or
 *		symbol is missing, elsewhere, of another size, or not the only one of its name;
 * -EOVERFLOW, -ENOEXEC, -EEXIST, -EFAULT	a dynamic relocation does not fit, is of an unknown type, or its
 *		place is in use or outside the module;
 * -EEXIST	a patch of that name is registered;
 * -EOPNOTSUPP	@replace, or an object is a module that is not loaded;
 * -ENOMEM.
 */
int kpatch_register(struct kpatch_module *kpmod, bool replace)
{
	struct kpatch_patch *patch;
	int err;

	if (replace) {
		pr_err("%s: replacing other patches is not supported\n",
		       kpmod && kpmod->name ? kpmod->name : "?");
		return -EOPNOTSUPP;
	}

	mutex_lock(&kpatch_mutex);
	err = check_description(kpmod);
	if (err)
		goto unlock;
	patch = kzalloc(sizeof(*patch), GFP_KERNEL);
	if (!patch) {
		err = -ENOMEM;
		goto unlock;
	}
	patch->kpmod = kpmod;
	INIT_LIST_HEAD(&patch->objects);
	INIT_LIST_HEAD(&patch->targets);
	kpatch_sysfs_init_patch(patch);
	kpmod->patch = patch;

	err = do_register(patch);
	if (!err) {
		list_add_tail(&patch->list, &patches);
		patch->state = KPATCH_REGISTERED;
		mutex_unlock(&kpatch_mutex);
		return 0;
	}
	patch->state = KPATCH_LEAVING;
	mutex_unlock(&kpatch_mutex);
	pr_err("%s: not registered: %pe\n", kpmod->name, ERR_PTR(err));
	drop_patch(patch);
	return err;

unlock:
	mutex_unlock(&kpatch_mutex);
	return err;
}
EXPORT_SYMBOL_GPL(kpatch_register);

/**
 * kpatch_unregister - undo a patch and forget it
 * @kpmod:	its description
 *
 * To be called directly by the patch module's exit function (or init function, if that fails later), not by
 * way of another function of the module: every address in the patch module on any stack but that of
 * this call means that its code is in use.
 *
 * When the module is about to be freed, this does not return before nobody is inside its code, and logs who
 * is, less and less often.  Otherwise it gives up after a second.
 *
 * Return: 0; -EINVAL if the patch is not registered; -EBUSY if a task is inside the patch module, which
 * cannot happen in an init or exit function.
 */
int kpatch_unregister(struct kpatch_module *kpmod)
{
	struct kpatch_patch *patch;
	unsigned int round;
	int err;

	mutex_lock(&kpatch_mutex);
	patch = kpmod->patch;
	if (!patch || patch->state != KPATCH_REGISTERED) {
		mutex_unlock(&kpatch_mutex);
		return -EINVAL;
	}
	/* The state keeps others from using the patch while the lock is free. */
	patch->state = KPATCH_LEAVING;
	for (round = 1;; round++) {
		/* Somebody may stay inside for days. */
		bool quiet = !is_power_of_2(round);

		err = kpatch_disable(patch, quiet);
		if (!err)
			break;
		if (kpmod->mod->state == MODULE_STATE_LIVE) {
			patch->state = KPATCH_REGISTERED;
			mutex_unlock(&kpatch_mutex);
			return err;
		}
		if (!quiet)
			pr_warn("%s: its module cannot go while its code is in use; trying again\n",
				kpmod->name);
		mutex_unlock(&kpatch_mutex);
		msleep(min_t(unsigned int, round, MAX_PAUSES) * PAUSE_MS);
		mutex_lock(&kpatch_mutex);
	}
	list_del(&patch->list);
	mutex_unlock(&kpatch_mutex);
	drop_patch(patch);
	pr_info("%s: unregistered\n", kpmod->name);
	return 0;
}
EXPORT_SYMBOL_GPL(kpatch_unregister);

static int __init kpatch_init(void)
{
	int err;

	err = kpatch_symbols_init();
	if (err)
		return err;
	err = kpatch_switch_init();
	if (err)
		return err;
	err = kpatch_sysfs_init();
	if (err)
		kpatch_switch_exit();
	return err;
}

/* Patch modules use this module's functions, so there are none left. */
static void __exit kpatch_exit(void)
{
	kpatch_sysfs_exit();
	kpatch_switch_exit();
}

module_init(kpatch_init);
module_exit(kpatch_exit);
MODULE_DESCRIPTION("Dynamic kernel patching");
MODULE_LICENSE("GPL");
