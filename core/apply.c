// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: the order of the steps that apply a patch and undo it.
 *
 *	enable	find and verify the functions of each loaded object, write its relocations;
 *		pre_patch; put the functions on their sites; switch, load; post_patch
 *	disable	pre_unpatch; switch back, unload; take the functions from their sites, and wait for what may
 *		still be there; post_unpatch
 *
 * A module that loads while a patch for it is applied goes through the same steps before its code runs, and
 * through their reverse when it is unloaded.  No stack has to be checked then, as nobody is in it.
 *
 * What a step has done is undone when a later one fails.  An object stays ready from the first time that it
 * is applied until its module or the patch goes.
 *
 * Functions with force_unsafe are switched without looking at stacks, so a task may go on in the old one
 * with new ones around it.  To undo that is a decision: such a patch holds a reference to its module, rmmod
 * refuses, and writing 0 to `enabled` gives the reference back.
 *
 * A patch that replaces all others does so by the switch that applies it.  None of their callbacks is called:
 * what they have set up is the new patch's to keep or to change, as it is with the kernel's livepatch.
 */
#include "internal.h"

static void forget_functions(struct kpatch_target_object *object)
{
	kpatch_sysfs_remove_targets(object);
	kpatch_unrelocate(object);
	object->ready = false;
	object->mod = NULL;
}

/* Find the module of an object, once it has started.  Says whether there is something to patch. */
static bool find_object(struct kpatch_target_object *object)
{
	if (!object->desc->name)
		return true;
	object->mod = kpatch_find_module(object->desc->name, MODULE_STATE_LIVE);
	return object->mod;
}

/* What remains to be done once the functions are known to be right. */
static int finish_object(struct kpatch_patch *patch, struct kpatch_target_object *object)
{
	int err;

	err = kpatch_relocate(patch, object);
	err = err ?: kpatch_sysfs_add_targets(object);
	object->ready = !err;
	return err;
}

/*
 * Make every object ready that is loaded, and look at the code of those that are ready since an earlier time.
 * The log has everything that is wrong with any of them.
 */
static int prepare_objects(struct kpatch_patch *patch)
{
	struct kpatch_target_object *object;
	int err = 0;

	for_each_object(patch, object) {
		if (object->ready)
			err = kpatch_verify_object_code(patch, object) ?: err;
		else if (find_object(object))
			err = kpatch_verify_object(patch, object) ?: err;
	}
	for_each_object(patch, object)
		if (!err && !object->ready && (object->mod || !object->desc->name))
			err = finish_object(patch, object);
	if (err)
		for_each_object(patch, object)
			if (!object->ready)
				forget_functions(object);
	return err;
}

static int call_pre_patch(const struct kpatch_patch *patch, struct kpatch_target_object *object)
{
	const struct kpatch_object *desc = object->desc;
	int err;

	err = desc->callbacks.pre_patch ? desc->callbacks.pre_patch(desc) : 0;
	if (err) {
		pr_err("%s: %s: pre_patch says %d\n", patch->kpmod->name, kpatch_object_name(desc->name), err);
		/* A positive number would be taken for success. */
		return err < 0 ? err : -EINVAL;
	}
	object->phase = KPATCH_PATCHING;
	return 0;
}

static void call_post_patch(struct kpatch_target_object *object)
{
	if (object->phase != KPATCH_PATCHING && object->phase != KPATCH_UNPATCHING)
		return;
	object->phase = KPATCH_PATCHED;
	if (object->desc->callbacks.post_patch)
		object->desc->callbacks.post_patch(object->desc);
}

static void call_pre_unpatch(struct kpatch_target_object *object)
{
	if (object->phase != KPATCH_PATCHED)
		return;
	object->phase = KPATCH_UNPATCHING;
	if (object->desc->callbacks.pre_unpatch)
		object->desc->callbacks.pre_unpatch(object->desc);
}

static void call_post_unpatch(struct kpatch_target_object *object)
{
	if (object->phase != KPATCH_PATCHING && object->phase != KPATCH_UNPATCHING)
		return;
	object->phase = KPATCH_UNPATCHED;
	if (object->desc->callbacks.post_unpatch)
		object->desc->callbacks.post_unpatch(object->desc);
}

static void unredirect(struct kpatch_patch *patch)
{
	struct kpatch_target_object *object;

	for_each_object(patch, object)
		kpatch_unredirect(object);
}

/* Put the patch on its sites and apply it; or leave no trace, and wait for who may have seen it there. */
static int redirect_and_switch(struct kpatch_patch *patch, bool replace)
{
	struct kpatch_target_object *object;
	int err = 0;

	for_each_object(patch, object)
		if (!err && object->ready)
			err = kpatch_redirect(object);
	err = err ?: kpatch_switch(patch, true, replace, false);
	if (err) {
		unredirect(patch);
		kpatch_wait_for_handlers();
	}
	return err;
}

static void let_module_go(struct kpatch_patch *patch)
{
	if (patch->holds_module)
		module_put(patch->kpmod->mod);
	patch->holds_module = false;
}

/* May a task be inside the code of @old, as a forced function of @patch has superseded it? */
static bool forced_over(const struct kpatch_patch *patch, const struct kpatch_patch *old)
{
	const struct kpatch_target_object *object;
	const struct kpatch_target *target, *below;

	for_each_object(patch, object)
		for_each_target(object, target)
			if (target->func->force_unsafe)
				for (below = target->below; below; below = below->below)
					if (below->patch == old)
						return true;
	return false;
}

