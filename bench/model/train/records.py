"""Read what `specbench run --record FILE` wrote (README.md of the project, Records), and check it.

    records.py FILE... [--hidden N] [--vocab N]

prints what the files hold: tokens, states, and per drafter how often the drafts of each depth were kept. Needs Python alone.
"""

import argparse
import base64
import binascii
import json
import struct
import sys

FNV_START, FNV_PRIME = 0xcbf29ce484222325, 0x100000001b3
KEY = ("prompt", "drafter", "k", "rule", "temperature", "batch")  # what tells the lines of one stream from another's
TYPES = {"prompt": str, "drafter": str, "k": (str, type(None)), "rule": str, "temperature": (int, float), "batch": int,
         "position": int, "context": str, "draft": list, "parents": list, "path": list, "choice": list, "accepted": int,
         "emitted": int}


class Refused(Exception):
    """With FILE:LINE and what is wrong there, or what cannot be trained on these records."""


class Stream:
    """One prompt, decoded once: its tokens, and the main model's states of the rows that were a root. The state of row s, after
    the final norm, predicts token s + 1."""

    def __init__(self, line, tokens):
        self.prompt, self.drafter = line["prompt"], line["drafter"]
        self.tokens, self.prompt_tokens = list(tokens), len(tokens)
        self.states = {}   # row: hidden_size BF16 numbers, as bytes
        self.rounds = []   # (depths at which a draft could be kept, rows kept)
        self.hash, self._hashed = FNV_START, 0

    def context_hash(self):
        for token in self.tokens[self._hashed:]:
            for byte in struct.pack("<i", token):
                self.hash = (self.hash ^ byte) * FNV_PRIME % 2**64
        self._hashed = len(self.tokens)
        return "%016x" % self.hash


def _check(r, vocab):
    """What is wrong with a line by itself, or None."""
    if not isinstance(r, dict):
        return "not an object"
    for field, kind in TYPES.items():
        if field not in r:
            return "%s: missing" % field
        if not isinstance(r[field], kind) or isinstance(r[field], bool):
            return "%s: not as README.md says" % field
    for field in ("prompt_tokens", "draft", "parents", "path", "choice"):
        if not all(type(x) is int and x >= 0 for x in r.get(field, [])):
            return "%s: not a list of numbers" % field
    for field in ("prompt_tokens", "draft", "choice"):
        if vocab and any(x >= vocab for x in r.get(field, [])):
            return "%s: %d is no token of the model, which has %d" % (field, max(r[field]), vocab)
    if len(r["parents"]) != len(r["draft"]) or any(parent > i for i, parent in enumerate(r["parents"])):
        return "parents: not those of a tree of %d drafted tokens" % len(r["draft"])
    if not len(r["choice"]) == len(r["path"]) + 1 == r["accepted"] + 1 or any(not 0 < i <= len(r["draft"]) for i in r["path"]):
        return "path, choice and accepted do not fit each other"
    if not 0 <= r["emitted"] <= len(r["choice"]):
        return "emitted: %d of %d" % (r["emitted"], len(r["choice"]))
    return None


def _state(text, hidden):
    """(the state, what is wrong with it)"""
    try:
        state = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return None, "hidden: not base 64"
    if hidden and len(state) != 2 * hidden:
        return None, "hidden: %d bytes, not the %d of the model's %d BF16 numbers" % (len(state), 2 * hidden, hidden)
    return state, None


def read(paths, hidden=None, vocab=None):
    """[Stream] of the files. Raises Refused at the first line that is not a record, or does not follow the one before it in its
    stream: the hash of every context is computed again. hidden and vocab are the model's sizes, None: any."""
    done = []
    for path in paths:
        streams = {}
        try:
            with open(path, encoding="utf-8") as f:
                for number, text in enumerate(f, 1):
                    problem = _take(text, streams, done, hidden, vocab)
                    if problem:
                        raise Refused("%s:%d: %s" % (path, number, problem))
        except (OSError, UnicodeDecodeError) as e:
            raise Refused("%s: %s" % (path, e.strerror if isinstance(e, OSError) else "not UTF-8")) from e
        done += streams.values()
    return done


def _take(text, streams, done, hidden, vocab):
    """One line into its stream; what is wrong with it, or None."""
    try:
        r = json.loads(text)
    except ValueError as e:
        return "not JSON: %s" % e
    problem = _check(r, vocab)
    if problem:
        return problem
    key = tuple(r[k] for k in KEY)
    if "prompt_tokens" in r:  # the same prompt again: another run's lines behind it in the file
        if key in streams:
            done.append(streams[key])
        streams[key] = Stream(r, r["prompt_tokens"])
    if key not in streams:
        return "prompt %s: its first line, with prompt_tokens, is not in the file before this one" % r["prompt"]
    s = streams[key]
    if r["position"] != len(s.tokens):
        return "position: %d, but the lines before make %d tokens" % (r["position"], len(s.tokens))
    if r["context"] != s.context_hash():
        return "context: %s, but the tokens before have %s" % (r["context"], s.context_hash())
    if "hidden" in r:
        s.states[len(s.tokens) - 1], problem = _state(r["hidden"], hidden)
        if problem:
            return problem
    s.tokens += r["choice"][:r["emitted"]]
    last = r["path"][-1] if r["path"] else 0
    s.rounds.append((r["accepted"] + (last in r["parents"]), r["accepted"]))
    return None


def kept(streams):
    """Per depth: (how often a draft was kept, how often there was one behind those kept before)."""
    out, rounds = [], [x for s in streams for x in s.rounds]
    for depth in range(1, 1 + max((d for d, _ in rounds), default=0)):
        out.append((sum(accepted >= depth for _, accepted in rounds), sum(d >= depth for d, _ in rounds)))
    return out


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("file", nargs="+")
    ap.add_argument("--hidden", type=int, metavar="N", help="the model's hidden_size")
    ap.add_argument("--vocab", type=int, metavar="N", help="the model's vocab_size")
    a = ap.parse_args()
    try:
        streams = read(a.file, a.hidden, a.vocab)
    except Refused as e:
        sys.exit("records.py: %s" % e)
    for drafter in sorted({s.drafter for s in streams}):
        mine = [s for s in streams if s.drafter == drafter]
        print("%s: %d streams, %d tokens emitted, %d states; kept by depth:" % (
            drafter, len(mine), sum(len(s.tokens) - s.prompt_tokens for s in mine), sum(len(s.states) for s in mine)),
            ", ".join("%d of %d" % x for x in kept(mine)) or "nothing was drafted")


if __name__ == "__main__":
    main()
