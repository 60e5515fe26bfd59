#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make installcheck: builds the README's example, as it is printed, against the installed libraries and runs it.
# usage: install.sh DESTDIR LIBDIR README.md MODEL
set -eu
destdir=$1 libdir=$2 readme=$3 model=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
example=$work/app.c
awk '/^```/ { inside = $0 == "```c"; next } inside' "$readme" >"$example"
PKG_CONFIG_PATH=$destdir$libdir/pkgconfig
export PKG_CONFIG_PATH
[ -z "$destdir" ] || PKG_CONFIG_SYSROOT_DIR=$destdir export PKG_CONFIG_SYSROOT_DIR
run() {
	out=$("$@" "$model" "hello world") || { echo "FAIL: $* exits $?"; exit 1; }
	[ -n "$out" ] || { echo "FAIL: $* printed nothing"; exit 1; }
}
pkg-config --exists octavo octavo-kernels
if [ -e "$destdir$libdir/liboctavo.so" ]; then
	# shellcheck disable=SC2046
	${CC:-cc} "$example" -o "$work/shared" $(pkg-config --cflags --libs octavo) -Wl,-rpath-link,"$destdir$libdir"
	LD_LIBRARY_PATH=$destdir$libdir run "$work/shared"
	echo "ok shared"
fi
if [ -e "$destdir$libdir/liboctavo.a" ]; then
	# The distribution's libraries stay shared: only ours are linked from their archives.
	# shellcheck disable=SC2046
	${CC:-cc} "$example" -o "$work/static" $(pkg-config --cflags octavo) "$destdir$libdir/liboctavo.a" \
		"$destdir$libdir/liboctavo-kernels.a" $(pkg-config --static --libs-only-l octavo |
			sed 's/-loctavo-kernels//; s/-loctavo//')
	run "$work/static"
	echo "ok static"
fi
