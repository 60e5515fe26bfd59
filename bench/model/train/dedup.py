"""Removal of repeated text: paragraphs that recur, documents that mostly repeat others, and anything that crosses the split."""

import re
import zlib

import numpy as np

_SHINGLE = 8        # words
_SAMPLE = 8         # one shingle in so many is kept
_LONG = 100         # characters from which a repeated paragraph is dropped wherever it recurs
_BOILERPLATE = 12   # documents in which a shorter paragraph may occur


def drop_repeated_paragraphs(texts):
    """Keep the first copy of every long paragraph and of every short one that is common to many documents."""
    count = {}
    split = [t.split("\n\n") for t in texts]
    keys = [[zlib.crc32(re.sub(r"[\s\d]+", " ", p).strip().lower().encode()) | (len(p) >= _LONG) << 32 for p in ps]
            for ps in split]
    for ks in keys:
        for k in set(ks):
            count[k] = count.get(k, 0) + 1
    seen = set()
    out = []
    for ps, ks in zip(split, keys):
        kept = []
        for p, k in zip(ps, ks):
            repeated = count[k] > 1 if k >> 32 else count[k] > _BOILERPLATE
            # Bare headings such as "Parameters" carry structure, and cost next to nothing: they stay.
            heading = len(p) < 40 and not p.startswith((" ", "-"))
            if not heading and (repeated and k in seen):
                continue
            seen.add(k)
            kept.append(p)
        out.append("\n\n".join(kept).strip() + "\n")
    return out


def shingles(text):
    """A sample of the hashes of all runs of eight words."""
    words = np.array([zlib.crc32(w.encode()) for w in re.findall(r"[A-Za-z_]+", text.lower())], dtype=np.uint64)
    if len(words) < _SHINGLE:
        return np.empty(0, np.uint64)
    n = len(words) - _SHINGLE + 1
    h = np.zeros(n, np.uint64)
    for i in range(_SHINGLE):
        h = h * np.uint64(0x9E3779B97F4A7C15) + words[i:i + n]
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(32)
    return np.unique(h[h % np.uint64(_SAMPLE) == 0])


def drop_near_duplicates(docs, sh, limit):
    """Indices of documents less than `limit` of whose shingles occur in documents kept before them."""
    seen = set()
    keep = []
    for i in range(len(docs)):
        s = sh[i].tolist()
        if s and sum(x in seen for x in s) > limit * len(s):
            continue
        seen.update(s)
        keep.append(i)
    return keep


def overlap(sh, reference):
    s = sh.tolist()
    return sum(x in reference for x in s) / len(s) if s else 0.0
