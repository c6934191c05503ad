// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: dynamic kernel patching, the core module.
 *
 * Patch modules call kpatch_register() when they load and kpatch_unregister() when they go.  A registered
 * patch is applied or not (sysfs `enabled`), or has been superseded by one that replaces all others:
 *
 *	register    check the description, verify the kernel, show in sysfs, enable
 *	unregister  disable, remove from sysfs
 *
 * What enabling and disabling mean is in apply.c.
 *
 * Registration and a write to `enabled` fail with -EBUSY when a task stays in the way for a second (switch.c),
 * and nothing has changed.  A module's exit function cannot fail, so rmmod goes on trying, with longer pauses,
 * and says in the log who is in the way: code that may be running is never freed.  Whoever wants a refusal
 * instead writes 0 to `enabled` first.
 */
#include "internal.h"

#include <linux/delay.h>
#include <linux/init.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/string.h>

#define PAUSE_MS 500		/* rmmod: that much longer after every try in vain */
#define MAX_PAUSES 10

DEFINE_MUTEX(kpatch_mutex);
LIST_HEAD(kpatch_patches);

/* No longer registered, but still shown in sysfs: their names are not free yet. */
static LIST_HEAD(leaving_patches);

/* A name that can be a folder in sysfs. */
static bool name_ok(const char *name)
{
	return name && *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

/* Is the description complete?  Says what is missing, as its author has to mend it. */
static int check_description(const struct kpatch_module *kpmod)
{
	size_t i, j;

	if (!kpmod || !kpmod->mod || !name_ok(kpmod->name)) {
		pr_err("a patch without a module or a valid name\n");
		return -EINVAL;
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
		if (!name_ok(name)) {
			pr_err("%s: an object without a valid name\n", kpmod->name);
			return -EINVAL;
		}
		/* switch.c knows the patch module's exit function by its call into the core. */
		if (!strcmp(name, THIS_MODULE->name)) {
			pr_err("%s: module %s cannot be patched: it is what patches\n", kpmod->name, name);
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

static bool has_name(const struct list_head *patches, const char *name)
{
	const struct kpatch_patch *patch;

	list_for_each_entry(patch, patches, list)
		if (!strcmp(patch->kpmod->name, name))
			return true;
	return false;
}

/* Has it been registered, or another one of its name? */
static int check_new(const struct kpatch_module *kpmod)
{
	if (kpmod->patch) {
		pr_err("%s: is registered already\n", kpmod->name);
		return -EINVAL;
	}
	if (has_name(&kpatch_patches, kpmod->name)) {
		pr_err("%s: a patch of this name is registered already\n", kpmod->name);
		return -EEXIST;
	}
	if (has_name(&leaving_patches, kpmod->name)) {
		pr_err("%s: a patch of this name is just leaving\n", kpmod->name);
		return -EEXIST;
	}
	return 0;
}

static int add_object(struct kpatch_patch *patch, const struct kpatch_object *desc)
{
	struct kpatch_target_object *object;
	size_t i;

	object = kzalloc(sizeof(*object), GFP_KERNEL);
	if (!object)
		return -ENOMEM;
	object->desc = desc;
	INIT_LIST_HEAD(&object->targets);
	kpatch_sysfs_init_object(object);
	list_add_tail(&object->list, &patch->objects);
	for (i = 0; i < desc->nr_funcs; i++)
		patch->forced |= desc->funcs[i].force_unsafe;
	return 0;
}

static int do_register(struct kpatch_patch *patch, bool replace)
{
	const struct kpatch_module *kpmod = patch->kpmod;
	size_t i;
	int err;

	err = kpatch_verify_kernel(kpmod);
	for (i = 0; i < kpmod->nr_objects && !err; i++)
		err = add_object(patch, &kpmod->objects[i]);
	err = err ?: kpatch_sysfs_add(patch);
	return err ?: kpatch_enable(patch, replace);
}

/* Let go of everything but the patch module itself, and of kpatch_mutex: see sysfs.c. */
static void drop_patch(struct kpatch_patch *patch)
{
	kpatch_drop_objects(patch);
	patch->kpmod->patch = NULL;
	list_move(&patch->list, &leaving_patches);
	kobject_get(&patch->kobj);
	mutex_unlock(&kpatch_mutex);

	kpatch_sysfs_remove(patch);

	mutex_lock(&kpatch_mutex);
	list_del(&patch->list);
	mutex_unlock(&kpatch_mutex);
	kobject_put(&patch->kobj);
}

/**
 * kpatch_register - register a patch and apply it
 * @kpmod:	its description; stays valid until kpatch_unregister()
 * @replace:	supersede all other patches, at the instant in which this one is applied
 *
 * To be called from the patch module's init function.  May sleep.  A task inside one of the functions to
 * be replaced is given a second to leave it.  An object that is a module and not loaded is patched when it
 * loads; if it cannot be patched then, it does not load.
 *
 * A superseded patch cannot be applied again; its module can be removed.
 *
 * Return: 0; or, with nothing changed and the reason in the kernel log:
 * -EBUSY	a task is inside one of the functions; a kernel livepatch or another user of ftrace redirects
 *		one; or a module that is to be patched is starting and does not come to an end;
 * -EINVAL	the description is incomplete, is for another kernel, or does not fit it: a function or
 *		symbol is missing, elsewhere, of another size, or not the only one of its name;
 * -EOVERFLOW, -ENOEXEC, -EEXIST, -EFAULT	a dynamic relocation does not fit, is of an unknown type, or its
 *		place is in use or outside the module;
 * -EEXIST	a patch of that name is registered;
 * -EINTR	a signal came while it waited for such a module, or for another switch;
 * -ENOMEM, or what a pre_patch callback has returned.
 */
int kpatch_register(struct kpatch_module *kpmod, bool replace)
{
	struct kpatch_patch *patch;
	int err;

	err = check_description(kpmod);
	if (err)
		return err;
	err = kpatch_lock_settled(kpmod);
	if (err)
		return err;
	err = check_new(kpmod);
	if (err)
		goto unlock;
	patch = kzalloc(sizeof(*patch), GFP_KERNEL);
	if (!patch) {
		err = -ENOMEM;
		goto unlock;
	}
	patch->kpmod = kpmod;
	INIT_LIST_HEAD(&patch->list);
	INIT_LIST_HEAD(&patch->objects);
	kpatch_sysfs_init_patch(patch);
	kpmod->patch = patch;

	err = do_register(patch, replace);
	if (!err) {
		list_add_tail(&patch->list, &kpatch_patches);
		patch->state = KPATCH_REGISTERED;
		mutex_unlock(&kpatch_mutex);
		return 0;
	}
	patch->state = KPATCH_LEAVING;
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
	enum kpatch_state state;
	unsigned int round;
	int err;

	mutex_lock(&kpatch_mutex);
	patch = kpmod->patch;
	if (!patch || patch->state == KPATCH_LEAVING) {
		mutex_unlock(&kpatch_mutex);
		return -EINVAL;
	}
	/* The state keeps others from using the patch while the lock is free. */
	state = patch->state;
	WRITE_ONCE(patch->state, KPATCH_LEAVING);
	for (round = 1;; round++) {
		/* Somebody may stay inside for days. */
		bool quiet = !is_power_of_2(round);

		err = kpatch_disable(patch, quiet);
		if (!err)
			break;
		if (kpmod->mod->state == MODULE_STATE_LIVE) {
			WRITE_ONCE(patch->state, state);
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
		goto exit_switch;
	err = kpatch_modules_init();
	if (err)
		goto exit_sysfs;
	return 0;

exit_sysfs:
	kpatch_sysfs_exit();
exit_switch:
	kpatch_switch_exit();
	return err;
}

/* Patch modules use this module's functions, so there are none left. */
static void __exit kpatch_exit(void)
{
	kpatch_modules_exit();
	kpatch_sysfs_exit();
	kpatch_switch_exit();
	kpatch_shadow_exit();
}

module_init(kpatch_init);
module_exit(kpatch_exit);
MODULE_DESCRIPTION("Dynamic kernel patching");
MODULE_LICENSE("GPL");
