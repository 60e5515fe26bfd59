#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# specbench generate: text, stop strings, sampling, drafters and trees, and what is refused.
. "${OCTAVO_SRCDIR:-.}/tests/support/specbench.sh"

mkdir "$dir/bare"
cp "$model/config.json" "$dir/bare"
expect 0 "The first" generate --model "$model" --prompt "The first" --tokens 8 --seed 3
cp "$dir/out" "$dir/plain"
for drafter in "mtp -k 1" "mtp -k 3" "mtp -k auto" "mtp --tree 3,2,1" "mtp --tree dynamic:16,4,5" "ngram -k 4" \
	"ngram+mtp" "lookahead -k 3" "none"; do
	# shellcheck disable=SC2086
	expect 0 "The first" generate --model "$model" --prompt "The first" --tokens 8 --seed 3 --drafter $drafter
	cmp "$dir/out" "$dir/plain" >"$dir/err" 2>&1
	result $? "the same text with drafter $drafter"
done
expect 0 "The first" generate --model "$model" --prompt "The first" --tokens 8 --seed 3 --weights copy
cmp "$dir/out" "$dir/plain" >"$dir/err" 2>&1
result $? "the same text with copied weights"
expect 2 'option --weights: "shared" is neither map nor copy' generate --model "$model" --prompt x --weights shared
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
		    command = [sys.argv[1], "generate", "--model", sys.argv[2], "--prompt", "The kernel", \
			"--tokens", "40",
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
expect 0 "" generate --model "$model" --prompt x --tokens 2 --top-p 1 --temperature 0.7 --repetition-penalty 1.2 \
	--frequency-penalty -0.5
grep -q "; temperature 0.7, repetition penalty 1.2, frequency penalty -0.5; " "$dir/err"; result $? \
	"the command line comes first"
expect 0 "xeeeeee" generate --model "$model" --prompt x --tokens 6 --logit-bias 104=1000
expect 0 "xefefefef" generate --model "$model" --prompt x --tokens 8 --temperature 0 --logit-bias 104=1000,105=950 \
	--frequency-penalty 100
expect 2 'token 260 is outside the vocabulary of 260' generate --model "$model" --prompt x --logit-bias 260=1
for bias in "" 1 1= =1 1=x 1=2, 1=2,1=3 -1=2 1=1001 1=inf 1=nan 99999999999=1; do
	expect 2 'each token once, V from -1000 to 1000 or -inf' generate --model "$dir/none" --prompt x \
		--logit-bias "$bias"
done
expect 2 '--repetition-penalty: "0"' generate --model "$dir/none" --prompt x --repetition-penalty 0
expect 2 '--presence-penalty: "101"' generate --model "$dir/none" --prompt x --presence-penalty 101
expect 2 "--logit-bias does not apply" eval --logit-bias 1=1
expect 2 'option --stop: "" is not UTF-8 text' generate --model "$dir/none" --prompt x --stop a --stop ""
expect 2 'is not UTF-8 text that is not empty' generate --model "$dir/none" --prompt x --stop "$(printf 'a\377b')"
"$specbench" generate --model "$model" --prompt x --tokens 2 >"$dir/out" 2>&1 </dev/null
[ "$(grep -c '^\[.*token limit\]$' "$dir/out")" = 1 ]
result $? "the line of figures is a line of its own"
expect 2 "--prompt TEXT is required" generate --model "$model"
expect 2 "--prompt: the text is empty" generate --model "$model" --prompt ""
expect 2 "UTF-8" generate --model "$model" --prompt "$(printf 'a\377b')"
expect 2 context generate --model "$model" --prompt "$(head -c 5000 /dev/zero | tr '\0' x)"
expect 2 '"wizard"' generate --model "$model" --prompt x --drafter wizard
expect 2 '"wizard"' generate --model "$dir/none" --prompt x --drafter mtp+wizard
expect 2 '"none+mtp"' generate --model "$dir/none" --prompt x --drafter none+mtp
expect 2 '"mtp+mtp"' generate --model "$dir/none" --prompt x --drafter mtp+mtp
expect 2 "drafters/medusa is no directory (medusa:DIR names another)" generate --model "$model" --prompt x --drafter \
	medusa
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
expect 0 "x" generate --model "$model" --prompt x --tokens 4 --drafter mtp --draft-vocab 40
expect 2 "draft_vocab: 1000000 is not 0 (all tokens) or 2 to" generate --model "$model" --prompt x --draft-vocab 1000000
for n in "" 0 1 -1 x 2x 9999999999; do
	expect 2 "is not 2 to the model's vocabulary" generate --model "$dir/none" --prompt x --draft-vocab "$n"
done
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
expect 2 'temperature: 1e-30 is below 0.001' generate --model "$model" --prompt x --temperature 1e-30
expect 2 'option --temperature: 1e-50 is too small to be told from 0' generate --model "$model" --prompt x \
	--temperature 1e-50
expect 2 'option --top-p: 1e-50 is too small' generate --model "$model" --prompt x --top-p 1e-50
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

finish
