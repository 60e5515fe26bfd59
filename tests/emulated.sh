#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2086 # lists of flags and files
#
# The kernel checks on processors that this machine is not, by QEMU's user emulation:
#  - tests/check as it was built, on an x86-64 processor without AVX and on one with AVX2 but no AVX-512: only what
#    such a processor has may be chosen and run;
#  - fp8/, kernels/, the acceptance rules and tests/check built for 64-bit Arm: the NEON kernels against the
#    reference as that compiler reads it, and both against the hash that x86-64 gives.
# What is missing for a part is said, and counts as a skipped test.
src=$(cd "${OCTAVO_SRCDIR:-.}" && pwd) || exit 1
build=$(cd "${OCTAVO_BUILDDIR:-.}" && pwd) || exit 1
cross=${AARCH64_CC:-aarch64-linux-gnu-gcc}
passed=0 failed=0 skipped=0
unset OCTAVO_CPU

skip()
{
	skipped=$((skipped + 1))
	echo "SKIP $1: not tested: $2"
}

fail()
{
	failed=$((failed + 1))
	echo "FAIL $1"
}

# run NAME SETS COMMAND...: a run of tests/check that must execute exactly the kernels of SETS; its counts are added.
run()
{
	name=$1 sets=$2; shift 2
	echo "--- $name: $*"
	output=$("$@" 2>&1); status=$?
	echo "$output" | grep -v -e '^SKIP' -e 'TCG doesn.t support' | sed 's/^/  /'
	counts=$(echo "$output" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p')
	if [ -z "$counts" ]; then
		fail "$name: no summary, status $status"
		return
	fi
	passed=$((passed + ${counts% *})) failed=$((failed + ${counts#* }))
	[ $status = 0 ] || [ "${counts#* }" -gt 0 ] || fail "$name: status $status"
	echo "$output" | grep -qx "executed here: $sets" || fail "$name: executed something else than: $sets"
}

# ---- x86-64 ----

check=$build/tests/check/check
cc=$(sed -n 's/^CC = //p' "$build/Makefile")
cflags=$(sed -n 's/^CFLAGS = //p' "$build/Makefile")
macros=$($cc $cflags -dM -E -x c /dev/null)

old_processors()
{
	run 'no AVX' 'ref' qemu-x86_64 -cpu Nehalem "$check" --filter=forward.hash --filter=codes --filter=table. \
		--filter=driver.arguments --filter=quantise --filter=swiglu --filter=attention.gather
	if ! qemu-x86_64 -cpu Haswell "$check" --list 2>/dev/null | grep -q avx2; then
		skip 'AVX2 without AVX-512' "$(qemu-x86_64 --version | head -1) has no AVX2, or this build"
		return
	fi
	# This emulator touches what a masked load leaves out.
	sets='ref avx2'
	if qemu-x86_64 -cpu Haswell "$check" --list 2>/dev/null | grep -q /hwy; then
		sets='ref hwy avx2'
	fi
	run 'AVX2 without AVX-512' "$sets" qemu-x86_64 -cpu Haswell "$check" --unguarded --filter=forward.hash \
		--filter=codes/avx2 --filter=rows/avx2 --filter=row_scales/avx2 --filter=gather/avx2 --filter=norm
}

if ! echo "$macros" | grep -q '__x86_64__'; then
	skip 'older x86-64 processors' 'this build is for another architecture'
elif echo "$macros" | grep -q '__AVX__'; then
	skip 'older x86-64 processors' "the flags '$cflags' raise the baseline"
elif ! command -v qemu-x86_64 >/dev/null; then
	skip 'older x86-64 processors' 'no qemu-x86_64 (package: qemu-user)'
elif ! qemu-x86_64 "$check" --list >/dev/null 2>&1; then
	skip 'older x86-64 processors' 'qemu-x86_64 cannot run this build at all (a sanitizer, perhaps)'
else
	old_processors
fi

# ---- 64-bit Arm ----

unset OCTAVO_MODULE_PATH # this machine's modules

objects=$build/tests/aarch64

# What tests/check is made of, with the NEON kernels; again only if a source has changed.
build_aarch64()
{
	sources=$(cd "$src" && echo $OCTAVO_CHECK_SOURCES kernels/*_neon.c)
	[ -x "$objects/check" ] && [ -z "$(cd "$src" && find $sources fp8 kernels tests/emulated.sh \
		\( -name '*.[ch]' -o -name '*.sh' \) -newer "$objects/check" | head -1)" ] && return 0
	mkdir -p "$objects" || return 1
	rm -f "$objects"/*
	for file in $sources; do
		case $file in
		*_neon.c) flags=-fno-schedule-insns ;; # as configure chooses for GCC
		*.c) flags= ;;
		*) continue ;;
		esac
		"$cross" -std=gnu11 -O2 $OCTAVO_BASE_CFLAGS $flags -D_GNU_SOURCE -DHAVE_NEON -DOCTAVO_MODULEDIR='""' -I"$src" \
			-I"$src/fp8" -I"$src/kernels" -I"$src/engine" -I"$src/profiler" -c "$src/$file" \
			-o "$objects/$(echo "$file" | tr / -).o" || return 1
	done
	"$cross" -static -o "$objects/check" "$objects"/*.o -lm -lpthread -ldl
}

if echo "$macros" | grep -q '__aarch64__'; then
	echo 'This build is for 64-bit Arm: tests/check has run its kernels.'
elif ! command -v "$cross" >/dev/null; then
	skip '64-bit Arm' "no $cross (packages: gcc-aarch64-linux-gnu libc6-dev-arm64-cross)"
elif ! command -v qemu-aarch64 >/dev/null; then
	skip '64-bit Arm' 'no qemu-aarch64 (package: qemu-user)'
elif ! output=$(build_aarch64 2>&1); then
	echo "$output"
	fail '64-bit Arm: the build'
else
	arm="qemu-aarch64 -cpu cortex-a53" # Armv8.0 and nothing more
	run '64-bit Arm' 'ref neon' $arm "$objects/check" --require=neon --filter=forward.hash --filter=/neon
	run '64-bit Arm, lowered' 'ref' env OCTAVO_CPU=ref $arm "$objects/check" --filter=codes
	run '64-bit Arm, named' 'ref neon' env OCTAVO_CPU=neon $arm "$objects/check" --filter=codes
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
