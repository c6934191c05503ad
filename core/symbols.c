// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kpatch: symbols by name and position, and the kernel's functions that are not exported.
 *
 * kallsyms knows every function of the kernel, but the look-up itself is not exported either.  A kprobe
 * may be placed on any function by name, and then says where it is: this gives kallsyms_lookup_name(),
 * which gives the rest.  The module does not load if anything is missing, and says what.
 *
 * The functions are called as static calls: direct calls whose target is written at load.  On
 * kernels with indirect branch tracking an indirect call to a function whose address is never taken in the
 * kernel would trap, as the linker's checks have removed its ENDBR.
 */
#include "internal.h"

#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/static_call.h>

/* With the prototypes of the kernel's headers: a kernel that has others does not build, or fits by itself. */
DEFINE_STATIC_CALL_NULL(kp_lookup_name, kallsyms_lookup_name);
DEFINE_STATIC_CALL_NULL(kp_on_each_match_symbol, kallsyms_on_each_match_symbol);
DEFINE_STATIC_CALL_NULL(kp_lookup_size_offset, kallsyms_lookup_size_offset);
DEFINE_STATIC_CALL_NULL(kp_ftrace_location, ftrace_location);
DEFINE_STATIC_CALL_NULL(kp_find_module, find_module);
DEFINE_STATIC_CALL_NULL(kp_save_reliable, stack_trace_save_tsk_reliable);
DEFINE_STATIC_CALL_NULL(kp_save, stack_trace_save_tsk);
DEFINE_STATIC_CALL_NULL(kp_idle_task, idle_task);
DEFINE_STATIC_CALL_NULL(kp_get_kprobe, get_kprobe);

static const struct sched_class *stop_class;
static struct mutex *text_lock, *modules_lock;

/* As in kernel/trace/trace.h.  They make the log say more; a kernel may lack them. */
struct ftrace_func_entry *ftrace_lookup_ip(struct ftrace_hash *hash, unsigned long ip);
DEFINE_STATIC_CALL_NULL(kp_ftrace_lookup_ip, ftrace_lookup_ip);
static struct ftrace_ops __rcu **ftrace_users;

/* The address of a function or variable of vmlinux; logs and returns 0 if there is none. */
unsigned long kpatch_need_symbol(const char *name)
{
	unsigned long addr = static_call(kp_lookup_name)(name);

	if (!addr)
		pr_err("this kernel has no symbol %s, which kpatch needs\n", name);
	return addr;
}

#define NEED(call, name)							\
({										\
	unsigned long addr = kpatch_need_symbol(name);					\
										\
	if (addr)								\
		static_call_update(call, (typeof(STATIC_CALL_TRAMP(call)) *)addr); \
	addr != 0;								\
})

/**
 * kpatch_symbols_init - find everything that the core needs
 *
 * Return: 0, or -EOPNOTSUPP when something is missing; all that is missing has been logged.
 */
int kpatch_symbols_init(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long addr;
	bool ok = true;
	int err;

	err = register_kprobe(&probe);
	if (err) {
		pr_err("cannot find kallsyms_lookup_name with a kprobe: %pe\n", ERR_PTR(err));
		return -EOPNOTSUPP;
	}
	static_call_update(kp_lookup_name, (typeof(kallsyms_lookup_name) *)probe.addr);
	unregister_kprobe(&probe);

	ok &= NEED(kp_on_each_match_symbol, "kallsyms_on_each_match_symbol");
	ok &= NEED(kp_lookup_size_offset, "kallsyms_lookup_size_offset");
	ok &= NEED(kp_ftrace_location, "ftrace_location");
	ok &= NEED(kp_find_module, "find_module");
	ok &= NEED(kp_save_reliable, "stack_trace_save_tsk_reliable");
	ok &= NEED(kp_save, "stack_trace_save_tsk");
	ok &= NEED(kp_idle_task, "idle_task");
	ok &= NEED(kp_get_kprobe, "get_kprobe");
	stop_class = (const struct sched_class *)kpatch_need_symbol("stop_sched_class");
	text_lock = (struct mutex *)kpatch_need_symbol("text_mutex");
	modules_lock = (struct mutex *)kpatch_need_symbol("module_mutex");
	ok &= stop_class && text_lock && modules_lock;
	ok &= kpatch_need_symbol("_text") && kpatch_need_symbol("__start_notes") &&
	      kpatch_need_symbol("__stop_notes");
	ok &= kpatch_arch_init();

	addr = static_call(kp_lookup_name)("ftrace_lookup_ip");
	if (addr) {
		static_call_update(kp_ftrace_lookup_ip, (typeof(ftrace_lookup_ip) *)addr);
		ftrace_users = (struct ftrace_ops __rcu **)static_call(kp_lookup_name)("ftrace_ops_list");
	}
	return ok ? 0 : -EOPNOTSUPP;
}

