#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Print what a hand-written patch says about the kernel and the functions that it patches, as C.
#
#	describe.sh kernel FUNCTION...		as root, on the kernel that is to be patched
#	describe.sh module FILE.ko FUNCTION...	for functions of a module
set -eu

fail() {
	echo "describe.sh: $*" >&2
	exit 1
}

# The address of the only symbol of that name, without the ffffffff that all of vmlinux begins with: not every
# shell can count that far.
address_of() {
	address=$(awk -v name="$1" '$3 == name && NF == 3 { print substr($1, 9) }' /proc/kallsyms)
	case $address in
	'') fail "$1: no such symbol" ;;
	00000000) fail "addresses are hidden: only root sees them" ;;
	*[!0-9a-f]*) fail "$1: several symbols have this name, see .old_sympos" ;;
	esac
	echo "$address"
}

# The address of the next symbol, in the same form; vmlinux is sorted.
next_of() {
	awk -v address="ffffffff$1" 'found && ($1 "") > address { print substr($1, 9); exit }
		$1 "" == address { found = 1 }' /proc/kallsyms
}

describe_kernel() {
	echo "#define KERNEL_RELEASE \"$(uname -r)\""

	# A note: sizes of owner and content, type 3, owner "GNU", and the 20 bytes of the build ID.
	build_id=$(od -An -v -tx1 /sys/kernel/notes | tr -d ' \n' |
		sed -n 's/.*040000001400000003000000474e5500\(.\{40\}\).*/\1/p')
	[ "$build_id" ] || fail "this kernel has no build ID"
	echo "#define BUILD_ID $(echo "$build_id" | sed 's/../0x&, /g')"

	# KASLR moves all of vmlinux by one distance.  Without it, _text is at ffffffff81000000.
	text=$(address_of _text)
	for name; do
		address=$(address_of "$name")
		printf '#define ADDR_%s 0xffffffff%08xUL\n' "$name" $((0x$address - 0x$text + 0x81000000))
		printf '#define SIZE_%s %dUL\n' "$name" $((0x$(next_of "$address") - 0x$address))
	done
}

describe_module() {
	file=$1
	shift
	for name; do
		size=$(nm -S "$file" | awk -v name="$name" '$4 == name { print $2 }')
		case $size in
		'') fail "$name: $file has no such function" ;;
		*[!0-9a-f]*) fail "$name: several functions have this name, see .old_sympos" ;;
		esac
		printf '#define SIZE_%s %dUL\n' "$name" "0x$size"
	done
}

command=$1
shift
"describe_$command" "$@"
