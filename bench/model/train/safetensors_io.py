"""Minimal safetensors reader and writer. BF16 tensors are numpy uint16, F8_E4M3 tensors numpy uint8 codes."""

import json

import numpy as np

_NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "F8_E4M3": np.uint8, "I32": np.int32}


def write(path, tensors, metadata=None):
    """tensors: {name: (dtype name, array)}; larger element types come first so that every tensor is naturally aligned."""
    order = sorted(tensors, key=lambda n: (-np.dtype(_NUMPY[tensors[n][0]]).itemsize, n))
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for name in order:
        dtype, a = tensors[name]
        assert a.dtype == _NUMPY[dtype], name
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            f.write(np.ascontiguousarray(tensors[name][1]).tobytes())


def read(path):
    """{name: (dtype name, array)}"""
    with open(path, "rb") as f:
        data = f.read()
    n = int.from_bytes(data[:8], "little")
    header, out = json.loads(data[8:8 + n]), {}
    header.pop("__metadata__", None)
    for name, h in header.items():
        begin, end = h["data_offsets"]
        a = np.frombuffer(data[8 + n + begin:8 + n + end], dtype=_NUMPY[h["dtype"]])
        out[name] = (h["dtype"], a.reshape(h["shape"]))
    return out