/* The address of a symbol of vmlinux that kpatch_symbols_init() has seen. */
unsigned long kpatch_vmlinux_symbol(const char *name)
{
	return static_call(kp_lookup_name)(name);
}

struct search {
	unsigned long sympos;
	unsigned long nr;
	unsigned long addr;
};

/* One symbol of the name; says whether the search is over. */
static int search_step(void *data, unsigned long addr)
{
	struct search *search = data;

	search->nr++;
	if (search->sympos && search->nr < search->sympos)
		return 0;
	search->addr = addr;
	return search->sympos || search->nr > 1;
}

static int find_in_vmlinux(const char *name, struct search *search, struct kpatch_symbol *symbol)
{
	unsigned long offset;

	static_call(kp_on_each_match_symbol)(search_step, name, search);
	symbol->addr = search->addr;
	symbol->size = 0;
	/* Per-CPU symbols are offsets, which lie in no range and have no size. */
	if (symbol->addr && static_call(kp_lookup_size_offset)(symbol->addr, &symbol->size, &offset) &&
	    offset)
		symbol->size = 0;
	return 0;
}

/*
 * Symbols of initialisation code do not count: they are in the table only until the module has started, and
 * a position must mean the same before and after.
 */
static bool is_permanent(const struct module *mod, const Elf_Sym *sym)
{
	return sym->st_shndx != SHN_UNDEF && sym->st_shndx < SHN_LORESERVE &&
	       !within_module_init(sym->st_value, mod);
}

/* The module's own symbol table, in its order: also that of kernel livepatch's positions. */
static void find_in_module(struct module *mod, const char *name, struct search *search,
			   struct kpatch_symbol *symbol)
{
	const struct mod_kallsyms *kallsyms;
	unsigned int i;

	rcu_read_lock_sched();
	kallsyms = rcu_dereference_sched(mod->kallsyms);
	for (i = 0; i < kallsyms->num_symtab; i++) {
		const Elf_Sym *sym = &kallsyms->symtab[i];

		if (!is_permanent(mod, sym) || strcmp(kallsyms->strtab + sym->st_name, name))
			continue;
		symbol->size = sym->st_size;
		if (search_step(search, sym->st_value))
			break;
	}
	rcu_read_unlock_sched();
	symbol->addr = search->addr;
}

/**
 * kpatch_find_symbol - find a symbol by name and position
 * @mod:	the module that has it, NULL for vmlinux
 * @name:	its name; NULL, from an incomplete description, is the name of nothing
 * @sympos:	1-based position among equal names, 0 if it must be the only one
 * @symbol:	its address and size
 *
 * Return: 0, -ENOENT if there is none, -ENOTUNIQ if @sympos is 0 and there are several.
 */
int kpatch_find_symbol(struct module *mod, const char *name, unsigned long sympos,
		       struct kpatch_symbol *symbol)
{
	struct search search = { .sympos = sympos };

	if (!name)
		return -ENOENT;
	if (mod)
		find_in_module(mod, name, &search, symbol);
	else
		find_in_vmlinux(name, &search, symbol);

	if (!search.nr || search.nr < sympos)
		return -ENOENT;
	if (!sympos && search.nr > 1)
		return -ENOTUNIQ;
	return 0;
}

/*
 * What an error of kpatch_find_symbol() means, for the log.  To insmod it is -EINVAL: of -ENOENT that would
 * say "unknown symbol in module", as if an export were missing.
 */
const char *kpatch_find_error(int err)
{
	return err == -ENOTUNIQ ? "several symbols have this name, a position is needed" :
				  "no such symbol, or fewer of this name than its position";
}

/**
 * kpatch_find_module - a module in a certain state
 * @name:	its name
 * @state:	the state
 *
 * While kpatch_mutex is held a live module cannot be freed, see modules.c; one that is coming can.
 *
 * Return: the module, or NULL if there is none or it is in another state.
 */
struct module *kpatch_find_module(const char *name, enum module_state state)
{
	struct module *mod;

	rcu_read_lock_sched();
	mod = static_call(kp_find_module)(name);
	if (mod && mod->state != state)
		mod = NULL;
	rcu_read_unlock_sched();
	return mod;
}

/**
 * kpatch_used_module - a module that an object's module cannot do without
 * @object:	of a module that is loaded, or of vmlinux
 * @name:	the other module's name
 *
 * While the first one is there the other one cannot be unloaded.
 *
 * Return: the object's own module if @name is that, the module that it uses, or NULL.
 */
struct module *kpatch_used_module(const struct kpatch_target_object *object, const char *name)
{
	struct module *found = NULL;
	struct module_use *use;

	if (!object->mod || !strcmp(name, object->mod->name))
		return object->mod;
	mutex_lock(modules_lock);
	list_for_each_entry(use, &object->mod->target_list, target_list)
		if (!strcmp(use->target->name, name))
			found = use->target;
	mutex_unlock(modules_lock);
	return found;
}

