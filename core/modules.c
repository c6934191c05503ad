// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: modules that load after a patch for them, and unload before it.
 *
 * The kernel announces a module when it is in memory, with ftrace ready for its functions, before its init
 * function runs.  Patches for it that are applied are then applied to it.  If one of them cannot be, the
 * module does not load: an unpatched one would run beside patched callers.  When a module is announced as going,
 * its exit function has run and nobody is in its code.
 *
 * No reference to a patched module is held.  Once it has started it cannot be freed before its going has been
 * announced, and the announcement waits for kpatch_mutex: under that, a module that was found live stays.
 *
 * Between its announcement and the end of its init function a module can be found, but not be told apart from
 * one whose announcement is still to come, nor from one that will be refused without ever being announced.
 * So a patch waits until none of the modules that it is for is starting.  One that is found to be starting after
 * that is left alone: its announcement is still to come, and waits for kpatch_mutex.
 */
#include "internal.h"

#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/notifier.h>

#define SETTLE_MS 10000
#define SETTLE_STEP_MS 20

static struct kpatch_target_object *find_object(const struct kpatch_patch *patch, const struct module *mod)
{
	struct kpatch_target_object *object;

	for_each_object(patch, object)
		if (object->desc->name && !strcmp(object->desc->name, mod->name))
			return object;
	return NULL;
}

/* Undo in @mod what patches have done to it, the last one first, beginning with @last. */
static void module_going(const struct module *mod, struct kpatch_patch *last)
{
	struct kpatch_target_object *object;
	struct kpatch_patch *patch = last;

	list_for_each_entry_from_reverse(patch, &kpatch_patches, list) {
		object = find_object(patch, mod);
		if (object)
			kpatch_object_going(patch, object);
	}
}

static int module_coming(struct module *mod)
{
	struct kpatch_target_object *object;
	struct kpatch_patch *patch;
	int err;

	list_for_each_entry(patch, &kpatch_patches, list) {
		object = find_object(patch, mod);
		err = object ? kpatch_object_coming(patch, object, mod) : 0;
		if (!err)
			continue;
		pr_err("module %s does not load: patch %s cannot be applied to it: %pe\n", mod->name,
		       patch->kpmod->name, ERR_PTR(err));
		module_going(mod, list_prev_entry(patch, list));
		return err;
	}
	return 0;
}

static int module_event(struct notifier_block *nb, unsigned long event, void *data)
{
	struct module *mod = data;
	int err = 0;

	if (event != MODULE_STATE_COMING && event != MODULE_STATE_GOING)
		return NOTIFY_DONE;
	mutex_lock(&kpatch_mutex);
	if (event == MODULE_STATE_COMING)
		err = module_coming(mod);
	else
		module_going(mod, list_last_entry(&kpatch_patches, struct kpatch_patch, list));
	mutex_unlock(&kpatch_mutex);
	return notifier_from_errno(err);
}

/* The last to hear of a module: nobody can refuse it after it has been patched. */
static struct notifier_block module_nb = {
	.notifier_call = module_event,
	.priority = INT_MIN,
};

/* Is a module that the patch is for just starting? */
static const char *starting_module(const struct kpatch_module *kpmod)
{
	size_t i;

	for (i = 0; i < kpmod->nr_objects; i++) {
		const char *name = kpmod->objects[i].name;

		if (name && kpatch_find_module(name, MODULE_STATE_COMING))
			return name;
	}
	return NULL;
}

/**
 * kpatch_lock_settled - take kpatch_mutex while no module that a patch is for is starting
 * @kpmod:	the patch's description; its table of objects is valid
 *
 * Return: 0, -EBUSY after ten seconds, -EINTR if interrupted.
 */
int kpatch_lock_settled(const struct kpatch_module *kpmod)
{
	unsigned long end = jiffies + msecs_to_jiffies(SETTLE_MS);
	const char *name;

	for (;;) {
		if (mutex_lock_interruptible(&kpatch_mutex))
			return -EINTR;
		name = starting_module(kpmod);
		if (!name)
			return 0;
		mutex_unlock(&kpatch_mutex);
		if (time_after(jiffies, end)) {
			pr_err("%s: module %s is starting and does not come to an end\n", kpmod->name, name);
			return -EBUSY;
		}
		if (msleep_interruptible(SETTLE_STEP_MS))
			return -EINTR;
	}
}

int kpatch_modules_init(void)
{
	return register_module_notifier(&module_nb);
}

void kpatch_modules_exit(void)
{
	unregister_module_notifier(&module_nb);
}
