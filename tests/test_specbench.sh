#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# specbench as its users meet it: each command with good and bad arguments. Checks the exit status (0 success,
# 1 a check failed, 2 bad usage or input) and that a message names what is wrong.
specbench=${OCTAVO_BUILDDIR:-.}/specbench
src=${OCTAVO_SRCDIR:-.}
model=$src/tests/data/tiny-ragged
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

# ---- the front door

expect 0 usage: --help
expect 0 "specbench " --version
expect 2 '"frobnicate"' frobnicate
expect 2 "compare is not available in this version" compare a.json b.json
expect 2 "(see specbench --help)" --frobnicate
for command in run generate eval kernels layer machine selftest; do
	expect 0 "usage: specbench $command" $command --help
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
expect 2 "cut/prompts.jsonl: cannot open: No such file or directory (--prompts FILE" --model "$dir/cut" --json "$dir/none.json"
unmeasured "prompts that are not there"
expect 2 model.safetensors run --model "$dir/cut" --prompts "$src/README.md"
expect 2 "$dir/bare" generate --model "$dir/bare" --prompt x
OCTAVO_MODEL=$dir/none; export OCTAVO_MODEL
expect 2 "$dir/none" generate --prompt x
unset OCTAVO_MODEL

# ---- generate

expect 0 "The first" generate --model "$model" --prompt "The first" --tokens 8 --seed 3
cp "$dir/out" "$dir/plain"
for drafter in "mtp -k 1" "mtp -k 3" "mtp -k auto" "mtp --tree 3,2,1" "mtp --tree dynamic:16,4,5" "ngram -k 4" "ngram+mtp" "lookahead -k 3" "none"; do
	# shellcheck disable=SC2086
	expect 0 "The first" generate --model "$model" --prompt "The first" --tokens 8 --seed 3 --drafter $drafter
	cmp "$dir/out" "$dir/plain" >"$dir/err" 2>&1
	result $? "the same text with drafter $drafter"
done
expect 0 "The first" generate --model "$model" --prompt "The first" --tokens 8 --seed 3 --weights copy
cmp "$dir/out" "$dir/plain" >"$dir/err" 2>&1
result $? "the same text with copied weights"
expect 2 'option --weights: "shared" is neither map nor copy' generate --model "$model" --prompt x --weights shared
dense=$src/tests/data/tiny-llama
expect 0 "The first" generate --model "$dense" --prompt "The first" --tokens 8 --seed 3
cp "$dir/out" "$dir/plain"
for drafter in "ngram -k 4" "model:$model -k 3" "ngram+model:$dense"; do
	# shellcheck disable=SC2086
	expect 0 "The first" generate --model "$dense" --prompt "The first" --tokens 8 --seed 3 --drafter $drafter
	cmp "$dir/out" "$dir/plain" >"$dir/err" 2>&1
	result $? "the same text of a dense model with drafter $drafter"
done
expect 2 "drafter model: $dir/bare: " generate --model "$model" --prompt x --drafter "model:$dir/bare"
expect 2 "drafter model: $dir/none is no directory" generate --model "$model" --prompt x --drafter "model:$dir/none"
expect 2 "FP8 KV cache" generate --model "$dense" --prompt x --kv fp8
expect 0 "" generate --model "$model" --prompt x --tokens 2 --temperature 0 --accept greedy --arithmetic w8a8 \
	--kv fp8
# A stop string ends the text before it, wherever it stands; what only begins one is not lost.
command -v python3 >/dev/null && for drafter in none "mtp -k 3" "ngram -k 8" "mtp --tree 3,2,1"; do
	: >"$dir/out"
	# shellcheck disable=SC2086
	python3 - "$specbench" "$model" $drafter 2>"$dir/err" <<-'END'
		import subprocess, sys
		def text(*stops):
		    command = [sys.argv[1], "generate", "--model", sys.argv[2], "--prompt", "The kernel", "--tokens", "40",
		               "--ignore-eos", "--seed", "5", "--drafter", *sys.argv[3:]]
		    for stop in stops:
		        command += ["--stop", stop]
		    done = subprocess.run(command, capture_output=True, check=True)
		    assert not stops or b"; stop string]" in done.stderr or text() == done.stdout[:-1]
		    return done.stdout[:-1]
		whole, prompt = text(), len("The kernel")
		letters = [i for i in range(prompt + 1, len(whole) - 1) if all(32 < b < 127 for b in whole[i:i + 2])]
		assert letters
		for i in letters:
		    stop = whole[i:i + 2].decode()
		    assert text("no such text", stop) == whole[:whole.index(stop.encode(), prompt)], stop
		assert text(chr(whole[-1]) + "x" if whole[-1] < 128 else "xy") == whole
	END
	result $? "generate --stop with drafter $drafter"
