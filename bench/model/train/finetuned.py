"""Put the figures of a fine-tuning on records side by side, before and after: eval/finetuned.json, which the card quotes.

    finetuned.py --run DIR... --evaluated BEFORE AFTER --decoded BEFORE AFTER --out FILE

DIR: of train_drafters.py --records, all on the same files. --evaluated: what evaluate_drafters.py wrote; --decoded: what
specbench run --json wrote, of the same prompts and settings, with the drafters before and after.
"""

import argparse
import json
import os
import sys

import records

SETTINGS = ("seed", "tokens", "context", "accept", "top_k", "top_p", "min_p")  # what the tokens of a decoding hang on


def trained(run):
    """{drafter: how it was trained, and its acceptance along the records of prompts held out, before and after}"""
    lines = [json.loads(x) for x in open(os.path.join(run, "log.jsonl"))]
    first, last = (next(x for x in order if "acceptance" in x) for order in (lines, lines[::-1]))
    if not last.get("end"):
        sys.exit("finetuned.py: %s: the run has not ended" % run)
    start = next(x["arguments"] for x in lines if "arguments" in x)
    streams = records.read(start["records"])
    out = {"prompts": len({s.prompt for s in streams}), "verifications": sum(len(s.rounds) for s in streams),
           "states": sum(len(s.states) for s in streams), "steps": last["step"]}
    return {name: dict(out, before=first["acceptance"][name], after=last["acceptance"][name]) for name in start["only"]}


def evaluated(path, name):
    r = json.load(open(path))
    return {"windows": r["windows"], **{k: r["drafters"][name][k] for k in ("agreement", "probability_T0.8")}}


def decoded(path, name):
    d = json.load(open(path))
    run, = (r for r in d["runs"] if r["drafter"].split(":")[0] == name)
    return {"acceptance": run["acceptance"], "tokens_per_step": run["tau"], "identical": run["identical"],
            "prompts": run["prompts"], "temperature": run["temperature"], "k": run["k"],
            "settings": {k: d["settings"][k] for k in SETTINGS}}


def pair(read, paths, same=()):
    before, after = map(read, paths)
    for k in same:
        if before[k] != after[k]:
            sys.exit("finetuned.py: %s and %s: %s is %s and %s" % (*paths, k, before[k], after[k]))
    return {"before": before, "after": after}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--run", nargs="+", required=True)
    for name in ("--evaluated", "--decoded"):
        ap.add_argument(name, nargs=2, metavar=("BEFORE", "AFTER"), required=True)
    ap.add_argument("--note", default="", help="a sentence on the result, for the card")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    out = {}
    for run in a.run:
        for name, along in trained(run).items():
            out[name] = {"records": along, "evaluated": pair(lambda f: evaluated(f, name), a.evaluated, ("windows",)),
                         "decoded": pair(lambda f: decoded(f, name), a.decoded, ("prompts", "temperature", "k", "settings"))}
    with open(a.out, "w") as f:
        json.dump({"note": a.note, "drafters": out}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
