// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: /sys/kernel/kpatch.
 *
 *	last_stop_ns				how long the last switch, or try, stopped the machine
 *	patches/PATCH/enabled			1 applied, 0 not; write to change, -EBUSY when refused
 *	patches/PATCH/state			applied, disabled, superseded (by a patch that replaces), leaving
 *	patches/PATCH/forced			1: some function was switched without looking at stacks
 *	patches/PATCH/release			the kernel release that it was built for
 *	patches/PATCH/objects/OBJECT/patched	1: its functions are redirected (a module: it is loaded)
 *	patches/PATCH/objects/OBJECT/FUNCTION,POSITION/{address,forced}
 *
 * Each folder is a kobject that owns the structure it is embedded in, so what a reader holds open stays
 * valid when the patch goes away.
 */
#include "internal.h"

#include <linux/slab.h>
#include <linux/sysfs.h>

static struct kobject *kpatch_kobj;
static struct kobject *patches_kobj;

#define to_patch(kobject) container_of(kobject, struct kpatch_patch, kobj)
#define to_object(kobject) container_of(kobject, struct kpatch_target_object, kobj)
#define to_target(kobject) container_of(kobject, struct kpatch_target, kobj)

static ssize_t last_stop_ns_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", kpatch_last_stop_ns());
}
static struct kobj_attribute last_stop_ns_attr = __ATTR_RO(last_stop_ns);

static ssize_t enabled_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", kpatch_applied(to_patch(kobj)));
}

static ssize_t enabled_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			     size_t count)
{
	struct kpatch_patch *patch = to_patch(kobj);
	bool enable;
	int err;

	err = kstrtobool(buf, &enable);
	if (err)
		return err;

	/* rmmod of a patch in use, and every registration, can hold it for seconds. */
	err = kpatch_lock_settled(patch->kpmod);
	if (err)
		return err;
	if (patch->state == KPATCH_SUPERSEDED && enable)
		err = -EPERM;
	else if (patch->state != KPATCH_REGISTERED)
		err = patch->state == KPATCH_SUPERSEDED ? 0 : -ENODEV;
	else
		err = enable ? kpatch_enable(patch, false) : kpatch_disable(patch, false);
	mutex_unlock(&kpatch_mutex);
	return err ?: count;
}
static struct kobj_attribute enabled_attr = __ATTR_RW(enabled);

static ssize_t state_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	const struct kpatch_patch *patch = to_patch(kobj);
	const char *state = kpatch_applied(patch) ? "applied" : "disabled";

	if (READ_ONCE(patch->state) == KPATCH_SUPERSEDED)
		state = "superseded";
	else if (READ_ONCE(patch->state) == KPATCH_LEAVING)
		state = "leaving";
	return sysfs_emit(buf, "%s\n", state);
}
static struct kobj_attribute state_attr = __ATTR_RO(state);

static ssize_t forced_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", to_patch(kobj)->forced);
}
static struct kobj_attribute forced_attr = __ATTR_RO(forced);

static ssize_t release_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", to_patch(kobj)->kpmod->release);
}
static struct kobj_attribute release_attr = __ATTR_RO(release);

static struct attribute *patch_attrs[] = {
	&enabled_attr.attr,
	&state_attr.attr,
	&forced_attr.attr,
	&release_attr.attr,
	NULL
};
ATTRIBUTE_GROUPS(patch);

static void patch_release(struct kobject *kobj)
{
	kfree(to_patch(kobj));
}

static const struct kobj_type patch_type = {
	.release = patch_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = patch_groups,
};

static ssize_t patched_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(to_object(kobj)->phase) == KPATCH_PATCHED);
}
static struct kobj_attribute patched_attr = __ATTR_RO(patched);

static struct attribute *object_attrs[] = {
	&patched_attr.attr,
	NULL
};
ATTRIBUTE_GROUPS(object);

static void object_release(struct kobject *kobj)
{
	kfree(to_object(kobj));
}

static const struct kobj_type object_type = {
	.release = object_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = object_groups,
};

static ssize_t address_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "0x%lx\n", to_target(kobj)->addr);
}
static struct kobj_attribute address_attr = __ATTR_RO_MODE(address, 0400);