/* Visit the main symbol of the function at @addr, and its ".cold" parts; gives their number. */
static size_t walk_code(struct module *mod, unsigned long addr, struct kpatch_range *range, size_t max)
{
	const struct mod_kallsyms *kallsyms;
	const char *function = NULL;
	size_t length = 0, nr = 0;
	unsigned int i;

	rcu_read_lock_sched();
	kallsyms = rcu_dereference_sched(mod->kallsyms);
	for (i = 0; i < kallsyms->num_symtab && !function; i++) {
		const Elf_Sym *sym = &kallsyms->symtab[i];

		if (is_permanent(mod, sym) && sym->st_value == addr && sym->st_size)
			function = kallsyms->strtab + sym->st_name;
	}
	if (function)
		length = strlen(function);
	for (i = 0; function && i < kallsyms->num_symtab; i++) {
		const Elf_Sym *sym = &kallsyms->symtab[i];
		const char *name = kallsyms->strtab + sym->st_name;

		if (!is_permanent(mod, sym) || strncmp(name, function, length))
			continue;
		if (name[length] ? !str_has_prefix(name + length, ".cold") : sym->st_value != addr)
			continue;
		if (nr < max) {
			range[nr].start = sym->st_value;
			range[nr].end = sym->st_value + sym->st_size;
		}
		nr++;
	}
	rcu_read_unlock_sched();
	return nr;
}

/**
 * kpatch_find_code - all code of one function of a patch module
 * @mod:	the patch module
 * @addr:	the function's entry
 * @name:	what to call it in the log
 * @ranges:	gets its main symbol and its ".cold" parts; the caller frees ranges->range
 *
 * Return: 0; -ENOENT if the function has no symbol; -ENOMEM.
 */
int kpatch_find_code(struct module *mod, unsigned long addr, const char *name, struct kpatch_ranges *ranges)
{
	size_t i, nr = walk_code(mod, addr, NULL, 0);

	if (!nr)
		return -ENOENT;
	ranges->range = kcalloc(nr, sizeof(*ranges->range), GFP_KERNEL);
	if (!ranges->range)
		return -ENOMEM;
	/* There may be fewer by now, if the module has just started. */
	ranges->nr = min(nr, walk_code(mod, addr, ranges->range, nr));
	for (i = 0; i < ranges->nr; i++)
		ranges->range[i].name = name;
	return ranges->nr ? 0 : -ENOENT;
}

/* The place in the function at @addr that ftrace can change, or 0. */
unsigned long kpatch_ftrace_location(unsigned long addr)
{
	return static_call(kp_ftrace_location)(addr);
}

/**
 * kpatch_redirecting_handler - who redirects a function by ftrace
 * @ip:		the place in it that ftrace can change
 *
 * Return: the handler of another user, for the log, or NULL if there is none or it cannot be told.
 */
void *kpatch_redirecting_handler(unsigned long ip)
{
	const struct ftrace_ops *ops;
	void *handler = NULL;

	if (!ftrace_users)
		return NULL;
	/* ftrace frees neither users nor hashes before everybody has let preemption on again. */
	preempt_disable();
	for (ops = rcu_dereference_raw(*ftrace_users); ops && !handler;
	     ops = rcu_dereference_raw(ops->next))
		if (ops->flags & FTRACE_OPS_FL_IPMODIFY && ops->func_hash &&
		    static_call(kp_ftrace_lookup_ip)(rcu_dereference_raw(ops->func_hash->filter_hash), ip))
			handler = ops->func;
	preempt_enable();
	return handler;
}

/* Like stack_trace_save_tsk_reliable(). */
int kpatch_save_stack_reliable(struct task_struct *task, unsigned long *entries, unsigned int size)
{
	return static_call(kp_save_reliable)(task, entries, size);
}

/* Like stack_trace_save_tsk(): best effort, for people to read. */
unsigned int kpatch_save_stack(struct task_struct *task, unsigned long *entries, unsigned int size)
{
	return static_call(kp_save)(task, entries, size, 0);
}

struct task_struct *kpatch_idle_task(int cpu)
{
	return static_call(kp_idle_task)(cpu);
}

/* The scheduling class of stop_machine's threads, of which each CPU has one. */
const struct sched_class *kpatch_stop_class(void)
{
	return stop_class;
}

/* While this is held, nobody is about to change the kernel's code. */
void kpatch_lock_code(void)
{
	mutex_lock(text_lock);
}

void kpatch_unlock_code(void)
{
	mutex_unlock(text_lock);
}

/* The kprobe at @addr, or NULL.  Preemption must be off for as long as it is used. */
struct kprobe *kpatch_get_kprobe(unsigned long addr)
{
	return static_call(kp_get_kprobe)((void *)addr);
}
