#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Adds up what the logs of the last `make check` say and prints "N passed, N failed, N skipped".
# A cmocka program counts its cases; any other program that prints such a line itself counts that; the rest
# count as one each.  Exit status 1 if anything failed or nothing ran.
cd "${1:-.}" || exit 2
passed=0 failed=0 skipped=0
for trs in tests/*.trs tests/*/*.trs; do
	[ -f "$trs" ] || continue
	log=${trs%.trs}.log
	result=$(sed -n 's/^:test-result: *\([A-Z]*\).*/\1/p' "$trs" | head -1)
	counts=$(awk '
		/^\[  PASSED  \] [0-9]+ test/ { p += $4; seen = 1 }
		/^\[  FAILED  \] [0-9]+ test/ { f += $4; seen = 1 }
		/^\[  SKIPPED \] [0-9]+ test/ { s += $4; seen = 1 }
		/^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3; if ($6 ~ /skipped/) s += $5; seen = 1 }
		END { if (seen) print p + 0, f + 0, s + 0 }' "$log")
	if [ -n "$counts" ]; then
		set -- $counts
		passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
		# A crash after the last count is a failure that no line mentions.
		case $result in PASS|SKIP) ;; *) [ "$2" -gt 0 ] || { failed=$((failed + 1)); echo "crashed: $log" >&2; } ;; esac
	else
		case $result in
		PASS) passed=$((passed + 1)) ;;
		SKIP) skipped=$((skipped + 1)) ;;
		*) failed=$((failed + 1)) ;;
		esac
	fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
