#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# specbench run: the report and its document, rules, trees, batches, and what is refused.
. "${OCTAVO_SRCDIR:-.}/tests/support/specbench.sh"

expect 0 "identical: yes" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 --threads 2 -k 1,3 \
	--temperature 0,0.8 --json "$dir/run.json"
narrow "specbench run"
json "$dir/run.json" 'all(r["identical"] is True and r["prompts"] == 2 for r in d["runs"])'
json "$dir/run.json" 'len(d["runs"]) == 26 and sorted({r["drafter"] for r in d["runs"]}) == [
	"eagle", "lookahead", "mtp", "ngram", "ngram+mtp", "none", "parallel"]'
json "$dir/run.json" 'all(p["ns"] >= 0 for r in d["runs"] for p in r["phases"].values() if isinstance(p, dict))'
json "$dir/run.json" 'd["command"][1] == "run" and d["date"].endswith("Z") and d["stopped_by"] is None'
json "$dir/run.json" 'd["busy"] is None or d["busy"]["processes"] >= 0 and d["busy"]["host"] >= 0'
json "$dir/run.json" 'd["counters"]["tier"] in ("hardware", "software", "time") and d["machine"]["threads"] == 2'
json "$dir/run.json" 'all(c["available"] or c["reason"] for c in d["counters"]["sources"].values())'
expect 0 "identical: yes" run --model "$model" --prompts "$dir/prompts.jsonl" --limit 1 --tokens 4 --no-profile \
	--drafter ngram --arithmetic w8a8 --kv fp8 --weights copy --accept greedy --temperature 0 --json \
		"$dir/bare.json"
grep -q "w8a8, FP8 KV cache, at temperature 0" "$dir/out"
result $? "the report names the FP8 cache"
json "$dir/bare.json" 'd["settings"]["weights"] == "copy" and d["settings"]["kv"] == "fp8" and all(r["kv"] == "fp8"
	for r in d["runs"])'
json "$dir/bare.json" 'all(r["phases"] is None and r["prompts"] == 1 for r in d["runs"])'
json "$dir/run.json" 'd["settings"]["threads"] == 2 and d["settings"]["tokens"] == 12 and d["settings"]["seed"] == 0'
json "$dir/run.json" 'd["settings"]["accept"] == "match" and d["settings"]["kernels"] == d["machine"]["isa_chosen"]'
json "$dir/run.json" '{r["temperature"] for r in d["runs"]} == {0, 0.8} and d["settings"]["draft_vocab"] is None'
expect 0 "drafts among the first 30 tokens" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 8 -k 2 \
	--drafter mtp,ngram --draft-vocab 30 --temperature 0,0.8 --json "$dir/draft_vocab.json"
json "$dir/draft_vocab.json" 'd["settings"]["draft_vocab"] == 30 and all(r["identical"] for r in d["runs"])'
# Three of eight experts for one token; for the four rows of a step between three and eight.
json "$dir/run.json" 'all(abs(r["experts_per_step_and_layer"] - 3) < 1e-6 for r in d["runs"] if r["drafter"] == "none")'
json "$dir/run.json" 'all(abs(r["experts_formula"] - 3) < 1e-6 for r in d["runs"] if r["drafter"] == "none")'
json "$dir/run.json" 'all(min(each) <= mean * 1.000001 and mean <= max(each) * 1.000001 for each, mean in (
	(r["speedup_by_category"].values(), r["speedup_geometric_mean"]) for r in d["runs"]))'
json "$dir/run.json" 'all(3 <= r["experts_per_step_and_layer"] + 1e-6 and r["experts_per_step_and_layer"] <= 9
	for r in d["runs"])'
json "$dir/run.json" 'all(r["speedup_ci"] is None for r in d["runs"])'
expect 0 "1 prompt, up to 2 tokens" run --model "$model" --prompts "$dir/prompts.jsonl" --limit 1 --tokens 2 \
	--drafter none
expect 0 ".." run --model "$model" --prompts "$dir/five.jsonl" --tokens 8 --drafter ngram --json "$dir/five.json"
json "$dir/five.json" 'all(r["speedup_ci"][0] <= r["speedup"] <= r["speedup_ci"][1] for r in d["runs"])'
expect 0 "identical, loops" run --model "$src/tests/data/tiny-v2" --prompts "$dir/prompts.jsonl" --tokens 60 \
	--ignore-eos \
	--drafter ngram --temperature 0 --json "$dir/loops.json"
