#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# specbench run where tokens differ from plain decoding's, as they do not with Octavo's own kernels.
. "${OCTAVO_SRCDIR:-.}/tests/support/specbench.sh"

# Octavo's kernels make no divergence, so a module in place of xsmm's is wrong wherever it runs.
of='(x := d["runs"][1]["divergence"]) and (e := x["explanation"]) and (c := e["choice"]) and '
told() { # FILE BACKEND: the figures fit together; of temperature 0, where the best logit is chosen
	json "$1" '[r["identical"] for r in d["runs"]] == [True, False] and d["runs"][0]["divergence"] is None'
	json "$1" "$of"'x["plain"] != x["got"] and x["backend"] == "'"$2"'"'
	json "$1" "$of"'x["position"] - 1 == c["position"] >= e["position"]'
	json "$1" "$of"'e["alone"] != e["together"] and e["largest"] > 0'
	json "$1" "$of"'0 <= e["row"] < e["rows"] and c["row"] < c["rows"]'
	json "$1" "$of"'c["plain"][0] > c["got"][0] and c["plain"][1] < c["got"][1] and c["logits"] > 0'
	json "$1" "$of"'0 <= x["margin"] <= c["plain"][0] - c["got"][0] + 1e-6'
}
wrong=${OCTAVO_BUILDDIR:-.}/tests/wrong/.libs
if [ -f "$wrong/octavo-xsmm.so" ]; then
	modules=${OCTAVO_MODULE_PATH-}
	OCTAVO_MODULE_PATH=$wrong; export OCTAVO_MODULE_PATH
	expect 1 "" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 60 --ignore-eos --drafter ngram -k 3 \
		--temperature 0 --backend xsmm --json "$dir/left.json"
	grep -q "layer 0, key-value projection, element 0 of 88" "$dir/out" &&
		grep -q "Likely cause: backend xsmm," "$dir/out" && grep -q "identical: NO" "$dir/out"
	result $? "a divergence is told with its operation and its cause"
	told "$dir/left.json" xsmm
	json "$dir/left.json" "$of"'(e["layer"], e["operation"], e["element"]) == (0, "key-value projection", 0)'
	json "$dir/left.json" "$of"'e["row"] > 0'
	expect 1 "" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 60 --ignore-eos --drafter none --batch 2 \
		--temperature 0 --backend xsmm --json "$dir/beside.json"
	grep -q "none, side by side, left plain decoding on prompt two" "$dir/out" &&
		grep -q "without the prompts beside it, all of it has the same bits" "$dir/out" &&
		grep -q "Likely cause: backend xsmm," "$dir/out"
	result $? "a divergence that other prompts' rows make is told with its cause"
	json "$dir/beside.json" '(x := d["runs"][0]["divergence"])["explanation"] is None and x["backend"] == "xsmm"'
	OCTAVO_MODULE_PATH=$modules
else
	skipped=$((skipped + 1)); echo "skip what is told of a divergence: no modules were built"
fi

finish
