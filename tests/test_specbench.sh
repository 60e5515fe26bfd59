#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# specbench: the front door, models that cannot be used, machine, selftest, the report without a command.
. "${OCTAVO_SRCDIR:-.}/tests/support/specbench.sh"

# ---- the front door

expect 0 usage: --help
narrow "specbench --help"
expect 0 "usage: specbench [COMMAND]" help frobnicate
expect 0 "specbench " --version
expect 2 '"frobnicate"' frobnicate
expect 2 "compare is not available in this version" compare a.json b.json
expect 2 "(see specbench --help)" --frobnicate
for command in run generate eval kernels layer machine selftest; do
	expect 0 "usage: specbench $command" $command --help
	cp "$dir/out" "$dir/help"
	narrow "specbench $command --help"
	expect 0 "usage: specbench $command" help $command
	cmp "$dir/out" "$dir/help" >"$dir/err" 2>&1
	result $? "specbench help $command is specbench $command --help"
	expect 2 --frobnicate $command --frobnicate
	expect 2 stray $command stray
	expect 2 "--trace is not available in this version" $command --trace=x
done
if [ -c /dev/full ]; then
	for command in --version "generate --model $model --prompt x --tokens 2" selftest; do
		# shellcheck disable=SC2086
		"$specbench" $command >/dev/full 2>"$dir/err" </dev/null
		[ $? = 2 ] && grep -q '^specbench: standard output: ' "$dir/err"
		result $? "[2] specbench $command >/dev/full"
	done
else
	skipped=$((skipped + 1)); echo "skip standard output that cannot be written: no /dev/full"
fi
expect 2 "--op does not apply" run --op gemm
expect 2 "--prompt does not apply" machine --prompt x
expect 2 "--drafter does not apply" eval --drafter mtp
expect 2 "--tree does not apply" kernels --tree 4,2
expect 2 "--model does not apply" selftest --model x
expect 2 "--text does not apply" generate --text x
expect 2 "--seed does not apply" kernels --seed 1
expect 2 "--op does not apply" --op gemm
expect 2 "--model needs a value" run --model
expect 2 "--ignore-eos takes no value" run --ignore-eos=1

for option in model prompts json record layer; do
	expect 2 "option --$option: \"\" is not a" run --$option ""
done
expect 2 'option --text: "" is not a' eval --text ""

# ---- models that cannot be used

expect 2 "$dir/none" run --model "$dir/none"
expect 2 "$dir/none" generate --model "$dir/none" --prompt x
expect 2 "$dir/none" eval --model "$dir/none"
expect 2 "$dir/none" --model "$dir/none" --json "$dir/none.json"
unmeasured "a model that is not there"
mkdir "$dir/cut" "$dir/bare"
cp "$model"/*.json "$dir/cut"
cp "$model/config.json" "$dir/bare"
size=$(wc -c <"$model/model.safetensors")
head -c $((size / 2)) "$model/model.safetensors" >"$dir/cut/model.safetensors"
expect 2 model.safetensors generate --model "$dir/cut" --prompt x
expect 2 "cut/prompts.jsonl: cannot open: No such file or directory (--prompts FILE" --model "$dir/cut" --json \
	"$dir/none.json"
unmeasured "prompts that are not there"
mkdir "$dir/nothing"
for command in run eval "generate --prompt x" ""; do
	# shellcheck disable=SC2086
	expect 2 "$dir/nothing/config.json: cannot open: No such file" $command --model "$dir/nothing"
done
expect 2 model.safetensors run --model "$dir/cut" --prompts "$src/README.md"
expect 2 "$dir/bare" generate --model "$dir/bare" --prompt x
OCTAVO_MODEL=$dir/none; export OCTAVO_MODEL
expect 2 "$dir/none" generate --prompt x
unset OCTAVO_MODEL

# ---- machine, selftest

expect 0 "GB/s read bandwidth" machine --pool 8 --threads 2 --json "$dir/machine.json"
narrow "specbench machine"
json "$dir/machine.json" 'd["machine"]["read_gbs"] > 0 and d["machine"]["peak_gflops"] > 0 and d["machine"]["cpu"]'
expect 0 "read from 8 MiB, which caches may hold" machine --pool 8 --threads 1
expect 2 'option --pool: "0" is not 1 to 1048576 MiB' machine --pool 0
if awk '/^MemAvailable:/ { exit $2 >= 2^30 }' /proc/meminfo; then
	for command in machine kernels "kernels --peers"; do
		# shellcheck disable=SC2086
		expect 2 " MiB (--pool): no memory; " $command --pool 1048576
	done
fi
expect 0 " 0 failed" selftest --threads 2
grep -q '^ok .* ref ' "$dir/out" && ! grep -q '^FAIL' "$dir/out"
result $? "selftest covers the reference"
OCTAVO_CPU=ref; export OCTAVO_CPU
expect 0 "OCTAVO_CPU" machine --pool 1
expect 0 " 0 failed" selftest
OCTAVO_CPU=sse9
for command in "run --model $model" "generate --prompt x" eval kernels layer machine selftest; do
	# shellcheck disable=SC2086
	expect 2 'OCTAVO_CPU: "sse9" is not one of' $command
done
OCTAVO_CPU=
expect 0 "GB/s read bandwidth" machine --pool 1
! grep -q "OCTAVO_CPU" "$dir/out"
result $? "an empty OCTAVO_CPU is none"
case $(uname -m) in x86_64) OCTAVO_CPU=neon ;; *) OCTAVO_CPU=avx2 ;; esac
expect 0 x generate --model "$model" --prompt x --tokens 2
[ "$(grep -c "OCTAVO_CPU=$OCTAVO_CPU: using" "$dir/err")" = 1 ]
result $? "OCTAVO_CPU=$OCTAVO_CPU, which this machine lacks, is said once"
unset OCTAVO_CPU

# ---- the default report

mkdir "$dir/with"
cp "$model"/*.json "$model/model.safetensors" "$dir/prompts.jsonl" "$dir/with"
(cd "$dir" && timeout 300 "$(cd "$OLDPWD" && cd "$(dirname "$specbench")" && pwd)/specbench" --model "$dir/with" \
	--tokens 4 --threads 2 --seconds 1 >"$dir/out" 2>"$dir/err") && grep -q "identical: yes" "$dir/out"
result $? "[0] specbench, in a directory of its own"
narrow "the report"
json "$dir/specbench.json" 'd["kernels"] and d["runs"] and d["machine"]["read_gbs"] > 0'

finish