json "$dir/loops.json" 'all(r["loops"] and r["distinct4"] < 0.7 for r in d["runs"])'
expect 0 "identical: yes" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 30 --stop e --stop \
	"$(printf '\303\251')" \
	--drafter mtp,ngram -k 2,8 --json "$dir/stop.json"
json "$dir/stop.json" 'd["settings"]["stop"] == ["e", "é"] and all(r["identical"] for r in d["runs"])'
expect 0 "top-p 0.95, repetition penalty 1.3, presence penalty 0.5, biased tokens 2" run --model "$model" --prompts \
	"$dir/prompts.jsonl" \
	--tokens 30 --ignore-eos --drafter mtp,ngram,ngram+mtp -k 2,auto --repetition-penalty 1.3 --presence-penalty \
		0.5 --logit-bias 100=9.5,101=-inf \
	--json "$dir/bent.json"
json "$dir/bent.json" 'd["settings"]["logit_bias"] == {"100": 9.5,
	"101": "-inf"} and d["settings"]["repetition_penalty"] == 1.3'
json "$dir/bent.json" 'd["settings"]["top_p"] == 0.95 and all(r["identical"] and r["temperature"] == 0.6
	for r in d["runs"])'
# Side by side: the tokens of one at a time, whoever joins and leaves.
expect 0 "2 side by side are" run --model "$model" --prompts "$dir/five.jsonl" --batch 2 --tokens 24 --temperature \
	0,0.8 \
	--drafter mtp,ngram,ngram+mtp -k 2,auto --tree 2,2 --json "$dir/batch.json"
grep -q "identical: yes" "$dir/out"; result $? "a batch of 2 emits the tokens of one prompt at a time"
json "$dir/batch.json" 'd["settings"]["batch"] == 2 and len(d["runs"]) == 2 * (1 + 3 * 3)'
json "$dir/batch.json" 'all(r["batch"] == 2 and r["prompts"] == 5 and r["identical"] is True
	and r["alone_tokens_per_s"] > 0 for r in d["runs"])'
json "$dir/batch.json" 'all(len({r["tokens"] for r in d["runs"] if r["temperature"] == t}) == 1 for t in (0, 0.8))'
json "$dir/batch.json" 'all(3 < r["experts_per_step_and_layer"] <= 6 for r in d["runs"] if r["drafter"] == "none")'
expect 0 "5 prompts, 16 side by side" run --model "$model" --prompts "$dir/five.jsonl" --batch 16 --tokens 3 \
	--drafter mtp -k 3 --no-profile
expect 2 'option --batch: "0"' run --model "$dir/none" --batch 0
expect 2 "--layer looks at single sequences" run --model "$dir/none" --batch 2 --layer x
expect 2 "--batch does not apply" generate --batch 2
if [ "$(awk '/MemAvailable/ { print ($2 < 60e6) }' /proc/meminfo 2>/dev/null)" = 1 ]; then
	expect 2 "option --batch: 4096 sequences" run --model "$src/bench/model" --prompts "$dir/five.jsonl" --batch \
		4096 --tree 63
else
	skipped=$((skipped + 1)); echo "skip a batch that the memory does not hold: there is a lot of it"
fi

for rule in rejection block multiround; do
	expect 0 "lossless: in law" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 -k 2 --accept \
		$rule \
		--temperature 0,0.8 --json "$dir/law.json"
	json "$dir/law.json" 'all(r["identical"] is (True if r["temperature"] == 0
		or r["drafter"] == "none" else None) for r in d["runs"])'
	json "$dir/law.json" '{r["lossless"] for r in d["runs"]} == {"in tokens", "in law"} and not any(r["lossy"]
		for r in d["runs"])'
done
expect 0 "LOSSY: the rule" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 --accept typical --json \
	"$dir/lossy.json"
json "$dir/lossy.json" 'all(r["lossy"] is (r["drafter"] != "none") for r in d["runs"])'
expect 0 "" generate --model "$model" --prompt x --tokens 4 --accept typical
grep -q "accept typical (LOSSY)" "$dir/err"; result $? "generate calls typical lossy"
for rule in candidates candidates: candidates:0 candidates:8, candidates:8,0 candidates:8,1.5 candidates:8,x \
	candidates:x; do
	expect 2 "\"$rule\" is not candidates:K[,P]" generate --model "$dir/none" --prompt x --accept "$rule"
done
expect 0 "(LOSSY)" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 -k 1 --accept candidates:4,0.01 \
	--temperature 0,0.8 --json "$dir/few.json"
expect 0 "LOSSY: the rule" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 -k 1 --accept \
	candidates:4,0.01 \
	--temperature 0
