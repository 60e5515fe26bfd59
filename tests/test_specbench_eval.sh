#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# specbench eval: losses, the distance from reference logits, and what is refused.
. "${OCTAVO_SRCDIR:-.}/tests/support/specbench.sh"

expect 0 "100 tokens scored (100 bytes of text)" eval --model "$model" --text "$src/LICENSE" --tokens 100 \
	--json "$dir/eval.json"
json "$dir/eval.json" '[(e["arithmetic"], e["kv"]) for e in d["eval"]] == [("w8a16", "bf16"), ("w8a16", "fp8"),
	("w8a8", "bf16"), ("w8a8", "fp8")]'
json "$dir/eval.json" 'all(e["tokens"] == 100 and e["kl_bf16"] is None for e in d["eval"])'
# A model of 260 tokens that has learnt nothing cannot be far from log 260.
json "$dir/eval.json" 'all(3 < e["nats_per_token"] < 12 for e in d["eval"])'
expect 0 w8a8 eval --model "$model" --text "$src/LICENSE" --tokens 600 --arithmetic w8a8 --kv bf16 --json \
	"$dir/eval8.json"
json "$dir/eval8.json" 'len(d["eval"]) == 1 and d["eval"][0]["windows"] == 2 and d["eval"][0]["tokens"] == 600'
expect 0 "fp8   not run: " eval --model "$dense" --text "$src/LICENSE" --tokens 40 --json "$dir/dense.json"
json "$dir/dense.json" '[e["kv"] for e in d["eval"]] == ["bf16", "bf16"]'
expect 2 "$dir/none.txt" eval --model "$model" --text "$dir/none.txt"
expect 2 "$model/eval/heldout.txt: cannot open: No such file or directory (--text FILE" eval --model "$model"
expect 2 "$dir/empty: the file is empty" eval --model "$model" --text "$dir/empty"
printf 'abc\377def' >"$dir/latin"
expect 2 "$dir/latin" eval --model "$model" --text "$dir/latin"
expect 2 "$dir" eval --model "$model" --text "$dir"
expect 0 "w8a8 hopper:64" eval --model "$model" --text "$src/LICENSE" --tokens 40 --arithmetic w8a8 --kv bf16 \
	--emulate hopper:64 --json "$dir/emulated.json"
grep -q "hopper:64: approximate" "$dir/out"
result $? "eval says that emulation is approximate"
json "$dir/emulated.json" '[e["emulate"] for e in d["eval"]] == [None, "hopper:64"]'
json "$dir/emulated.json" '0 < abs(d["eval"][0]["nats_per_token"] - d["eval"][1]["nats_per_token"]) < 0.1'
expect 2 'option --emulate: "hopper:100" is not' eval --model "$model" --text "$src/LICENSE" --emulate hopper:100
expect 2 "needs --arithmetic w8a8" eval --model "$model" --text "$src/LICENSE" --emulate hopper --arithmetic w8a16
expect 2 'option --kv: "int8"' eval --model "$model" --text "$src/LICENSE" --kv int8
expect 2 '"w4a4"' eval --model "$model" --text "$src/LICENSE" --arithmetic w4a4

# Reference logits, all zero: tokens and positions are the first ones, the law is uniform.
reference() { # TOKENS POSITIONS VOCAB BYTES
	header="{\"tokens\":{\"dtype\":\"I32\",\"shape\":[$1],\"data_offsets\":[0,$(($1 * 4))]},\
\"positions\":{\"dtype\":\"I32\",\"shape\":[$2],\"data_offsets\":[$(($1 * 4)),$((($1 + $2) * 4))]},\
\"logits\":{\"dtype\":\"F16\",\"shape\":[$2,$3],\"data_offsets\":[$((($1 + $2) * 4)),$((($1 + $2) * 4 + $2 * $3 * \
	2))]}}"
	{
		printf '\054\001\000\000\000\000\000\000%-300s' "$header" # 300 bytes, padded
		head -c "$4" /dev/zero
	} >"$dir/with/eval/heldout_bf16.safetensors"
}
mkdir -p "$dir/with/eval"
cp "$model"/*.json "$model/model.safetensors" "$dir/with"
head -c 200 "$src/LICENSE" >"$dir/with/eval/heldout.txt"
reference 4 2 260 1064
expect 0 "of 2" eval --model "$dir/with" --json "$dir/kl.json"
json "$dir/kl.json" 'all(e["kl_bf16"]["positions"] == 2 and 0 < e["kl_bf16"]["mean"] < 12 for e in d["eval"])'
reference 4 2 260 1000
expect 2 "logits: data_offsets" eval --model "$dir/with"
reference 4 2 261 1068
expect 2 "logits: shape" eval --model "$dir/with"
reference 3000 2 260 13048
expect 2 "tokens: more than the model's context" eval --model "$dir/with"
printf '\377\377\377\377\377\377\377\177{}' >"$dir/with/eval/heldout_bf16.safetensors"
expect 2 "heldout_bf16.safetensors: header" eval --model "$dir/with"
printf 'abc' >"$dir/with/eval/heldout_bf16.safetensors"
expect 2 "heldout_bf16.safetensors: header" eval --model "$dir/with"
printf '\002\0\0\0\0\0\0\0{}' >"$dir/with/eval/heldout_bf16.safetensors"
expect 2 "tokens: missing" eval --model "$dir/with"

finish