static ssize_t func_forced_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", to_target(kobj)->func->force_unsafe);
}
static struct kobj_attribute func_forced_attr = __ATTR(forced, 0444, func_forced_show, NULL);

static struct attribute *target_attrs[] = {
	&address_attr.attr,
	&func_forced_attr.attr,
	NULL
};
ATTRIBUTE_GROUPS(target);

static void target_release(struct kobject *kobj)
{
	struct kpatch_target *target = to_target(kobj);

	kfree(target->new_code.range);
	kfree(target);
}

static const struct kobj_type target_type = {
	.release = target_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = target_groups,
};

/* From here on the structures belong to their kobjects; kpatch_sysfs_remove() lets go of them. */
void kpatch_sysfs_init_patch(struct kpatch_patch *patch)
{
	kobject_init(&patch->kobj, &patch_type);
}

void kpatch_sysfs_init_object(struct kpatch_target_object *object)
{
	kobject_init(&object->kobj, &object_type);
}

void kpatch_sysfs_init_target(struct kpatch_target *target)
{
	kobject_init(&target->kobj, &target_type);
}

/**
 * kpatch_sysfs_add - show a patch with its objects
 * @patch:	the patch
 *
 * Return: 0 or an error, after which kpatch_sysfs_remove() is due as well.
 */
int kpatch_sysfs_add(struct kpatch_patch *patch)
{
	struct kpatch_target_object *object;
	int err;

	err = kobject_add(&patch->kobj, patches_kobj, "%s", patch->kpmod->name);
	if (err)
		return err;
	patch->objects_kobj = kobject_create_and_add("objects", &patch->kobj);
	if (!patch->objects_kobj)
		return -ENOMEM;
	for_each_object(patch, object) {
		err = kobject_add(&object->kobj, patch->objects_kobj, "%s",
				  kpatch_object_name(object->desc->name));
		if (err)
			return err;
	}
	return 0;
}

/**
 * kpatch_sysfs_add_targets - show the functions of an object
 * @object:	verified
 *
 * Return: 0 or an error, after which kpatch_sysfs_remove_targets() is due as well.
 */
int kpatch_sysfs_add_targets(struct kpatch_target_object *object)
{
	struct kpatch_target *target;
	int err;

	for_each_target(object, target) {
		err = kobject_add(&target->kobj, &object->kobj, "%s,%lu", target->func->old_name,
				  target->func->old_sympos ?: 1);
		if (err)
			return err;
	}
	return 0;
}

/* A patch that was refused early has never been shown. */
static void drop(struct kobject *kobj)
{
	if (kobj->state_in_sysfs)
		kobject_del(kobj);
	kobject_put(kobj);
}

/* Take the functions of an object away from sysfs, and forget them. */
void kpatch_sysfs_remove_targets(struct kpatch_target_object *object)
{
	struct kpatch_target *target, *next;

	list_for_each_entry_safe(target, next, &object->targets, list) {
		list_del(&target->list);
		drop(&target->kobj);
	}
	object->nr_targets = 0;
}

/**
 * kpatch_sysfs_remove - take a patch away from sysfs and drop the core's hold on its structures
 * @patch:	the patch; its functions have been removed
 *
 * Waits for readers and writers, and a writer waits for kpatch_mutex: so the caller does not hold it.
 */
void kpatch_sysfs_remove(struct kpatch_patch *patch)
{
	struct kpatch_target_object *object, *next;

	list_for_each_entry_safe(object, next, &patch->objects, list)
		drop(&object->kobj);
	if (patch->objects_kobj)
		drop(patch->objects_kobj);
	drop(&patch->kobj);
}

int kpatch_sysfs_init(void)
{
	int err;

	kpatch_kobj = kobject_create_and_add("kpatch", kernel_kobj);
	if (!kpatch_kobj)
		return -ENOMEM;
	patches_kobj = kobject_create_and_add("patches", kpatch_kobj);
	err = patches_kobj ? sysfs_create_file(kpatch_kobj, &last_stop_ns_attr.attr) : -ENOMEM;
	if (err)
		kpatch_sysfs_exit();
	return err;
}

void kpatch_sysfs_exit(void)
{
	kobject_put(patches_kobj);
	kobject_put(kpatch_kobj);
}
