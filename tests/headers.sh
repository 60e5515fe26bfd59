#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each public header compiles by itself, as C11 and as C++, with nothing but the directory of public headers.
dir=${OCTAVO_INCLUDEDIR-}
passed=0 failed=0 skipped=0
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
if [ -z "$dir" ]; then # not installed yet: gather them
	src=${OCTAVO_SRCDIR:-.}
	dir=$work/include
	mkdir "$dir"
	cp "$src"/*/octavo_*.h "$dir"
fi
try() { # NAME COMMAND...
	name=$1; shift
	if "$@" >"$work/out" 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1)); echo "FAIL $name"; cat "$work/out"
	fi
}
for header in "$dir"/octavo_*.h; do
	base=$(basename "$header")
	echo "#include <$base>" >"$work/t.c"
	cp "$work/t.c" "$work/t.cc"
	try "$base as C11" ${CC:-cc} -std=c11 -Wall -Wextra -Werror -pedantic -I"$dir" -c "$work/t.c" -o "$work/t.o"
	if command -v ${CXX:-c++} >/dev/null; then
		try "$base as C++" ${CXX:-c++} -std=c++17 -Wall -Wextra -Werror -I"$dir" -c "$work/t.cc" -o "$work/t.o"
	else
		skipped=$((skipped + 1)); echo "SKIP $base as C++: no C++ compiler"
	fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
