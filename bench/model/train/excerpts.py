"""Cut the evaluation texts out of the held-out documents, or prompts out of the training documents.

    excerpts.py --data DIR --tokenizer FILE --out DIR [--training N [--seed S]]

Writes eval/heldout.txt (whole short documents and beginnings of long ones), eval/heldout.json (where each part came from) and
prompts.jsonl (real text of 60 to 200 tokens, ending at the end of a line or sentence). With --training it writes prompts.jsonl
alone: N passages of training documents, to record verifications of that drafters may be trained on. Needs the tokenizers package.
"""

import argparse
import json
import os
import random
import re

import numpy as np
from tokenizers import Tokenizer

from sources import SOURCES
from tokenizer_names import BOS

HELDOUT_BYTES = 80_000
PART_BYTES = 3_500       # at most this much of one document, so that many kinds of text take part
PER_CATEGORY = 14
MIN_TOKENS, MAX_TOKENS = 60, 200
LICENCE = {s.package: s.licence for s in SOURCES}

_CHANGELOG = re.compile(r"whatsnew|/changes|changelog|releaselog|/releases?\W|announce|/version\d|/news")
_TUTORIAL = re.compile(r"tutorial|howto|guide|intro|/book/|faq|topics/|install|examples?/|/admin/|reftut|by-example|chapter|chap1|userguide")


def is_code(text):
    lines = [x for x in text.split("\n") if x.strip()]
    marks = sum(bool(re.match(r"\s{4,}\S|>>>|\.\.\. |#include|def |class |import |from \w+ import|template<|[{}]", x)
                     or x.rstrip().endswith((";", "{", "}", ")")) ) for x in lines)
    return len(lines) >= 5 and marks >= 0.7 * len(lines)


def is_table(text):
    lines = [x for x in text.split("\n") if x.strip()]
    rows = sum(bool(re.search(r"\S {2,}\S.*\S {2,}\S|\|.*\||[=+-]{5,}[ +][=+-]{3,}|^ {2}\S+ {2,}\S", x)) for x in lines)
    return len(lines) >= 5 and rows >= 0.6 * len(lines)


def category(path, text):
    if is_table(text):
        return "table"
    if is_code(text):
        return "code"
    if _CHANGELOG.search(path):
        return "changelog"
    prose = sum(len(x) > 60 for x in text.split("\n")) >= 2
    if _TUTORIAL.search(path):
        return "tutorial" if prose else None
    return "reference"


def cut(tok, text, rng):
    """A passage that starts at a paragraph and stops at the end of a line or sentence, or None."""
    starts = [m.end() for m in re.finditer(r"\n\n(?=\S| {1,4}\S)", text)] or [0]
    at = rng.choice(starts)
    enc = tok.encode(text[at:at + 2000], add_special_tokens=False)
    want = rng.randint(MIN_TOKENS + 20, MAX_TOKENS)
    if len(enc.ids) < MIN_TOKENS:
        return None
    end = enc.offsets[min(want, len(enc.ids)) - 1][1]
    piece = text[at:at + end]
    stops = [m.end() for m in re.finditer(r"[.:;,)}]\n|[.!?] |\n", piece)]
    piece = piece[:stops[-1]] if stops else piece
    n = len(tok.encode(piece, add_special_tokens=False).ids)
    return (piece, n, at, at + len(piece)) if MIN_TOKENS <= n <= MAX_TOKENS else None


def prompts(tok, docs):
    """At most six prompts of a document, none overlapping another."""
    rng, found, used = random.Random(7), {}, {}
    for _ in range(40_000):
        d = rng.choice(docs)
        taken = used.setdefault(d["path"], [])
        if len(taken) >= 6:
            continue
        c = cut(tok, d["text"], rng)
        kind = c and category("/" + d["path"], c[0])
        if not kind or len(found.setdefault(kind, [])) >= PER_CATEGORY or any(c[2] < e and b < c[3] for b, e in taken):
            continue
        taken.append(c[2:])
        found[kind].append({"id": "%s-%02d" % (kind, len(found[kind]) + 1), "category": kind, "tokens": c[1],
                            "source": d["path"].split("/")[0], "text": c[0]})
    return [p for kind in sorted(found) for p in found[kind]]


def training_prompts(tok, tokens, count, seed):
    """One passage each of training documents drawn at random, the longer the likelier; tokens as prepare.py wrote them."""
    rng, begins = random.Random(seed), np.flatnonzero(tokens == BOS)
    ends = np.append(begins[1:], len(tokens))
    found = []
    while len(found) < count:
        i = rng.choices(range(len(begins)), (ends - begins).tolist())[0]
        window = tokens[begins[i] + 1:ends[i] - 1]  # without BOS and EOS
        at = rng.randrange(max(1, len(window) - 1000))
        c = cut(tok, tok.decode(window[at:at + 1000].tolist()), rng)
        if c:
            found.append({"id": "training-%d-%04d" % (seed, len(found) + 1), "category": "training", "tokens": c[1], "text": c[0]})
    return found


def heldout(docs):
    rng, parts, size = random.Random(11), [], 0
    for d in rng.sample(docs, len(docs)):
        text = d["text"]
        if len(text) > PART_BYTES:
            text = text[:text.rindex("\n\n", 0, PART_BYTES)] if "\n\n" in text[:PART_BYTES] else text[:PART_BYTES]
        text = text.strip() + "\n"
        if len(text) < 500:
            continue
        parts.append({"document": d["path"], "licence": LICENCE[d["package"]], "bytes": len(text.encode()), "text": text})
        size += len(text)
        if size > HELDOUT_BYTES:
            break
    return parts


def write_prompts(out, found):
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "prompts.jsonl"), "w", encoding="utf-8") as f:
        for p in found:
            f.write(json.dumps(p, ensure_ascii=False) + "\n")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--training", type=int, metavar="N", help="only so many prompts, of training documents")
    ap.add_argument("--seed", type=int, default=1, help="of --training")
    a = ap.parse_args()
    tok = Tokenizer.from_file(a.tokenizer)
    if a.training:
        tokens = np.fromfile(os.path.join(a.data, "train.bin"), dtype=np.uint16)
        return write_prompts(a.out, training_prompts(tok, tokens, a.training, a.seed))
    docs = [json.loads(x) for x in open(os.path.join(a.data, "held.jsonl"), encoding="utf-8")]
    os.makedirs(os.path.join(a.out, "eval"), exist_ok=True)
    write_prompts(a.out, prompts(tok, docs))
    parts = heldout(docs)
    text = "\n".join(p.pop("text") for p in parts)
    ids = [BOS] + tok.encode(text, add_special_tokens=False).ids
    with open(os.path.join(a.out, "eval", "heldout.txt"), "w", encoding="utf-8") as f:
        f.write(text)
    with open(os.path.join(a.out, "eval", "heldout.json"), "w") as f:
        json.dump({"bytes": len(text.encode()), "tokens_with_bos": len(ids), "documents": parts}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