done
# Sampling parameters: from the command line, else from generation_config.json.
expect 0 "" generate --model "$model" --prompt x --tokens 2
grep -q "; temperature 0.6, top-p 0.95; " "$dir/err"; result $? "generate takes what the model recommends"
expect 0 "" generate --model "$model" --prompt x --tokens 2 --top-p 1 --temperature 0.7 --repetition-penalty 1.2 --frequency-penalty -0.5
grep -q "; temperature 0.7, repetition penalty 1.2, frequency penalty -0.5; " "$dir/err"; result $? "the command line comes first"
expect 0 "xeeeeee" generate --model "$model" --prompt x --tokens 6 --logit-bias 104=1000
expect 0 "xefefefef" generate --model "$model" --prompt x --tokens 8 --temperature 0 --logit-bias 104=1000,105=950 --frequency-penalty 100
expect 2 'token 260 is outside the vocabulary of 260' generate --model "$model" --prompt x --logit-bias 260=1
for bias in "" 1 1= =1 1=x 1=2, 1=2,1=3 -1=2 1=1001 1=inf 1=nan 99999999999=1; do
	expect 2 'each token once, V from -1000 to 1000 or -inf' generate --model "$dir/none" --prompt x --logit-bias "$bias"
done
expect 2 '--repetition-penalty: "0"' generate --model "$dir/none" --prompt x --repetition-penalty 0
expect 2 '--presence-penalty: "101"' generate --model "$dir/none" --prompt x --presence-penalty 101
expect 2 "--logit-bias does not apply" eval --logit-bias 1=1
expect 2 'option --stop: "" is not UTF-8 text' generate --model "$dir/none" --prompt x --stop a --stop ""
expect 2 'is not UTF-8 text that is not empty' generate --model "$dir/none" --prompt x --stop "$(printf 'a\377b')"
expect 2 "--prompt TEXT is required" generate --model "$model"
expect 2 "--prompt: the text is empty" generate --model "$model" --prompt ""
expect 2 "UTF-8" generate --model "$model" --prompt "$(printf 'a\377b')"
expect 2 context generate --model "$model" --prompt "$(head -c 5000 /dev/zero | tr '\0' x)"
expect 2 '"wizard"' generate --model "$model" --prompt x --drafter wizard
expect 2 '"wizard"' generate --model "$dir/none" --prompt x --drafter mtp+wizard
expect 2 '"none+mtp"' generate --model "$dir/none" --prompt x --drafter none+mtp
expect 2 '"mtp+mtp"' generate --model "$dir/none" --prompt x --drafter mtp+mtp
expect 2 "drafters/medusa is no directory (medusa:DIR names another)" generate --model "$model" --prompt x --drafter medusa
expect 2 "option --drafter mtp: takes no argument" generate --model "$dir/none" --prompt x --drafter "mtp:$dir"
expect 2 "option --drafter hydra: needs a directory" run --model "$dir/none" --drafter "ngram,hydra:"
expect 2 "tree: k must be 0" generate --model "$model" --prompt x --drafter mtp -k 2 --tree 2,1
for tree in "" 0 2, ,2 2,x 1,1,1,1,1,1,1,1,1; do
	expect 2 "is not a comma list of 1 to 8 widths" generate --model "$dir/none" --prompt x --tree "$tree"
done
for tree in 64 8,8 99999999999999999999; do
	expect 2 "has more than 64 rows" generate --model "$dir/none" --prompt x --tree "$tree"
done
expect 0 "x" generate --model "$model" --prompt x --tokens 4 --drafter mtp --tree 63
expect 0 "x" generate --model "$model" --prompt x --tokens 4 --drafter mtp --tree 4,2 --confidence 0.01,0.001,0.5
for levels in "" , 2 0.5, 0.5,,0.5 0.5,0.5,1.5 0.1,0.1,0.1,0.1 0.5x; do
	expect 2 "is not P[,PATH[,MASS]]" generate --model "$dir/none" --prompt x --confidence "$levels"
done
for tree in dynamic: dynamic:8 dynamic:8,2 dynamic:8,2, dynamic:8,2,0 dynamic:8,2,3,4 dynamic:65,2,2 dynamic:8,2,3x; do
	expect 2 "is not dynamic:ROWS,TOPK,DEPTH" generate --model "$dir/none" --prompt x --tree "$tree"
done
expect 2 "exceeds the 64 rows" generate --model "$model" --prompt x --drafter mtp --tree dynamic:8,10,8
expect 2 "a depth of 1 to 8" generate --model "$model" --prompt x --drafter mtp --tree dynamic:8,2,9
expect 2 "which would change the law" generate --model "$model" --prompt x --drafter mtp --tree dynamic:8,2,3 \
	--accept multiround