json "$dir/few.json" 'all(r["lossy"] is (r["drafter"] != "none")
	and r["lossless"] == ("no" if r["lossy"] else "in tokens") for r in d["runs"])'
json "$dir/few.json" 'all((r["parting"] is not None and 0 < r["shortlist"]["full_steps"] < 1
	and r["accept"] == "candidates:4,0.01") if r["lossy"] else r["parting"] is None and r["shortlist"] is None \
		for r in d["runs"])'
json "$dir/few.json" 'any(r["lossy"] and r["parting"]["share"] > 0
	for r in d["runs"]) and not any("ngram" == r["drafter"] for r in d["runs"])'
expect 0 "" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 -k 2 --drafter mtp,ngram+mtp \
	--accept candidates:1000000 --temperature 0,0.8 --json "$dir/all.json"
json "$dir/all.json" 'all(r["parting"] == {"prompts": 0, "share": 0, "tokens": r["tokens"]}
	for r in d["runs"] if r["lossy"])'
expect 2 "needs a drafter with laws" run --model "$model" --prompts "$dir/prompts.jsonl" --drafter ngram --accept \
	candidates:4
expect 2 "no logit bias" generate --model "$model" --prompt x --accept candidates:4 --presence-penalty 1
expect 0 "" generate --model "$model" --prompt x --tokens 4 --drafter mtp --accept candidates:4
grep -q "accept candidates:4,0.5 (LOSSY), all logits in" "$dir/err"; result $? "generate calls candidates lossy"
expect 2 "$dir/none.jsonl" run --model "$model" --prompts "$dir/none.jsonl"
expect 2 "$model/prompts.jsonl" run --model "$model"
expect 2 '"wizard"' run --model "$model" --prompts "$dir/prompts.jsonl" --drafter none,wizard
expect 0 "identical: yes" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 --drafter mtp,ngram+mtp -k \
	2,auto \
	--tree 3,2,1 --temperature 0.8 --json "$dir/tree.json"
json "$dir/tree.json" '[(r["drafter"], r["shape"]) for r in d["runs"]] == [("none", None)] + [(m, s) for m in ("mtp",
	"ngram+mtp") for s in ("3,2,1", "2", "auto")]'
json "$dir/tree.json" 'all(r["speedup_predicted"] > 0 and r["prediction"]["measured"] > 0
	and r["prediction"]["curve"] >= 1 for r in d["runs"] if r["shape"])'
expect 2 "--tree" run --model "$dir/none" --tree 9,9
# A table's columns stand below their heads, whatever stands in them.
expect 0 "identical: yes" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 40 --ignore-eos --temperature 0 \
	--drafter mtp,ngram+mtp -k 1,8 --tree dynamic:16,4,5
awk '/accepted by depth .*lossless$/ { at = index($0, "lossless"); rows = 0; next }
	/^$/ { at = 0 }
	at { rows++; wrong += substr($0, at - 2, 3) !~ /^  [-i]/ }
	END { exit wrong || NR == 0 }' "$dir/out" && grep -q " dynamic:16,4,5 .* identical" "$dir/out"
result $? "the table of speeds is aligned"
# A verdict for every table that has something to choose from.
[ "$(grep -c '^  fastest: ' "$dir/out")" = 1 ]
result $? "the report says what was fastest"
# A limit takes prompts of all categories.
for i in 1 2 3 4 5 6; do
	echo "{\"id\": \"a$i\", \"category\": \"a\", \"text\": \"word $i\"}"
done >"$dir/mixed.jsonl"
echo '{"id": "b1", "category": "b", "text": "other"}' >>"$dir/mixed.jsonl"
expect 0 "3 prompts" run --model "$model" --prompts "$dir/mixed.jsonl" --limit 3 --tokens 2 --drafter none \
	--record "$dir/mixed.out"
