#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The guest's init: runs the steps in order and answers the host, then powers off.
#
# It is the same for every boot. What differs lies beside it as files: /steps/NUMBER/command (shell),
# title, limit (seconds) and, for a step without which the rest makes no sense, essential (the exit
# status it must have). The kernel's console is the first serial port; the answer goes out on the
# second one, where no kernel message can come between (kbuild_py/vm/answer.py reads it):
#
#   started
#   step NUMBER begin
#   step NUMBER end|hung STATUS SIZE SENT SIZE SENT     sizes of standard output and standard error;
#   ...bytes of output...bytes of errors...             of each the first SENT bytes follow
#   finished

answer=/dev/ttyS1
keep=1048576 # bytes of each stream that are sent at most

export PATH=/bin HOME=/
/bin/busybox --install -s /bin 2>/dev/null # a file that is there already stays
mkdir -p /dev /proc /run /sys /tmp
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp

exec 3>"$answer"
stty -F "$answer" raw -echo # or the line discipline turns \n into \r\n
mkfifo /run/ended
cd /

report() { # end|hung STATUS
    out=$(wc -c </run/out)
    err=$(wc -c </run/err)
    out_sent=$((out < keep ? out : keep))
    err_sent=$((err < keep ? err : keep))
    echo "step $number $1 $2 $out $out_sent $err $err_sent" >&3
    head -c "$out_sent" /run/out >&3
    head -c "$err_sent" /run/err >&3
}

# Waits for the step's end; when it does not come, lets the kernel tell where its tasks are (blocked
# tasks, then what each CPU runs), and gives up.
watch() {
    read -r -t "$limit" _ <>/run/ended && exit
    echo w >/proc/sysrq-trigger
    echo l >/proc/sysrq-trigger
    report hung 0
    echo finished >&3
    poweroff -f
}

echo started >&3
for step in /steps/*; do
    [ -d "$step" ] || break # there are none
    number=${step##*/}
    limit=$(cat "$step/limit")
    echo "step $number begin" >&3
    echo "kbuild-py: step $number: $(cat "$step/title")" >/dev/kmsg
    : >/run/out
    : >/run/err
    watch &
    sh "$step/command" </dev/null >/run/out 2>/run/err 3>&-
    status=$?
    echo ended >/run/ended
    wait $!
    report end $status
    if [ -f "$step/essential" ] && [ "$status" != "$(cat "$step/essential")" ]; then
        break
    fi
done
echo finished >&3
poweroff -f