expect 2 '"lossy"' generate --model "$model" --prompt x --accept lossy
expect 2 '"w4a4"' generate --model "$model" --prompt x --arithmetic w4a4
expect 2 "temperature" generate --model "$model" --prompt x --accept greedy --temperature 0.5
expect 2 "mtp" generate --model "$src/tests/data/tiny-v2" --prompt x --drafter mtp
expect 2 'option -k: "9"' generate --model "$model" --prompt x -k 9
expect 2 'option -k: "0"' generate --model "$model" --prompt x -k 0
expect 2 'option --temperature: "-1"' generate --model "$model" --prompt x --temperature -1
expect 2 'option --temperature: "nan"' generate --model "$model" --prompt x --temperature nan
expect 2 'option --top-p: "2"' generate --model "$model" --prompt x --top-p 2
expect 2 'option --min-p: "1"' generate --model "$model" --prompt x --min-p 1
expect 2 'option --tokens: "many"' generate --model "$model" --prompt x --tokens many
expect 2 'option --threads: "0"' generate --model "$model" --prompt x --threads 0
expect 2 'option -k: "2,2"' generate --model "$model" --prompt x -k2,2
expect 0 "x" generate --model "$model" --prompt x --tokens 4 -k2
expect 0 "x" generate --model "$model" --prompt x --tokens 400 --context 12
grep -q "11 new tokens.*context full" "$dir/err"
result $? "--context 12: one prompt token and eleven new ones"
expect 2 "max_context" generate --model "$model" --prompt x --context 1000000
expect 2 'option --context: "0" is not 1 to 1000000000 tokens' generate --model "$model" --prompt x --context 0
# What needs no model to be refused is refused before it is opened.
expect 2 '"mtp,ngram"' generate --model "$dir/none" --prompt x --drafter mtp,ngram
expect 2 "greedy needs --temperature 0" generate --model "$dir/none" --prompt x --accept greedy
expect 2 'option --seed: "-1"' generate --model "$model" --prompt x --seed -1

# ---- run

cat >"$dir/prompts.jsonl" <<'END'
{"id": "one", "category": "prose", "text": "The kernel reads"}

{"id": "two", "category": "code", "text": "int main(void)"}
END
expect 0 "identical: yes" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 --threads 2 -k 1,3 \
	--temperature 0,0.8 --json "$dir/run.json"
json "$dir/run.json" 'all(r["identical"] is True and r["prompts"] == 2 for r in d["runs"])'
json "$dir/run.json" 'len(d["runs"]) == 26 and sorted({r["drafter"] for r in d["runs"]}) == [
	"eagle", "lookahead", "mtp", "ngram", "ngram+mtp", "none", "parallel"]'
json "$dir/run.json" 'all(p["ns"] >= 0 for r in d["runs"] for p in r["phases"].values() if isinstance(p, dict))'
json "$dir/run.json" 'd["counters"]["tier"] in ("hardware", "software", "time") and d["machine"]["threads"] == 2'
json "$dir/run.json" 'all(c["available"] or c["reason"] for c in d["counters"]["sources"].values())'
expect 0 "identical: yes" run --model "$model" --prompts "$dir/prompts.jsonl" --limit 1 --tokens 4 --no-profile \
	--drafter ngram --arithmetic w8a8 --kv fp8 --weights copy --accept greedy --temperature 0 --json "$dir/bare.json"
grep -q "w8a8, FP8 KV cache, at temperature 0" "$dir/out"
result $? "the report names the FP8 cache"
json "$dir/bare.json" 'd["settings"]["weights"] == "copy" and d["settings"]["kv"] == "fp8" and all(r["kv"] == "fp8" for r in d["runs"])'
json "$dir/bare.json" 'all(r["phases"] is None and r["prompts"] == 1 for r in d["runs"])'
json "$dir/run.json" 'd["settings"]["threads"] == 2 and d["settings"]["tokens"] == 12 and d["settings"]["seed"] == 0'
json "$dir/run.json" 'd["settings"]["accept"] == "match" and d["settings"]["kernels"] == d["machine"]["isa_chosen"]'
json "$dir/run.json" '{r["temperature"] for r in d["runs"]} == {0, 0.8}'
# Three of eight experts for one token; for the four rows of a step between three and eight.
json "$dir/run.json" 'all(abs(r["experts_per_step_and_layer"] - 3) < 1e-6 for r in d["runs"] if r["drafter"] == "none")'
json "$dir/run.json" 'all(abs(r["experts_formula"] - 3) < 1e-6 for r in d["runs"] if r["drafter"] == "none")'
json "$dir/run.json" 'all(r["speedup_by_category"] and min(r["speedup_by_category"].values()) <= r["speedup_geometric_mean"] * 1.000001 for r in d["runs"])'
json "$dir/run.json" 'all(r["speedup_geometric_mean"] <= max(r["speedup_by_category"].values()) * 1.000001 for r in d["runs"])'
json "$dir/run.json" 'all(3 <= r["experts_per_step_and_layer"] + 1e-6 and r["experts_per_step_and_layer"] <= 9 for r in d["runs"])'
json "$dir/run.json" 'all(r["speedup_ci"] is None for r in d["runs"])'
expect 0 "1 prompt, up to 2 tokens" run --model "$model" --prompts "$dir/prompts.jsonl" --limit 1 --tokens 2 --drafter none
for i in 1 2 3 4 5; do echo "{\"id\": \"$i\", \"category\": \"x\", \"text\": \"word $i\"}"; done >"$dir/five.jsonl"
expect 0 ".." run --model "$model" --prompts "$dir/five.jsonl" --tokens 8 --drafter ngram --json "$dir/five.json"
json "$dir/five.json" 'all(r["speedup_ci"][0] <= r["speedup"] <= r["speedup_ci"][1] for r in d["runs"])'
expect 0 "identical, loops" run --model "$src/tests/data/tiny-v2" --prompts "$dir/prompts.jsonl" --tokens 60 --ignore-eos \
	--drafter ngram --temperature 0 --json "$dir/loops.json"
