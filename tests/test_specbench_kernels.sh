#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# specbench kernels and layer.
. "${OCTAVO_SRCDIR:-.}/tests/support/specbench.sh"

# ---- kernels

small="--pool 1 --repeats 2 --threads 2"
# shellcheck disable=SC2086
{
	expect 0 "64x256" kernels --shape 64,256 --rows 1,3 $small --json "$dir/kernels.json"
	json "$dir/kernels.json" 'all(k["ns"]["min"] <= k["ns"]["median"] <= k["ns"]["max"] for k in d["kernels"])'
	json "$dir/kernels.json" '{(k["m"], k["n"], k["k"]) for k in d["kernels"]} == {(1, 64, 256), (3, 64, 256)}'
	json "$dir/kernels.json" 'all(k["r"] == 1 for k in d["kernels"] if k["m"] == 1)'
	json "$dir/kernels.json" 'd["machine"]["read_gbs"] > 0 and d["machine"]["peak_gflops"] > 0'
	for case in gemm:97,333 gemm_bf16:33,77 gemm_t:256,72 moe:40,136 mla_up:256,72 attention:600,2 gqa:600,16 \
		norm:1,333 \
		swiglu:1,333 quantise:1,333 decode:1,333 encode:1,333; do
		expect 0 "${case%:*} " kernels --op "${case%:*}" --shape "${case#*:}" --rows 1,2 $small
	done
	expect 0 " ref " kernels --isa ref --shape 32,64 --rows 2 $small
	expect 2 '"sse9"' kernels --isa sse9 --shape 32,64 $small
}
expect 2 '"frobnicate" (known: gemm, ' kernels --op frobnicate
expect 2 '"mkl" (known: onednn, xsmm)' kernels --backend mkl
expect 2 "--backend and --isa exclude each other" kernels --backend onednn --isa ref
expect 2 "the backends have no norm" kernels --backend onednn --op norm
expect 2 "--peers and --op exclude each other" kernels --peers --op gemm
expect 2 "--peers and --backend exclude each other" kernels --peers --backend xsmm
for backend in onednn xsmm; do
	if "$specbench" kernels --backend $backend --shape 16,16 --rows 1 --pool 1 --repeats 1 >"$dir/out" \
		2>"$dir/err"; then
		expect 0 " $backend " kernels --backend $backend --shape 200,300 --rows 1,5 --pool 1 --repeats 1 \
			--json "$dir/b.json"
		json "$dir/b.json" '{(k["backend"], k["isa"] is None) for k in d["kernels"]} == {("native", False),
			("'$backend'", True)}'
		expect 0 "backend $backend" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 4 --drafter \
			none \
			--backend $backend --json "$dir/b.json"
		json "$dir/b.json" 'd["settings"]["backend"] == "'$backend'"'
		expect 0 "The first" generate --model "$model" --prompt "The first" --tokens 4 --backend $backend
		expect 0 "backend $backend" eval --model "$model" --text "$src/NEWS.md" --tokens 20 --backend $backend
	elif grep -q "option --backend: backend $backend: " "$dir/err"; then
		skipped=$((skipped + 1)); echo "skip backend $backend: $(cat "$dir/err")"
	else
		result 1 "specbench kernels --backend $backend"
	fi
done
expect 0 "octavo" kernels --peers --shape 64,96 --rows 1,3 --pool 1 --repeats 2 --json "$dir/b.json"
json "$dir/b.json" '{k["backend"] for k in d["kernels"]} >= {"native"} and all(k["time_to_native"]["median"] > 0
	for k in d["kernels"])'
expect 2 'option --shape: "5"' kernels --shape 5
expect 2 'option --shape: "0,5"' kernels --shape 0,5
expect 2 "--shape: 100,64: gemm_t takes" kernels --op gemm_t --shape 100,64
expect 2 "--shape: 2,64: norm takes" kernels --op norm --shape 2,64
expect 2 "--shape: 100,12: gqa takes" kernels --op gqa --shape 100,12
expect 0 "13 bits" kernels --op emulate --shape 4,1000 --json "$dir/emulate.json"
# N_C 32 to 512 and all 1000 products, 13 and 14 bits, and this library's own sums; of two kinds of inputs
json "$dir/emulate.json" 'len(d["emulate"]) == 2 * (2 * 6 + 1)'
json "$dir/emulate.json" 'all(0 < e["rms"] <= e["max"] < 0.1 for e in d["emulate"] if e["sum"] == "hopper")'
json "$dir/emulate.json" 'all(e["max"] < 1e-5 for e in d["emulate"] if e["sum"] == "native")'
json "$dir/emulate.json" 'min(e["rms"] for e in d["emulate"] if e["n_c"] == 1000 and e["fraction_bits"] == 13) > max(
	e["rms"] for e in d["emulate"] if e["n_c"] == 32)'