/* The switch has undone all other patches.  The caller waits for their functions' last users. */
static void supersede_others(struct kpatch_patch *patch)
{
	struct kpatch_target_object *object;
	struct kpatch_patch *other;

	list_for_each_entry(other, &kpatch_patches, list) {
		if (other == patch || other->state == KPATCH_SUPERSEDED)
			continue;
		other->unchecked = forced_over(patch, other);
		unredirect(other);
		for_each_object(other, object) {
			/* Its rmmod may have begun, and then it has called pre_unpatch. */
			call_post_unpatch(object);
			object->phase = KPATCH_UNPATCHED;
		}
		if (other->state == KPATCH_REGISTERED)
			WRITE_ONCE(other->state, KPATCH_SUPERSEDED);
		pr_info("%s: superseded by %s\n", other->kpmod->name, patch->kpmod->name);
		let_module_go(other);
	}
}

/**
 * kpatch_enable - apply a registered patch
 * @patch:	the patch
 * @replace:	and undo all others at the same instant, for good
 *
 * Return: 0, also if it is applied already; or, with nothing changed, -EBUSY if a task stays inside an old
 * function or another user of ftrace has one of them; an error of kpatch_verify_object(),
 * kpatch_relocate() or a pre_patch callback.
 */
int kpatch_enable(struct kpatch_patch *patch, bool replace)
{
	struct kpatch_target_object *object;
	int err;

	lockdep_assert_held(&kpatch_mutex);
	if (kpatch_applied(patch))
		return 0;
	if (patch->forced && !patch->holds_module) {
		if (!try_module_get(patch->kpmod->mod))
			return -ENODEV;
		patch->holds_module = true;
	}
	err = prepare_objects(patch);
	for_each_object(patch, object)
		if (!err && object->ready)
			err = call_pre_patch(patch, object);
	err = err ?: redirect_and_switch(patch, replace);
	if (err) {
		for_each_object(patch, object)
			call_post_unpatch(object);
		let_module_go(patch);
		return err;
	}
	if (replace) {
		supersede_others(patch);
		kpatch_wait_for_handlers();
	}
	for_each_object(patch, object)
		call_post_patch(object);
	/* The order in which modules that load later are patched. */
	if (!list_empty(&patch->list))
		list_move_tail(&patch->list, &kpatch_patches);
	add_taint(TAINT_LIVEPATCH, LOCKDEP_STILL_OK);
	return 0;
}

/**
 * kpatch_disable - undo a patch, which stays registered
 * @patch:	the patch
 * @quiet:	do not log who is in the way
 *
 * When this returns 0 nobody is in the code of the patch module.
 *
 * Return: 0, also if it is not applied; -EBUSY if a task stays inside the patch module; -ENOMEM.
 */
int kpatch_disable(struct kpatch_patch *patch, bool quiet)
{
	struct kpatch_target_object *object;
	int err;

	lockdep_assert_held(&kpatch_mutex);
	if (!kpatch_applied(patch) && !patch->unchecked)
		return 0;
	for_each_object(patch, object)
		call_pre_unpatch(object);
	err = kpatch_switch(patch, false, false, quiet);
	if (err) {
		/* On its way out, it is tried again: see kpatch_unregister(). */
		if (patch->state != KPATCH_LEAVING || patch->kpmod->mod->state == MODULE_STATE_LIVE)
			for_each_object(patch, object)
				call_post_patch(object);
		return err;
	}
	unredirect(patch);
	kpatch_wait_for_handlers();
	patch->unchecked = false;
	for_each_object(patch, object)
		call_post_unpatch(object);
	let_module_go(patch);
	return 0;
}

/**
 * kpatch_object_coming - the module of an object has been loaded and is about to start
 * @patch:	the patch
 * @object:	of the module
 * @mod:	the module
 *
 * Return: 0, also if the patch is not applied; or an error, with nothing changed.
 */
int kpatch_object_coming(struct kpatch_patch *patch, struct kpatch_target_object *object, struct module *mod)
{
	int err;

	if (!kpatch_applied(patch))
		return 0;
	object->mod = mod;
	err = kpatch_verify_object(patch, object);
	err = err ?: finish_object(patch, object);
	err = err ?: call_pre_patch(patch, object);
	if (!err) {
		err = kpatch_redirect(object);
		if (err)
			kpatch_wait_for_handlers();
	}
	if (err) {
		call_post_unpatch(object);
		forget_functions(object);
		return err;
	}
	kpatch_call_stopped(object->desc->callbacks.load, object->desc);
	call_post_patch(object);
	pr_info("%s: applied to module %s\n", patch->kpmod->name, object->desc->name);
	return 0;
}

/**
 * kpatch_object_going - the module of an object is about to be freed
 * @patch:	the patch
 * @object:	of the module
 */
void kpatch_object_going(struct kpatch_patch *patch, struct kpatch_target_object *object)
{
	bool patched = object->phase != KPATCH_UNPATCHED;

	if (!object->ready)
		return;
	call_pre_unpatch(object);
	kpatch_unredirect(object);
	if (patched)
		kpatch_call_stopped(object->desc->callbacks.unload, object->desc);
	kpatch_wait_for_handlers();
	call_post_unpatch(object);
	forget_functions(object);
	if (patched)
		pr_info("%s: undone in module %s\n", patch->kpmod->name, object->desc->name);
}

/* Forget what is known of the objects of a patch that is not applied and will not be. */
void kpatch_drop_objects(struct kpatch_patch *patch)
{
	struct kpatch_target_object *object;

	for_each_object(patch, object)
		forget_functions(object);
}