json "$dir/loops.json" 'all(r["loops"] and r["distinct4"] < 0.7 for r in d["runs"])'
expect 0 "identical: yes" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 30 --stop e --stop "$(printf '\303\251')" \
	--drafter mtp,ngram -k 2,8 --json "$dir/stop.json"
json "$dir/stop.json" 'd["settings"]["stop"] == ["e", "é"] and all(r["identical"] for r in d["runs"])'
expect 0 "top-p 0.95, repetition penalty 1.3, presence penalty 0.5, biased tokens 2" run --model "$model" --prompts "$dir/prompts.jsonl" \
	--tokens 30 --ignore-eos --drafter mtp,ngram,ngram+mtp -k 2,auto --repetition-penalty 1.3 --presence-penalty 0.5 --logit-bias 100=9.5,101=-inf \
	--json "$dir/bent.json"
json "$dir/bent.json" 'd["settings"]["logit_bias"] == {"100": 9.5, "101": "-inf"} and d["settings"]["repetition_penalty"] == 1.3'
json "$dir/bent.json" 'd["settings"]["top_p"] == 0.95 and all(r["identical"] and r["temperature"] == 0.6 for r in d["runs"])'
# Side by side: the tokens of one at a time, whoever joins and leaves.
expect 0 "2 side by side are" run --model "$model" --prompts "$dir/five.jsonl" --batch 2 --tokens 24 --temperature 0,0.8 \
	--drafter mtp,ngram,ngram+mtp -k 2,auto --tree 2,2 --json "$dir/batch.json"
grep -q "identical: yes" "$dir/out"; result $? "a batch of 2 emits the tokens of one prompt at a time"
json "$dir/batch.json" 'd["settings"]["batch"] == 2 and len(d["runs"]) == 2 * (1 + 3 * 3)'
json "$dir/batch.json" 'all(r["batch"] == 2 and r["prompts"] == 5 and r["identical"] is True and r["alone_tokens_per_s"] > 0 for r in d["runs"])'
json "$dir/batch.json" 'all(len({r["tokens"] for r in d["runs"] if r["temperature"] == t}) == 1 for t in (0, 0.8))'
json "$dir/batch.json" 'all(3 < r["experts_per_step_and_layer"] <= 6 for r in d["runs"] if r["drafter"] == "none")'
expect 0 "5 prompts, 16 side by side" run --model "$model" --prompts "$dir/five.jsonl" --batch 16 --tokens 3 --drafter mtp -k 3 --no-profile
expect 2 'option --batch: "0"' run --model "$dir/none" --batch 0
expect 2 "--layer looks at single sequences" run --model "$dir/none" --batch 2 --layer x
expect 2 "--batch does not apply" generate --batch 2
if [ "$(awk '/MemAvailable/ { print ($2 < 60e6) }' /proc/meminfo 2>/dev/null)" = 1 ]; then
	expect 2 "option --batch: 4096 sequences" run --model "$src/bench/model" --prompts "$dir/five.jsonl" --batch 4096 --tree 63
else
	skipped=$((skipped + 1)); echo "skip a batch that the memory does not hold: there is a lot of it"
fi

