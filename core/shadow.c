// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: shadow variables, data that patched code attaches to objects which have no room for it.
 *
 * A patch cannot add a member to a structure: there are objects of the old size, and code that was not
 * patched goes on to allocate them.  A shadow variable is kept beside the object, found by the object's
 * address and a number that says which variable it is.
 *
 * All of them are in one hash table.  Looking one up takes no lock, so code in any context may do it; the table
 * changes under a spinlock, and memory is freed when no reader can be left in it (RCU).
 *
 * The kernel has the like (klp_shadow_*), but only with CONFIG_LIVEPATCH, which kpatch does without.  This one
 * is used everywhere, so that a patch behaves and is tested alike everywhere; and the core can tell
 * what was left over when nobody uses it any more.
 */
#include "internal.h"

#include <linux/hash.h>
#include <linux/hashtable.h>
#include <linux/overflow.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#define TABLE_BITS 12

/**
 * struct shadow - one variable
 * @node:	in the table
 * @rcu:	to free it
 * @next:	among those that kpatch_shadow_free_all() has taken out; @node must still lead readers on
 * @obj:	the object that it belongs to
 * @id:		which variable it is
 * @data:	the variable
 */
struct shadow {
	struct hlist_node node;
	struct rcu_head rcu;
	struct shadow *next;
	void *obj;
	unsigned long id;
	u8 data[] __aligned(__alignof__(unsigned long long));
};

static DEFINE_HASHTABLE(table, TABLE_BITS);
static DEFINE_SPINLOCK(lock);

static unsigned long key_of(void *obj, unsigned long id)
{
	return (unsigned long)obj ^ hash_long(id, BITS_PER_LONG);
}

/* Called with the lock or inside an RCU read-side section. */
static struct shadow *find(void *obj, unsigned long id)
{
	struct shadow *shadow;

	hash_for_each_possible_rcu(table, shadow, node, key_of(obj, id), lockdep_is_held(&lock))
		if (shadow->obj == obj && shadow->id == id)
			return shadow;
	return NULL;
}

/**
 * kpatch_shadow_get - find a shadow variable
 * @obj:	the object that it belongs to
 * @id:		which variable it is
 *
 * May be called in any context.  The variable stays valid for as long as the caller makes sure that nobody
 * frees it, or until the end of the RCU read-side section that the caller is in.
 *
 * Return: the variable, or NULL if the object has none of that @id.
 */
void *kpatch_shadow_get(void *obj, unsigned long id)
{
	struct shadow *shadow;

	rcu_read_lock();
	shadow = find(obj, id);
	rcu_read_unlock();
	return shadow ? shadow->data : NULL;
}
EXPORT_SYMBOL_GPL(kpatch_shadow_get);

/* Returns the new variable, or the one that is there if @get. */
static void *add(void *obj, unsigned long id, size_t size, gfp_t gfp, kpatch_shadow_ctor ctor,
		 void *ctor_data, bool get)
{
	struct shadow *shadow, *found;
	unsigned long flags;
	void *result = NULL;

	shadow = kzalloc(struct_size(shadow, data, size), gfp);
	if (!shadow)
		return NULL;
	shadow->obj = obj;
	shadow->id = id;

	spin_lock_irqsave(&lock, flags);
	found = find(obj, id);
	if (found) {
		result = get ? found->data : NULL;
	} else if (!ctor || !ctor(obj, shadow->data, ctor_data)) {
		hash_add_rcu(table, &shadow->node, key_of(obj, id));
		result = shadow->data;
		shadow = NULL;
	}
	spin_unlock_irqrestore(&lock, flags);
	kfree(shadow);
	return result;
}

/**
 * kpatch_shadow_alloc - attach a new shadow variable to an object
 * @obj:	the object that it belongs to
 * @id:		which variable it is
 * @size:	its size in bytes; they are zero
 * @gfp:	how it is allocated
 * @ctor:	sets it up before anybody can find it, or NULL; a spinlock is held and interrupts are off.  With
 *		an error (-errno) from it there is no variable.
 * @ctor_data:	for @ctor
 *
 * Return: the variable, aligned for any scalar type; NULL if the object has one of this @id already, if
 * there is no memory, or if @ctor has failed.
 */
