# SPDX-License-Identifier: GPL-2.0-or-later
# Functions for the steps of the core's boot tests.  $kernel has the parameters release= and build_id=.

cd /modules

# All steps begin with an empty log, so that what they look for is their own.
dmesg -c >/dev/null

fail() {
    echo "$*"
    dmesg
    # For the steps that come after; what is stuck stays in the background.
    rmmod kpt_fault kpt_a kpt_b kpt_c kpt_d kpt_relocs kpt_nmi kpt_victim 2>/dev/null &
    sleep 1
    exit 1
}

# logged TEXT: the kernel's log has it.
logged() {
    dmesg | grep -q -F -- "$1" || fail "not in the log: $1"
}

not_logged() {
    ! dmesg | grep -F -- "$1" || fail "in the log: $1"
}

load() { # MODULE PARAMETER...
    insmod "$@" || fail "insmod $*"
}

# refused ERROR TEXT MODULE PARAMETER...: insmod fails with the error, and the log has the text.
refused() {
    error=$1 text=$2
    shift 2
    insmod "$@" 2>/tmp/error && fail "was loaded: $*"
    grep -q -F -- "$error" /tmp/error || fail "other error: $(cat /tmp/error)"
    logged "$text"
}

unload() {
    rmmod "$1" || fail "rmmod $1"
}

# is FILE TEXT: the file holds exactly the text.
is() {
    [ "$(cat "$1")" = "$2" ] || fail "$1: expected '$2', is '$(cat "$1")'"
}

# within SECONDS COMMAND...: the command succeeds by then.
within() {
    tries=$(($1 * 10))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "never: $*"
        sleep 0.1
    done
}

gone() { # PATH
    [ ! -e "$1" ]
}

# inside TEXT PID: the process sleeps in a function of that name.
inside() {
    grep -q -F -- "$1" "/proc/$2/stack"
}


# The address of the first symbol of that name.
address_of() {
    grep -m 1 -w -- "$1" /proc/kallsyms | cut -d' ' -f1
}

patches=/sys/kernel/kpatch/patches