# Records: replayed, they are the streams; of the first prompt that is what generate prints.
for batch in 1 3; do
	expect 0 "identical: yes" run --model "$model" --prompts "$dir/five.jsonl" --batch $batch --tokens 24 --seed 5 \
		--drafter mtp,lookahead,ngram+mtp -k 3,auto --tree 3,2 --record "$dir/record.jsonl" --record-hidden --json "$dir/record.json"
	expect 0 "word 1" generate --model "$model" --prompt "word 1" --tokens 24 --seed 5 --drafter none
	command -v python3 >/dev/null || continue
	python3 - "$dir/record.jsonl" "$dir/record.json" "$dir/out" $batch 2>"$dir/err" <<-'END'
		import base64, json, struct, sys
		def fnv(tokens):
		    h = 0xcbf29ce484222325
		    for b in b"".join(struct.pack("<i", t) for t in tokens):
		        h = (h ^ b) * 0x100000001b3 % 2**64
		    return "%016x" % h
		streams, states, kept, lines = {}, {}, 0, 0
		for line in open(sys.argv[1]):
		    r = json.loads(line)
		    key = r["drafter"], r["k"], r["prompt"]
		    assert ("prompt_tokens" in r) == (key not in streams)
		    tokens = streams.setdefault(key, r.get("prompt_tokens", [])[:])
		    assert r["position"] == len(tokens) and r["context"] == fnv(tokens)
		    assert r["batch"] == int(sys.argv[4]) and r["rule"] == "match" and r["temperature"] == 0.6
		    draft, parents, path, choice = [None] + r["draft"], [None] + r["parents"], r["path"], r["choice"]
		    assert len(draft) == len(parents) and all(0 <= p < i for i, p in enumerate(parents) if i)
		    assert len(path) == r["accepted"] == len(choice) - 1 and 1 <= r["emitted"] <= len(choice)
		    for row, above, token in zip(path, [0] + path, choice):
		        assert parents[row] == above and draft[row] == token
		    last = path[-1] if path else 0
		    assert choice[-1] not in [t for t, p in zip(draft[1:], parents[1:]) if p == last]
		    state = base64.b64decode(r["hidden"], validate=True)
		    assert len(state) == 2 * 136 and any(state)
		    assert states.setdefault((r["prompt"], r["context"]), state) == state  # whoever drafted
		    tokens += choice[:r["emitted"]]
		    kept, lines = kept + len(path), lines + 1
		d = json.load(open(sys.argv[2]))
		assert lines == sum(r["steps"] for r in d["runs"]) and kept > 0, (lines, kept)
		for r in d["runs"]:
		    mine = {p: s for (name, k, p), s in streams.items() if name == r["drafter"] and k == r["shape"]}
		    assert len(mine) == 5 and all(s == streams["none", None, p] for p, s in mine.items())
		special = {0: "<｜begin▁of▁sentence｜>", 1: "", 2: "<｜▁pad▁｜>", 259: "<｜User｜>"}  # 1 is the end
		text = b"".join(special[t].encode() if t in special else bytes([t - 3]) for t in streams["none", None, "1"])
		assert text.removeprefix(special[0].encode()) == open(sys.argv[3], "rb").read()[:-1], text
	END
	result $? "the record of batch $batch is the streams, prompt by prompt"
done

# damaged STATUS WORDS SED-SCRIPT: what the training's reader of records says about the record above, edited so.
damaged()
{
	sed "$3" "$dir/record.jsonl" >"$dir/damaged.jsonl"
	PYTHONDONTWRITEBYTECODE=1 python3 "$src/bench/model/train/records.py" --hidden "$hidden" "$dir/damaged.jsonl" \
		>"$dir/out" 2>"$dir/err"
	got=$?
	[ $got = "$1" ] && cat "$dir/out" "$dir/err" | grep -qF -e "$2"
	result $? "records.py: $2"
}
if command -v python3 >/dev/null; then
	hidden=$(sed -n 's/.*"hidden_size": *\([0-9]*\).*/\1/p' "$model/config.json")
	damaged 0 "none: 5 streams, 120 tokens emitted, 120 states" ""
	damaged 1 "damaged.jsonl:3: not JSON" '3s/$/x/'
	damaged 1 "damaged.jsonl:3: choice: missing" '3s/"choice"/"chosen"/'
	damaged 1 "damaged.jsonl:3: path, choice and accepted" '3s/"accepted":/&9/'
	damaged 1 "damaged.jsonl:1: prompt 1: its first line, with prompt_tokens" '1s/"prompt_tokens"/"tokens"/'
	damaged 1 "damaged.jsonl:3: context: ?" '3s/"context":"./"context":"?/'
	damaged 1 "damaged.jsonl:3: position: 1" '3s/"position":/&1/'
	damaged 1 "damaged.jsonl:3: hidden: $((2 * hidden - 3)) bytes, not the $((2 * hidden))" '3s/"hidden":"..../"hidden":"/'
	damaged 1 "damaged.jsonl:3: hidden: not base 64" '3s/"hidden":"./"hidden":"?/'
else
	skipped=$((skipped + 1)); echo "skip records.py: no python3"
fi
expect 2 "--record-hidden needs --record" run --model "$dir/none" --record-hidden
expect 2 "$dir/no/such/record: cannot write" run --model "$dir/none" --record "$dir/no/such/record"
if [ -c /dev/full ]; then
	expect 2 "/dev/full: cannot write" run --model "$model" --prompts "$dir/five.jsonl" --tokens 2 --drafter none --record /dev/full
