# SPDX-License-Identifier: GPL-2.0-or-later
#
# Read instead of scripts/Makefile.build.  After it, the rule that compiles a C file writes down what it would
# run, and what kbuild knows about the object.  What the rule depends on (generated headers) is made for real.
#
# kbuild sets need-builtin for a folder when its objects go into vmlinux, and need-modorder when its modules
# are modules of the kernel.  A folder that it visits for another reason (a vDSO, real mode code) gets neither.

include $(srctree)/scripts/Makefile.build

kbuild-py-linked = \
	$(if $(need-builtin),$(if $(filter $@,$(real-obj-y)),vmlinux)) \
	$(if $(filter $@,$(lib-y)),$(if $(filter $(obj)/lib.a,$(kbuild-py-archives)),vmlinux,library)) \
	$(if $(need-modorder),$(if $(filter $@,$(real-obj-m)),module)) \
	$(if $(filter $@,$(real-obj-y)),folder)

define kbuild-py-record
linked: $(kbuild-py-linked)
module: $(modname)
delayed: $(delay-objtool)
needs: $(filter-out $< FORCE,$^)
command: $(cmd_cc_o_c)
endef

rule_cc_o_c = $(file >$(kbuild-py-output)/$(subst /,!,$@),$(kbuild-py-record))
if_changed_rule = $(if $(filter cc_o_c,$(1)),$(rule_cc_o_c))@:

# What kbuild would run on a module's object.
kbuild-py-module.o: part-of-module := y
kbuild-py-module.o: objtool-enabled := y
kbuild-py-module.o:
	$(file >$(kbuild-py-output)/kbuild-py-module.o,command: true$(cmd_objtool))@:
