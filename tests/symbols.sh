#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Looks into the objects that were built:
#  - an object for one instruction set defines exactly its set, so that nothing of it can be picked by the linker
#    to run on a machine without that instruction set;
#  - the other objects hold no wide vector registers;
#  - in the Highway module only the code in the namespaces of its targets holds any;
#  - all global names of the libraries start with octavo_, a module exports its description and nothing else;
#  - the libraries need nothing that is kept in modules: no C++ runtime, no Highway, no PAPI, no
#    oneDNN, no libxsmm.
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

# Objects of modules: kernels/[.libs/]octavo_<module>_la-<file>.o.
in_module()
{
	case $1 in
	*/octavo_*_la-*.o) true ;;
	*) false ;;
	esac
}

# Functions of a C++ object outside of Highway's namespaces per target (octavo::N_AVX2, mangled 6N_AVX2) that hold
# wide vector registers.
wide_outside_targets()
{
	objdump -d "$1" | awk '
		/^[0-9a-f]+ <.*>:$/ { name = $2; outside = name !~ /[0-9]N_[A-Z0-9_]+/ }
		outside && /%([yz]mm|tmm)[0-9]/ { print name; outside = 0 }'
}

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
		if in_module "$object" && [ "${object##*-}" = hwy.o ]; then
			wide=$(wide_outside_targets "$object")
			[ -z "$wide" ] || fail "$object holds code for all targets with wide registers: $wide"
			continue
		fi
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

needed()
{
	objdump -p "$1" 2>/dev/null | awk '$1 == "NEEDED" { print $2 }'
}

for library in .libs/liboctavo*.so; do
	[ -f "$library" ] || continue
	heavy=$(needed "$library" | grep -E 'stdc\+\+|libhwy|libpapi|libdnnl|libxsmm')
	[ -z "$heavy" ] || fail "$library needs '$heavy'"
done
modules=0
for module in .libs/octavo-*.so; do
	[ -f "$module" ] || continue
	modules=$((modules + 1))
	found=$($nm -D --defined-only "$module" | awk 'NF == 3 && $2 != "A" { print $3 }' | tr '\n' ' ')
	echo "$found" | grep -qx 'octavo_[a-z]*_module ' || fail "$module exports '$found'"
	needed "$module" | grep -q liboctavo-kernels && continue # which has the rest
	missing=$($nm -D --undefined-only "$module" | grep ' octavo_')
	[ -z "$missing" ] || fail "$module needs '$missing' of whoever loads it"
done
echo "$modules modules"

exit $failed
