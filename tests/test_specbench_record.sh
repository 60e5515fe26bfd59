#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# specbench run --record: what is in the file, who reads it, and what an interrupt leaves behind.
. "${OCTAVO_SRCDIR:-.}/tests/support/specbench.sh"

# Records: replayed, they are the streams; of the first prompt that is what generate prints.
for batch in 1 3; do
	expect 0 "identical: yes" run --model "$model" --prompts "$dir/five.jsonl" --batch $batch --tokens 24 --seed 6 \
		--drafter mtp,lookahead,ngram+mtp -k 3,auto --tree 3,2 --record "$dir/record.jsonl" --record-hidden \
			--json "$dir/record.json"
	expect 0 "word 1" generate --model "$model" --prompt "word 1" --tokens 24 --seed 6 --drafter none
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
		text = b"".join(special[t].encode() if t in special else bytes([t - 3]) for t in streams["none", \
			None, "1"])
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
	damaged 1 "damaged.jsonl:3: hidden: $((2 * hidden - 3)) bytes, not the $((2 * hidden))" \
		'3s/"hidden":"..../"hidden":"/'
	damaged 1 "damaged.jsonl:3: hidden: not base 64" '3s/"hidden":"./"hidden":"?/'
else
	skipped=$((skipped + 1)); echo "skip records.py: no python3"
fi
expect 2 "--record-hidden needs --record" run --model "$dir/none" --record-hidden
expect 2 "$dir/no/such/record: cannot write" run --model "$dir/none" --record "$dir/no/such/record"
if [ -c /dev/full ]; then
	expect 2 "/dev/full: cannot write" run --model "$model" --prompts "$dir/five.jsonl" --tokens 2 --drafter \
		none --record /dev/full
fi

# An interrupt: the report of what was measured, the document and the record whole, and the end that Ctrl-C brings.
if command -v python3 >/dev/null; then
	: >"$dir/out"
	python3 - "$specbench" "$model" "$dir" 2>"$dir/err" <<-'END'
		import json, os, signal, subprocess, sys, time
		specbench, model, dir = sys.argv[1:]
		many = 3000
		with open(dir + "/many.jsonl", "w") as file:
		    for i in range(many):
		        file.write(json.dumps({"id": str(i), "category": "x", "text": "word %d" % i}) + "\n")
		record = dir + "/interrupted.jsonl"
		def begun():
		    if os.path.exists(record):
		        os.remove(record)
		    command = [specbench, "run", "--model", model, "--prompts", dir + "/many.jsonl", "--tokens", "64",
		               "--ignore-eos", "--drafter", "ngram", "--no-profile", "--record", record, "--json",
		               dir + "/interrupted.json"]
		    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
		                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
		    while p.poll() is None and not (os.path.exists(record) and os.path.getsize(record)):
		        time.sleep(0.02)
		    assert p.poll() is None
		    return p
		p = begun()
		p.send_signal(signal.SIGINT)
		out, err = p.communicate(timeout=300)
		assert p.returncode == -signal.SIGINT, p.returncode
		assert b"prompts: interrupted" in out and b"identical: yes" in out, out
		assert b"Ctrl-C again" in err, err
		d = json.load(open(dir + "/interrupted.json"))
		assert d["stopped_by"] == "interrupt" and 0 < d["runs"][0]["prompts"] < many
		lines = [json.loads(line) for line in open(record)]
		assert len(lines) == sum(r["steps"] for r in d["runs"])
		os.remove(dir + "/interrupted.json")
		p = begun()
		p.kill() # at once, whatever it is doing
		p.communicate()
		lines = [json.loads(line) for line in open(record)]
		assert lines and not os.path.exists(dir + "/interrupted.json")
	END
	result $? "interrupted, run reports what it has; killed, it leaves whole lines"
else
	skipped=$((skipped + 1)); echo "skip interrupts: no python3"
fi

finish