fi
for rule in rejection block multiround; do
	expect 0 "lossless: in law" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 -k 2 --accept $rule \
		--temperature 0,0.8 --json "$dir/law.json"
	json "$dir/law.json" 'all(r["identical"] is (True if r["temperature"] == 0 or r["drafter"] == "none" else None) for r in d["runs"])'
	json "$dir/law.json" '{r["lossless"] for r in d["runs"]} == {"in tokens", "in law"} and not any(r["lossy"] for r in d["runs"])'
done
expect 0 "LOSSY: the rule" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 --accept typical --json "$dir/lossy.json"
json "$dir/lossy.json" 'all(r["lossy"] is (r["drafter"] != "none") for r in d["runs"])'
expect 0 "" generate --model "$model" --prompt x --tokens 4 --accept typical
grep -q "accept typical (LOSSY)" "$dir/err"; result $? "generate calls typical lossy"
for rule in candidates candidates: candidates:0 candidates:8, candidates:8,0 candidates:8,1.5 candidates:8,x candidates:x; do
	expect 2 "\"$rule\" is not candidates:K[,P]" generate --model "$dir/none" --prompt x --accept "$rule"
done
expect 0 "(LOSSY)" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 -k 1 --accept candidates:4,0.01 \
	--temperature 0,0.8 --json "$dir/few.json"
expect 0 "LOSSY: the rule" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 -k 1 --accept candidates:4,0.01 \
	--temperature 0
json "$dir/few.json" 'all(r["lossy"] is (r["drafter"] != "none") and r["lossless"] == ("no" if r["lossy"] else "in tokens") for r in d["runs"])'
json "$dir/few.json" 'all((r["parting"] is not None and 0 < r["shortlist"]["full_steps"] < 1 and r["accept"] == "candidates:4,0.01") if r["lossy"] else r["parting"] is None and r["shortlist"] is None for r in d["runs"])'
json "$dir/few.json" 'any(r["lossy"] and r["parting"]["share"] > 0 for r in d["runs"]) and not any("ngram" == r["drafter"] for r in d["runs"])'
expect 0 "" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 -k 2 --drafter mtp,ngram+mtp \
	--accept candidates:1000000 --temperature 0,0.8 --json "$dir/all.json"
json "$dir/all.json" 'all(r["parting"] == {"prompts": 0, "share": 0, "tokens": r["tokens"]} for r in d["runs"] if r["lossy"])'
expect 2 "needs a drafter with laws" run --model "$model" --prompts "$dir/prompts.jsonl" --drafter ngram --accept candidates:4
expect 2 "no logit bias" generate --model "$model" --prompt x --accept candidates:4 --presence-penalty 1
expect 0 "" generate --model "$model" --prompt x --tokens 4 --drafter mtp --accept candidates:4
grep -q "accept candidates:4,0.5 (LOSSY), all logits in" "$dir/err"; result $? "generate calls candidates lossy"
expect 2 "$dir/none.jsonl" run --model "$model" --prompts "$dir/none.jsonl"
expect 2 "$model/prompts.jsonl" run --model "$model"
expect 2 '"wizard"' run --model "$model" --prompts "$dir/prompts.jsonl" --drafter none,wizard
expect 0 "identical: yes" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 12 --drafter mtp,ngram+mtp -k 2,auto \
	--tree 3,2,1 --temperature 0.8 --json "$dir/tree.json"
json "$dir/tree.json" '[(r["drafter"], r["shape"]) for r in d["runs"]] == [("none", None)] + [(m, s) for m in ("mtp", "ngram+mtp") for s in ("3,2,1", "2", "auto")]'
json "$dir/tree.json" 'all(r["speedup_predicted"] > 0 and r["prediction"]["measured"] > 0 and r["prediction"]["curve"] >= 1 for r in d["runs"] if r["shape"])'
expect 2 "--tree" run --model "$dir/none" --tree 9,9
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
: >"$dir/empty"
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
for drafter in medusa eagle:/no/such "ngram,model:$dir" "ngram+hydra:$dir/empty" "mtp,medusa:$src/tests/data/tiny-ragged/drafters/eagle"; do
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

# ---- eval

expect 0 "100 tokens scored (100 bytes of text)" eval --model "$model" --text "$src/LICENSE" --tokens 100 \
	--json "$dir/eval.json"
json "$dir/eval.json" '[(e["arithmetic"], e["kv"]) for e in d["eval"]] == [("w8a16", "bf16"), ("w8a16", "fp8"),
	("w8a8", "bf16"), ("w8a8", "fp8")]'
