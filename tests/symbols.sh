#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Looks into the objects that were built:
#  - an object for one instruction set defines exactly its set, so that nothing of it can be picked by the linker
#    to run on a machine without that instruction set;
#  - the other objects hold no wide vector registers;
#  - all global names of the libraries start with octavo_.
cd "${OCTAVO_BUILDDIR:-.}" || exit 1
nm=${NM:-nm}
failed=0

fail()
{
	echo "FAIL: $*"
	failed=1
}

skip()
{
	echo "SKIPPED: $*"
	exit 77
}

# Names that a file defines for the linker; the implementation's own (sanitizers, coverage) do not count.
globals()
{
	$nm -g --defined-only "$@" 2>/dev/null | awk 'NF == 3 && $3 !~ /^_/ { print $2, $3 }' | sort -u
}

$nm --version >/dev/null 2>&1 || skip "no nm on this machine"
[ -d kernels/.libs ] || skip "no objects in $(pwd)/kernels"

# kernels/[.libs/]lib<isa>_la-<file>.o is an object for one instruction set.
isa_objects=$(find kernels -name 'lib*_la-*_*.o' | sort)
for object in $isa_objects; do
	stem=${object##*_la-}
	stem=${stem%.o}
	found=$(globals "$object" | tr '\n' ' ')
	case $found in
	"R octavo_set_$stem " | "D octavo_set_$stem ") ;;
	*) fail "$object defines '$found', not only octavo_set_$stem" ;;
	esac
done
echo "$(echo "$isa_objects" | wc -w) objects for single instruction sets"

# Is the compiler itself free of AVX, with the flags that everything was built with?
cc=$(sed -n 's/^CC = //p' Makefile)
cflags=$(sed -n 's/^CFLAGS = //p' Makefile)
if ! command -v objdump >/dev/null; then
	echo "no look at instructions: no objdump"
elif ! $cc $cflags -dM -E -x c /dev/null | grep -q '__x86_64__'; then
	echo "no look at instructions: not x86-64"
elif $cc $cflags -dM -E -x c /dev/null | grep -q '__AVX__'; then
	echo "no look at instructions: '$cc $cflags' raises the baseline"
else
	count=0
	for object in $(find fp8 kernels engine profiler -name '*.o' | sort); do
		case " $isa_objects " in
		*"$object"*) continue ;;
		esac
		count=$((count + 1))
		wide=$(objdump -d "$object" | grep -m 1 -E '%([yz]mm|tmm)[0-9]')
		[ -z "$wide" ] || fail "$object must run on any x86-64 processor, but holds:$wide"
	done
	[ $count -gt 0 ] || fail "no baseline objects found"
	echo "$count baseline objects"
fi

for library in .libs/libkernels.a .libs/libengine.a .libs/liboctavo*.a; do
	[ -f "$library" ] || continue
	alien=$(globals "$library" | grep -v ' octavo_')
	[ -z "$alien" ] || fail "$library defines '$alien'"
done
for library in .libs/liboctavo*.so; do
	[ -f "$library" ] || continue
	alien=$($nm -D --defined-only "$library" | awk 'NF == 3 && $2 != "A" && $3 !~ /^octavo_/ { print $3 }')
	[ -z "$alien" ] || fail "$library exports '$alien'"
done

exit $failed
