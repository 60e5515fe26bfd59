"""Build the training data: extract, clean, deduplicate, split by document, train the tokenizer, encode.

    prepare.py --packages DIR --out DIR [--mixture wide|core] [--tokenizer FILE]

With --tokenizer, text is encoded by that one instead of a new one. DIR of --packages holds one directory per Debian package, unpacked with `dpkg-deb -x`. Needs lxml, numpy and tokenizers.
Writes train.bin and held.bin (uint16 tokens), held.jsonl (the held-out documents), tokenizer.json and data.json (statistics).
"""

import argparse
import collections
import json
import multiprocessing
import os
import random
import shutil
import zlib

import numpy as np
from tokenizers import Tokenizer

import dedup
from extract import read_document
from sources import MIXTURES
from tokenizer import train_tokenizer
from tokenizer_names import BOS, EOS

HELD_OUT = 0.015          # share of the documents
MAX_DOCUMENT = 150_000    # characters; longer ones are mostly tables
NEAR_DUPLICATE = 0.4      # share of a document's shingles seen before
CROSSING = 0.15           # share of a training document's shingles that held-out documents may contain


def files_of(root, source):
    base = os.path.join(root, source.package)
    found = []
    for directory, subdirs, names in os.walk(base):
        subdirs.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)
            if name.endswith(source.suffixes) and source.must_contain in path and not os.path.islink(path):
                found.append(path)
    random.Random(source.package).shuffle(found)  # the cap then takes a fair sample
    return found


def collect(root, source):
    size, docs = 0, []
    for path in files_of(root, source):
        text = read_document(path)
        if text is None:
            continue
        text = text[:MAX_DOCUMENT]
        size += len(text)
        docs.append((source.package, os.path.relpath(path, root), text))
        if size > source.cap_mb * 1e6:
            break
    return docs


def encode(tok, docs, path):
    """Each document is BOS text EOS. Returns (tokens, bytes)."""
    tokens, size = [], 0
    for i in range(0, len(docs), 256):
        part = [d[2] for d in docs[i:i + 256]]
        for enc, text in zip(tok.encode_batch(part, add_special_tokens=False), part):
            tokens.append(np.array([BOS] + enc.ids + [EOS], np.uint16))
            size += len(text.encode())
    joined = np.concatenate(tokens)
    joined.tofile(path)
    return len(joined), size


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--packages", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--mixture", choices=sorted(MIXTURES), default="wide", help="which packages of sources.py")
    ap.add_argument("--tokenizer", help="use this tokenizer.json")
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    with multiprocessing.Pool(2) as pool:
        parts = pool.starmap(collect, [(a.packages, s) for s in MIXTURES[a.mixture]], chunksize=1)
        docs = [d for part in parts for d in part]
        raw = sum(len(d[2]) for d in docs)
        print(len(docs), "documents", raw / 1e6, "MB extracted", flush=True)
        random.Random(1).shuffle(docs)
        texts = dedup.drop_repeated_paragraphs([d[2] for d in docs])
        docs = [(p, f, t) for (p, f, _), t in zip(docs, texts) if len(t) >= 400]
        sh = pool.map(dedup.shingles, [d[2] for d in docs], chunksize=64)
    keep = dedup.drop_near_duplicates(docs, sh, NEAR_DUPLICATE)
    docs, sh = [docs[i] for i in keep], [sh[i] for i in keep]
    # By path, so that a document keeps its side when the list of sources changes.
    side = [zlib.crc32(d[1].encode()) % 1000 < HELD_OUT * 1000 for d in docs]
    held = [d for d, h in zip(docs, side) if h]
    reference = set(x for s, h in zip(sh, side) if h for x in s.tolist())
    train = [d for d, s, h in zip(docs, sh, side) if not h and dedup.overlap(s, reference) <= CROSSING]
    dropped = len(docs) - len(held) - len(train)
    if a.tokenizer:
        tok = Tokenizer.from_file(a.tokenizer)
        shutil.copy(a.tokenizer, os.path.join(a.out, "tokenizer.json"))
    else:
        tok = train_tokenizer((d[2] for d in train), os.path.join(a.out, "tokenizer.json"))
    stats = {"extracted_bytes": raw, "documents_after_dedup": len(docs), "train_documents_dropped_at_split": dropped}
    for name, part in (("train", train), ("held", held)):
        tokens, size = encode(tok, part, os.path.join(a.out, name + ".bin"))
        stats[name] = {"documents": len(part), "bytes": size, "tokens": tokens, "bytes_per_token": size / tokens}
    by = collections.Counter()
    for p, _, t in train:
        by[p] += len(t)
    stats["train_bytes_by_package"] = dict(by.most_common())
    with open(os.path.join(a.out, "held.jsonl"), "w") as f:
        for p, path, t in held:
            f.write(json.dumps({"package": p, "path": path, "text": t}) + "\n")
    with open(os.path.join(a.out, "data.json"), "w") as f:
        json.dump(stats, f, indent=1)
    print(json.dumps(stats, indent=1))


if __name__ == "__main__":
    main()