json "$dir/eval.json" 'all(e["tokens"] == 100 and e["kl_bf16"] is None for e in d["eval"])'
# A model of 260 tokens that has learnt nothing cannot be far from log 260.
json "$dir/eval.json" 'all(3 < e["nats_per_token"] < 12 for e in d["eval"])'
expect 0 w8a8 eval --model "$model" --text "$src/LICENSE" --tokens 600 --arithmetic w8a8 --kv bf16 --json "$dir/eval8.json"
json "$dir/eval8.json" 'len(d["eval"]) == 1 and d["eval"][0]["windows"] == 2 and d["eval"][0]["tokens"] == 600'
expect 0 "fp8   not run: " eval --model "$dense" --text "$src/LICENSE" --tokens 40 --json "$dir/dense.json"
json "$dir/dense.json" '[e["kv"] for e in d["eval"]] == ["bf16", "bf16"]'
expect 2 "$dir/none.txt" eval --model "$model" --text "$dir/none.txt"
expect 2 "$model/eval/heldout.txt" eval --model "$model"
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
\"logits\":{\"dtype\":\"F16\",\"shape\":[$2,$3],\"data_offsets\":[$((($1 + $2) * 4)),$((($1 + $2) * 4 + $2 * $3 * 2))]}}"
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

# ---- kernels

small="--pool 1 --repeats 2 --threads 2"
# shellcheck disable=SC2086
{
	expect 0 "64x256" kernels --shape 64,256 --rows 1,3 $small --json "$dir/kernels.json"
	json "$dir/kernels.json" 'all(k["ns"]["min"] <= k["ns"]["median"] <= k["ns"]["max"] for k in d["kernels"])'
	json "$dir/kernels.json" '{(k["m"], k["n"], k["k"]) for k in d["kernels"]} == {(1, 64, 256), (3, 64, 256)}'
	json "$dir/kernels.json" 'all(k["r"] == 1 for k in d["kernels"] if k["m"] == 1)'
	json "$dir/kernels.json" 'd["machine"]["read_gbs"] > 0 and d["machine"]["peak_gflops"] > 0'
	for case in gemm:97,333 gemm_bf16:33,77 gemm_t:256,72 moe:40,136 mla_up:256,72 attention:600,2 gqa:600,16 norm:1,333 \
		swiglu:1,333 quantise:1,333 decode:1,333 encode:1,333; do
		expect 0 "${case%:*} " kernels --op "${case%:*}" --shape "${case#*:}" --rows 1,2 $small
	done
	expect 0 " ref " kernels --isa ref --shape 32,64 --rows 2 $small
	expect 2 '"sse9"' kernels --isa sse9 --shape 32,64 $small
}
expect 2 '"frobnicate" (known: gemm, ' kernels --op frobnicate
expect 2 '"mkl" (known: bf16dot, onednn, xsmm)' kernels --backend mkl
expect 2 "--backend and --isa exclude each other" kernels --backend onednn --isa ref
expect 2 "the backends have no norm" kernels --backend onednn --op norm
expect 2 "--peers and --op exclude each other" kernels --peers --op gemm
expect 2 "--peers and --backend exclude each other" kernels --peers --backend xsmm
for backend in bf16dot onednn xsmm; do
	if "$specbench" kernels --backend $backend --shape 16,16 --rows 1 --pool 1 --repeats 1 >"$dir/out" 2>"$dir/err"; then
		expect 0 " $backend " kernels --backend $backend --shape 200,300 --rows 1,5 --pool 1 --repeats 1 --json "$dir/b.json"
		json "$dir/b.json" '{(k["backend"], k["isa"] is None) for k in d["kernels"]} == {("native", False), ("'$backend'", True)}'
		expect 0 "backend $backend" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 4 --drafter none \
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
# What is said of a divergence. Octavo's kernels make none, so a module in place of xsmm's is wrong wherever it runs, and
# bf16dot from 8 rows on, as long as the bundled model and that kernel are what they are.
of='(x := d["runs"][1]["divergence"]) and (e := x["explanation"]) and (c := e["choice"]) and '
told() { # FILE BACKEND: the figures fit together; of temperature 0, where the best logit is chosen
	json "$1" '[r["identical"] for r in d["runs"]] == [True, False] and d["runs"][0]["divergence"] is None'
	json "$1" "$of"'x["plain"] != x["got"] and x["backend"] == "'"$2"'" and x["position"] - 1 == c["position"] >= e["position"]'
	json "$1" "$of"'e["alone"] != e["together"] and e["largest"] > 0 and 0 <= e["row"] < e["rows"] and c["row"] < c["rows"]'
	json "$1" "$of"'c["plain"][0] > c["got"][0] and c["plain"][1] < c["got"][1] and c["logits"] > 0'
	json "$1" "$of"'0 <= x["margin"] <= c["plain"][0] - c["got"][0] + 1e-6'
}
wrong=${OCTAVO_BUILDDIR:-.}/tests/wrong/.libs
if [ -f "$wrong/octavo-xsmm.so" ]; then
	modules=${OCTAVO_MODULE_PATH-}
	OCTAVO_MODULE_PATH=$wrong; export OCTAVO_MODULE_PATH
	expect 1 "" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 60 --ignore-eos --drafter ngram -k 3 \
		--temperature 0 --backend xsmm --json "$dir/left.json"
	grep -q "layer 0, key-value projection, element 0 of 88" "$dir/out" && grep -q "Likely cause: backend xsmm," "$dir/out" &&
		grep -q "identical: NO" "$dir/out"
	result $? "a divergence is told with its operation and its cause"
	told "$dir/left.json" xsmm
	json "$dir/left.json" "$of"'(e["layer"], e["operation"], e["element"]) == (0, "key-value projection", 0) and e["row"] > 0'
	OCTAVO_MODULE_PATH=$modules
