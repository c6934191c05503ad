#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs a guest's steps in a booted Debian, and answers the host as templates/guest-init.sh does; the
# answer's format is described there.  The steps, and the guest's files, come as a cpio archive on the
# second disk and lie below /run/guest.  A step that does not end is left to the host's clock.

answer=/dev/ttyS1
guest=/run/guest

PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mkdir -p "$guest"
cd "$guest" || exit
cpio -idu --quiet </dev/vdb
exec 3>"$answer"
stty -F "$answer" raw -echo
cd / || exit

echo started >&3
for step in "$guest"/steps/*; do
	[ -d "$step" ] || break
	number=${step##*/}
	echo "step $number begin" >&3
	echo "kbuild-py: step $number: $(cat "$step/title")" >/dev/kmsg
	timeout "$(cat "$step/limit")" sh "$step/command" </dev/null >"$guest/out" 2>"$guest/err" 3>&-
	status=$?
	out=$(wc -c <"$guest/out")
	err=$(wc -c <"$guest/err")
	echo "step $number end $status $out $out $err $err" >&3
	cat "$guest/out" "$guest/err" >&3
	if [ -f "$step/essential" ] && [ "$status" != "$(cat "$step/essential")" ]; then
		break
	fi
done
echo finished >&3
sync
systemctl poweroff --force