void *kpatch_shadow_alloc(void *obj, unsigned long id, size_t size, gfp_t gfp, kpatch_shadow_ctor ctor,
			  void *ctor_data)
{
	return add(obj, id, size, gfp, ctor, ctor_data, false);
}
EXPORT_SYMBOL_GPL(kpatch_shadow_alloc);

/**
 * kpatch_shadow_get_or_alloc - find a shadow variable, or attach a new one
 * @obj:	the object that it belongs to
 * @id:		which variable it is
 * @size:	the size of a new one, in bytes
 * @gfp:	how a new one is allocated
 * @ctor:	sets a new one up; see kpatch_shadow_alloc()
 * @ctor_data:	for @ctor
 *
 * However many callers there are at a time, they get the same variable, and it has been set up once.
 *
 * Return: the variable; NULL if there is none and there is no memory or @ctor has failed.
 */
void *kpatch_shadow_get_or_alloc(void *obj, unsigned long id, size_t size, gfp_t gfp,
				 kpatch_shadow_ctor ctor, void *ctor_data)
{
	return kpatch_shadow_get(obj, id) ?: add(obj, id, size, gfp, ctor, ctor_data, true);
}
EXPORT_SYMBOL_GPL(kpatch_shadow_get_or_alloc);

/* Nobody can find the variable any more; who has found it may go on until a grace period has passed. */
static void destroy(struct shadow *shadow, kpatch_shadow_dtor dtor)
{
	if (dtor)
		dtor(shadow->obj, shadow->data);
	kfree_rcu(shadow, rcu);
}

/**
 * kpatch_shadow_free - detach a shadow variable from its object and free it
 * @obj:	the object that it belongs to
 * @id:		which variable it is
 * @dtor:	called for it, or NULL; it can no longer be found then, but whoever found it before inside an RCU
 *		read-side section may still use it
 *
 * Does nothing if the object has no such variable.  When several callers free the same variable, @dtor is
 * called once.  It runs in the caller's context, without a lock.
 */
void kpatch_shadow_free(void *obj, unsigned long id, kpatch_shadow_dtor dtor)
{
	struct shadow *shadow;
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	shadow = find(obj, id);
	if (shadow)
		hash_del_rcu(&shadow->node);
	spin_unlock_irqrestore(&lock, flags);
	if (shadow)
		destroy(shadow, dtor);
}
EXPORT_SYMBOL_GPL(kpatch_shadow_free);

/**
 * kpatch_shadow_free_all - free the shadow variables of all objects that have one @id
 * @id:		which variable it is
 * @dtor:	called for each of them, or NULL; see kpatch_shadow_free()
 *
 * For the post_unpatch callback of the patch that brought them: none is added meanwhile, as no code is left
 * that would.
 */
void kpatch_shadow_free_all(unsigned long id, kpatch_shadow_dtor dtor)
{
	struct shadow *shadow, *all = NULL;
	struct hlist_node *next;
	unsigned long flags;
	int bucket;

	spin_lock_irqsave(&lock, flags);
	hash_for_each_safe(table, bucket, next, shadow, node) {
		if (shadow->id != id)
			continue;
		hash_del_rcu(&shadow->node);
		shadow->next = all;
		all = shadow;
	}
	spin_unlock_irqrestore(&lock, flags);

	while (all) {
		shadow = all;
		all = shadow->next;
		destroy(shadow, dtor);
	}
}
EXPORT_SYMBOL_GPL(kpatch_shadow_free_all);

/*
 * Free what patch modules have left behind.  They are gone, so nobody uses it, nor is there a destructor for
 * what it may refer to: that is lost, and said.
 */
void kpatch_shadow_exit(void)
{
	struct shadow *shadow;
	struct hlist_node *next;
	unsigned int nr = 0;
	int bucket;

	hash_for_each_safe(table, bucket, next, shadow, node) {
		if (!nr++)
			pr_warn("shadow variables were left over, the first has id %lu\n", shadow->id);
		hash_del(&shadow->node);
		kfree(shadow);
	}
	if (nr)
		pr_warn("%u shadow variables freed\n", nr);
}
