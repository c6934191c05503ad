/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kpatch: the interface between the core module and patch modules.
 *
 * A patch module fills a struct kpatch_module, whose tables live as long as the module, and hands it to
 * kpatch_register() from its init function; kpatch_unregister() in its exit function undoes it.
 */
#ifndef _KPATCH_H
#define _KPATCH_H

#include <linux/types.h>
#include <linux/module.h>

#endif /* _KPATCH_H */