else
	skipped=$((skipped + 1)); echo "skip what is told of a divergence: no modules were built"
fi
grep '"changelog-04"' "$src/bench/model/prompts.jsonl" >"$dir/one.jsonl"
"$specbench" run --model "$src/bench/model" --prompts "$dir/one.jsonl" --tokens 48 --drafter ngram -k 8 --temperature 0 \
	--no-profile --backend bf16dot --json "$dir/dot.json" >"$dir/out" 2>"$dir/err"
case $? in
0) skipped=$((skipped + 1)); echo "skip what is told of bf16dot's divergence: on this prompt there is none any more" ;;
1)
	grep -q "left plain decoding on prompt changelog-04" "$dir/out" && grep -q "Likely cause: backend bf16dot," "$dir/out"
	result $? "bf16dot's divergence is told with its cause"
	told "$dir/dot.json" bf16dot ;;
*)
	grep -q "option --backend: backend bf16dot: " "$dir/err"
	result $? "bf16dot is refused with the reason" ;;
esac
expect 0 "octavo" kernels --peers --shape 64,96 --rows 1,3 --pool 1 --repeats 2 --json "$dir/b.json"
json "$dir/b.json" '{k["backend"] for k in d["kernels"]} >= {"native"} and all(k["time_to_native"]["median"] > 0 for k in d["kernels"])'
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
expect 2 "--isa does not apply to --op emulate" kernels --op emulate --isa ref
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
	(TMPDIR=$dir; export TMPDIR; exec "$specbench" layer $few --union overlap:1 --json "$dir/layer.json" >"$dir/out" \
		2>"$dir/err")
	result $? "[0] specbench layer $few"
	ls -d "$dir"/specbench-layer-* >/dev/null 2>&1
	[ $? != 0 ]
	result $? "layer leaves nothing behind"
	# Of the second row's experts all are exchanged for the first one's.
	json "$dir/layer.json" '[r["m"] for r in d["layer"]["rows"]] == [1, 2]'
	json "$dir/layer.json" 'all(r["experts"]["union"] == 8 == r["experts"]["union_formula"] for r in d["layer"]["rows"])'
	json "$dir/layer.json" 'all(r["experts"]["bytes"] == 9 * 44050944 + 16 * 7168 * 2 for r in d["layer"]["rows"])'
	json "$dir/layer.json" 'd["layer"]["read_gbs"] > 0 and d["layer"]["experts_in_memory"] == 16'
	expect 0 "if a forward of M rows cost r(M) of" run --model "$model" --prompts "$dir/prompts.jsonl" --tokens 8 \
		--drafter mtp -k 1 --layer "$dir/layer.json" --json "$dir/outlook.json"
	json "$dir/outlook.json" 'd["runs"][0]["full_size"] is None and d["settings"]["layer"]'
	json "$dir/outlook.json" '0 < d["runs"][1]["full_size"]["speedup"] < d["runs"][1]["full_size"]["speedup_drafts_free"]'
else
	skipped=$((skipped + 1)); echo "skip layer: $(cat "$dir/err")"
fi
expect 2 "$dir/none.json" run --model "$model" --prompts "$dir/prompts.jsonl" --layer "$dir/none.json"
expect 2 "$dir/empty:1: " run --model "$model" --prompts "$dir/prompts.jsonl" --layer "$dir/empty"
expect 2 "$dir: cannot read: Is a directory" run --model "$model" --prompts "$dir/prompts.jsonl" --layer "$dir"
expect 2 "no times of a layer" run --model "$model" --prompts "$dir/prompts.jsonl" --layer "$dir/kernels.json"

# ---- machine, selftest

expect 0 "GB/s read bandwidth" machine --pool 8 --threads 2 --json "$dir/machine.json"
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

cp "$dir/prompts.jsonl" "$dir/with/prompts.jsonl"
(cd "$dir" && timeout 300 "$(cd "$OLDPWD" && cd "$(dirname "$specbench")" && pwd)/specbench" --model "$dir/with" \
	--tokens 4 --threads 2 --seconds 1 >"$dir/out" 2>"$dir/err") && grep -q "identical: yes" "$dir/out"
result $? "[0] specbench, in a directory of its own"
json "$dir/specbench.json" 'd["kernels"] and d["runs"] and d["machine"]["read_gbs"] > 0'

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