[ "$(sed -n 's/.*"prompt":"\([^"]*\)".*/\1/p' "$dir/mixed.out" | sort -u | tr '\n' ' ')" = "a1 a2 b1 " ]
result $? "--limit 3 takes two prompts of one category and one of the other"
# Draft heads: a table names the directory briefly, the document as it was given.
if command -v python3 >/dev/null; then
	python3 - "$dir/some/medusa-heads-of-a-long-name" <<-'END'
		import json, os, struct, sys
		os.makedirs(sys.argv[1])
		json.dump({"medusa_num_heads": 1, "medusa_num_layers": 1}, open(sys.argv[1] + "/config.json", "w"))
		shapes = {"0.0.linear.weight": [136, 136], "0.0.linear.bias": [136], "0.1.weight": [260, 136]}
		header, at = {}, 0
		for name, shape in shapes.items():
		    size = 2 * shape[0] * (shape[1] if shape[1:] else 1)
		    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at := at + size]}
		text = json.dumps(header).encode()
		with open(sys.argv[1] + "/medusa_lm_head.safetensors", "wb") as file:
		    file.write(struct.pack("<Q", len(text)) + text + bytes(at))
	END
	heads=medusa:$dir/some/medusa-heads-of-a-long-name
	expect 0 "  medusa:medusa-heads-of-~ 2 " run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 -k 2 \
		--drafter "$heads,ngram+$heads" --json "$dir/heads.json"
	grep -qF "  medusa:medusa-heads-of-~: $heads" "$dir/out"
	result $? "the directory behind a short name"
	json "$dir/heads.json" "[r['drafter'] for r in d['runs']] == ['none', '$heads', 'ngram+$heads']"
	json "$dir/heads.json" 'all(r["identical"] for r in d["runs"]) and len(d["runs"][1]["acceptance"]) == 1'
else
	skipped=$((skipped + 1)); echo "skip draft heads: no python3"
fi
expect 2 "mtp is there twice" run --model "$dir/none" --drafter mtp,mtp
expect 2 "greedy needs --temperature 0" run --model "$dir/none" --accept greedy
expect 2 "$dir/none.jsonl: cannot open" run --model "$dir/none" --prompts "$dir/none.jsonl"
expect 2 "$dir/empty: no prompts" run --model "$model" --prompts "$dir/empty"
expect 2 "LICENSE:2: not JSON" run --model "$model" --prompts "$src/LICENSE"
bad() { # LINE WORDS
	{ head -1 "$dir/prompts.jsonl"; echo "$1"; } >"$dir/bad.jsonl"
	expect 2 "$dir/bad.jsonl:2: $2" run --model "$model" --prompts "$dir/bad.jsonl" --tokens 2
}
bad '{"id": "x", "category": "y"}' text
bad '{"id": "x", "category": "y", "text": ""}' text
bad '{"id": "x", "category": "y", "text": 1}' text
bad '{"category": "y", "text": "z"}' id
bad '{"id": "x", "text": "z"}' category
bad '[]' text
bad "{\"id\": \"x\", \"category\": \"y\", \"text\": \"$(head -c 5000 /dev/zero | tr '\0' x)\"}" "text: 5001 tokens"
for drafter in medusa eagle:/no/such "ngram,model:$dir" "ngram+hydra:$dir/empty" \
	"mtp,medusa:$src/tests/data/tiny-ragged/drafters/eagle"; do
	name=${drafter##*[,+]}
	expect 2 "drafter ${name%%:*}: " run --model "$model" --prompts "$dir/prompts.jsonl" --drafter "$drafter"
	unmeasured "--drafter $drafter"
done
expect 2 "a depth of 1 to 8" run --model "$model" --prompts "$dir/prompts.jsonl" --tree dynamic:8,2,9
unmeasured "a tree that cannot be"
expect 2 "$dir/no/such/run.json" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 2 --drafter none \
	--json "$dir/no/such/run.json"
unmeasured "a JSON file that cannot be written"
expect 2 "Is a directory" run --model "$model" --prompts "$dir/prompts.jsonl" --json "$dir"
bare="run --model $model --prompts $dir/five.jsonl --tokens 2 --drafter none --no-profile"
# shellcheck disable=SC2086
{
	ln -s real.json "$dir/link.json"
	expect 0 identical $bare --json "$dir/link.json"
	[ -L "$dir/link.json" ] && [ -f "$dir/real.json" ] && [ ! -e "$dir/link.json.part" ]
	result $? "a link to a JSON file stays one"
	mkfifo "$dir/fifo"
	cat "$dir/fifo" >"$dir/piped.json" &
	expect 0 identical $bare --json "$dir/fifo"
	wait $!
	[ -p "$dir/fifo" ]
	result $? "a pipe stays one"
	json "$dir/piped.json" 'len(d["runs"]) == 1'
	"$specbench" $bare --drafter ngram --record "$dir/closed.jsonl" >&- 2>"$dir/err"
	[ $? = 2 ] && grep -q '^specbench: standard output: ' "$dir/err" && ! grep -qv '^{.*}$' "$dir/closed.jsonl"
	result $? "nothing that is printed lands in a file that is written while standard output is closed"
	if [ -c /dev/full ]; then
		expect 2 "/dev/full: cannot write" $bare --json /dev/full
		[ -c /dev/full ]
		result $? "a device stays one"
	fi
}

finish
