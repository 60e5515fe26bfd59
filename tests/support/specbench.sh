# SPDX-License-Identifier: Apache-2.0
#
# For the tests of specbench as its users meet it: each command with good and bad arguments. They check the exit status
# (0 success, 1 a check failed, 2 bad usage or input) and that a message names what is wrong; `finish` comes last.
# shellcheck shell=sh
specbench=${OCTAVO_BUILDDIR:-.}/specbench
src=${OCTAVO_SRCDIR:-.}
model=$src/tests/data/tiny-ragged dense=$src/tests/data/tiny-llama
unset OCTAVO_MODEL OCTAVO_CPU
passed=0 failed=0 skipped=0
[ -x "$specbench" ] || { echo "FAIL specbench is not built: $specbench"; exit 1; }
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
unset TMOUT

result() { # STATUS NAME
	if [ "$1" = 0 ]; then
		passed=$((passed + 1)); echo "ok   $2"
	else
		failed=$((failed + 1)); echo "FAIL $2"; sed 's/^/     /' "$dir/out" "$dir/err" | head -20
	fi
}

# expect STATUS WORDS COMMAND...: the exit status, and WORDS in what was printed (standard output for status 0,
# standard error otherwise). WORDS may be empty for status 0.
expect()
{
	want=$1 words=$2; shift 2
	timeout 300 "$specbench" "$@" >"$dir/out" 2>"$dir/err" </dev/null
	got=$?
	name="[$want] specbench $*"
	case $want in 0) where=$dir/out ;; *) where=$dir/err ;; esac
	if [ $got != "$want" ]; then
		echo "exit status $got" >>"$dir/err"; result 1 "$name"
	elif [ -n "$words" ] && ! grep -qF -e "$words" "$where"; then
		echo "nothing says: $words" >>"$dir/err"; result 1 "$name"
	else
		result 0 "$name"
	fi
}

# What was refused last was refused before anything was measured, or printed.
unmeasured()
{
	[ ! -s "$dir/out" ]
	result $? "$1: refused before anything is measured"
}

# The JSON document FILE fulfils the Python condition on d.
json()
{
	file=$1 condition=$2
	if ! command -v python3 >/dev/null; then
		skipped=$((skipped + 1)); echo "skip json $file: no python3"; return
	fi
	: >"$dir/out"
	python3 - "$file" "$condition" 2>"$dir/err" <<-'END'
		import json, sys
		d = json.load(open(sys.argv[1]), parse_constant=lambda x: sys.exit("not JSON: " + x))
		assert d["schema"] == 1 and d["tool"] == "specbench" and d["version"]
		assert eval(sys.argv[2]), sys.argv[2]
	END
	result $? "json $(basename "$file"): $condition"
}

# Nothing that was printed last is wider than a window of 120 columns.
narrow()
{
	awk 'length($0) > 120 { print "wider than 120 columns: " $0; wide = 1 } END { exit wide }' "$dir/out" \
		>"$dir/err"
	result $? "$1: no line is wider than 120 columns"
}

finish()
{
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" = 0 ]
}

# ---- what several of them read

: >"$dir/empty"
cat >"$dir/prompts.jsonl" <<'END'
{"id": "one", "category": "prose", "text": "The kernel reads"}

{"id": "two", "category": "code", "text": "int main(void)"}
END
for i in 1 2 3 4 5; do echo "{\"id\": \"$i\", \"category\": \"x\", \"text\": \"word $i\"}"; done >"$dir/five.jsonl"