for option in "--isa ref" "--backend onednn" --peers "--rows 1" "--threads 1" "--pool 1" "--repeats 1"; do
	# shellcheck disable=SC2086
	expect 2 "${option% *} does not apply to --op emulate" kernels --op emulate $option
done
expect 2 "emulate takes up to 4096 outputs" kernels --op emulate --shape 4097,32
expect 2 "the pool has 1" kernels --shape 2048,7168 --pool 1
expect 2 "the pool has 1" kernels --op moe --shape 128,256 --rows 8 --pool 1
expect 2 "--shape: 128,64: mla_up takes" kernels --op mla_up --shape 128,64
expect 2 'option --rows: "1,x"' kernels --rows 1,x
expect 2 'option --rows: "0"' kernels --rows 0
expect 2 'option --repeats: "0"' kernels --repeats 0

# ---- layer

expect 2 "12 is not a multiple of 8" layer --experts 12
expect 2 'option --experts: "512" is not 1 to 256' layer --experts 512
expect 2 "8 rows can choose 64, more than 56" layer --experts 56
expect 2 "option --rows: 33 is more than 32" layer --rows 33
expect 2 "more than 8 row counts" layer --rows 2,3,4,5,6,7,8,9
for law in overlap overlap: overlap:1.5 overlap:-1 overlap:0.5x random; do
	expect 2 "--union: \"$law\" is neither" layer --union $law
done
expect 2 "cannot write" layer --json "$dir/no/such/layer.json"
few="--experts 16 --rows 2 --context 3 --repeats 2 --threads 2"
# shellcheck disable=SC2086
if (TMPDIR=$dir/none; export TMPDIR; "$specbench" layer $few >"$dir/out" 2>"$dir/err") ||
	! grep -q "available$" "$dir/err"; then
	grep -q "$dir/none/specbench-layer-.*TMPDIR names another place" "$dir/err"
	result $? "layer says where it cannot make its directory"
	(TMPDIR=$dir; export TMPDIR; exec "$specbench" layer $few --union overlap:1 --json "$dir/layer.json" \
		>"$dir/out" \
		2>"$dir/err")
	result $? "[0] specbench layer $few"
	ls -d "$dir"/specbench-layer-* >/dev/null 2>&1
	[ $? != 0 ]
	result $? "layer leaves nothing behind"
	# Of the second row's experts all are exchanged for the first one's.
	json "$dir/layer.json" '[r["m"] for r in d["layer"]["rows"]] == [1, 2]'
	json "$dir/layer.json" 'all(r["experts"]["union"] == 8 == r["experts"]["union_formula"]
		for r in d["layer"]["rows"])'
	json "$dir/layer.json" 'all(r["experts"]["bytes"] == 9 * 44050944 + 16 * 7168 * 2 for r in d["layer"]["rows"])'
	json "$dir/layer.json" 'd["layer"]["read_gbs"] > 0 and d["layer"]["experts_in_memory"] == 16'
	expect 0 "if a forward of M rows cost r(M) of" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 8 \
		--drafter mtp -k 1 --layer "$dir/layer.json" --json "$dir/outlook.json"
	json "$dir/outlook.json" 'd["runs"][0]["full_size"] is None and d["settings"]["layer"]'
	json "$dir/outlook.json" '(f := d["runs"][1]["full_size"]) and 0 < f["speedup"] < f["speedup_drafts_free"]'
else
	skipped=$((skipped + 1)); echo "skip layer: $(cat "$dir/err")"
fi
expect 2 "$dir/none.json" run --model "$model" --prompts "$dir/prompts.jsonl" --layer "$dir/none.json"
expect 2 "$dir/empty:1: " run --model "$model" --prompts "$dir/prompts.jsonl" --layer "$dir/empty"
expect 2 "$dir: cannot read: Is a directory" run --model "$model" --prompts "$dir/prompts.jsonl" --layer "$dir"
expect 2 "no times of a layer" run --model "$model" --prompts "$dir/prompts.jsonl" --layer "$dir/kernels.json"

finish
