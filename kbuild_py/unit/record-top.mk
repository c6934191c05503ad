# SPDX-License-Identifier: GPL-2.0-or-later
#
# Read instead of the kernel's top Makefile.  After it, with all its flags known and nothing built, start
# record-folder.mk in the top folder of the tree.  `build` is the variable with which kbuild starts itself for
# a folder: given on the command line it wins, so that kbuild's own rules descend with record-folder.mk.
#
# in: kbuild-py-folder   where these two files are
#     kbuild-py-output   where the records go
#     kbuild-py-objects  the objects to record

include Makefile

.PHONY: kbuild-py-record
kbuild-py-record:
	@$(MAKE) -f $(kbuild-py-folder)/record-folder.mk obj=. need-builtin=1 need-modorder=1 \
		'build=-f $(kbuild-py-folder)/record-folder.mk obj' \
		'kbuild-py-archives=$(KBUILD_VMLINUX_OBJS) $(KBUILD_VMLINUX_LIBS)' \
		$(kbuild-py-objects)
