#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares a regenerated directory with the committed one: says per file whether it is identical, within tolerance
(safetensors: relative L2 of every tensor below 1e-5; JSON figures: a factor of 2, which flipped roundings can make)
or different.  Exit status 1 if one is different or missing.
"""
import argparse
import json
import sys
from pathlib import Path

from formats import read_safetensors, relative_l2

TOLERANCE, FACTOR = 1e-5, 2.0
SMALL = 1e-3  # figures below are flipped roundings and nothing else


def close_tensors(a: Path, b: Path) -> bool:
    x, y = read_safetensors(a), read_safetensors(b)
    if x.keys() != y.keys():
        return False
    for name in x:
        (x_type, x_array), (y_type, y_array) = x[name], y[name]
        if x_type != y_type or x_array.shape != y_array.shape:
            return False
        exact = x_type != "F32"
        if (x_array != y_array).any() and (exact or relative_l2(x_array, y_array) > TOLERANCE):
            return False
    return True


def close_json(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close_json(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(close_json, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return max(a, b) < SMALL or max(a, b) <= FACTOR * min(a, b)
    return a == b


def verdict(ours: Path, theirs: Path) -> str:
    if not ours.exists():
        return "missing"
    if ours.read_bytes() == theirs.read_bytes():
        return "identical"
    if ours.suffix == ".safetensors":
        return "within tolerance" if close_tensors(ours, theirs) else "different"
    if ours.suffix == ".json":
        same = close_json(json.loads(ours.read_text()), json.loads(theirs.read_text()))
        return "within tolerance" if same else "different"
    return "different"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("committed", type=Path)
    parser.add_argument("regenerated", type=Path)
    options = parser.parse_args()
    bad = 0
    for theirs in sorted(path for path in options.regenerated.rglob("*") if path.is_file()):
        name = theirs.relative_to(options.regenerated)
        said = verdict(options.committed / name, theirs)
        bad += said in ("different", "missing")
        print(f"{said}: {name}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
