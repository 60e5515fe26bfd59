# SPDX-License-Identifier: Apache-2.0
"""The number and file formats of a DeepSeek-V3 checkpoint, written from their definitions.

Nothing here is shared with the C code: the two must agree because both follow the same documents.
"""
import json
import struct
from pathlib import Path

import numpy as np

BLOCK = 128

# ---- E4M3 ------------------------------------------------------------------------------------------


def _e4m3_magnitudes() -> np.ndarray:
    """Values of the codes 0x00..0x7E, ascending; 0x7F is NaN and left out."""
    code = np.arange(127)
    exponent, mantissa = code >> 3, code & 7
    return np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))


E4M3_MAGNITUDE = _e4m3_magnitudes()
E4M3_VALUE = np.concatenate([E4M3_MAGNITUDE, [np.nan], -E4M3_MAGNITUDE, [np.nan]])
_E4M3_MIDPOINT = (E4M3_MAGNITUDE[:-1] + E4M3_MAGNITUDE[1:]) / 2


def e4m3_encode(x: np.ndarray) -> np.ndarray:
    """Codes of finite x: round to nearest, ties to even, clamped to 448."""
    magnitude = np.abs(x)
    code = np.searchsorted(_E4M3_MIDPOINT, magnitude, side="left")
    lower = np.minimum(code, len(_E4M3_MIDPOINT) - 1)
    tie = (magnitude == _E4M3_MIDPOINT[lower]) & (code == lower)
    code = code + (tie & (code % 2 == 1))
    return (code | (np.signbit(x).astype(np.int64) << 7)).astype(np.uint8)


# ---- Block scales ----------------------------------------------------------------------------------


def spread(scale: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """One scale per 128x128 block becomes one per element: [ceil][ceil] to [rows][cols]."""
    return scale.repeat(BLOCK, axis=0)[:rows].repeat(BLOCK, axis=1)[:, :cols]


def power_of_two_above(x: np.ndarray) -> np.ndarray:
    """The smallest power of two >= x, for positive x."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(1.0, np.where(mantissa == 0.5, exponent - 1, exponent))


def quantise_blocks(w: np.ndarray, ue8m0: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights [rows][cols] to (codes, scales F32 per block)."""
    rows, cols = w.shape
    scale = np.empty((-(-rows // BLOCK), -(-cols // BLOCK)))
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            scale[i, j] = np.abs(w[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]).max() / 448
    if ue8m0:
        scale = power_of_two_above(scale)
    scale = scale.astype(np.float32)
    return e4m3_encode(w / spread(scale.astype(np.float64), rows, cols)), scale


def quantise_activations(x: np.ndarray, ue8m0: bool) -> tuple[np.ndarray, np.ndarray]:
    """The 1x128 dynamic quantisation of rows x (BF16 values) [rows][cols]: (values of the codes, F32 scales)."""
    value = np.empty(x.shape)
    scales = []
    for start in range(0, x.shape[1], BLOCK):
        group = x[:, start : start + BLOCK].astype(np.float32)
        scale = np.maximum(np.abs(group).max(axis=1, keepdims=True), np.float32(1e-4)) / np.float32(448)
        if ue8m0:
            scale = power_of_two_above(scale).astype(np.float32)
        value[:, start : start + BLOCK] = E4M3_VALUE[e4m3_encode(group / scale)]
        scales.append(scale)
    return value, np.concatenate(scales, axis=1)


# ---- BF16 ------------------------------------------------------------------------------------------


def bf16_encode(x: np.ndarray) -> np.ndarray:
    """Bits of finite x, rounded to F32 and then to BF16, both to nearest even."""
    bits = np.asarray(x, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_decode(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


# ---- safetensors -----------------------------------------------------------------------------------

_NUMPY = {"F8_E4M3": np.uint8, "BF16": np.uint16, "F32": np.float32, "I32": np.int32}

Tensors = dict[str, tuple[str, np.ndarray]]  # name to (dtype name, raw array)


def write_safetensors(path: Path, tensors: Tensors) -> None:
    """Raw arrays (codes for F8_E4M3, bits for BF16), ordered as the usual writer does: wide types first, then names."""
    order = sorted(tensors, key=lambda name: (-tensors[name][1].itemsize, name))
    header, offset = {}, 0
    for name in order:
        dtype, array = tensors[name]
        assert array.dtype == _NUMPY[dtype], name
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(np.ascontiguousarray(tensors[name][1]).tobytes())


def read_safetensors(path: Path) -> Tensors:
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], dtype=_NUMPY[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = (entry["dtype"], array)
    return tensors


def read_checkpoint(directory: Path) -> Tensors:
    """All tensors of a Hugging Face directory, in one file or in shards."""
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        return read_safetensors(directory / "model.safetensors")
    tensors: Tensors = {}
    for shard in sorted(set(json.loads(index.read_text())["weight_map"].values())):
        tensors.update(read_safetensors(directory / shard))
    return tensors


def relative_l2(x: np.ndarray, reference: np.ndarray) -> float:
    """|x - reference| / |reference|, over everything."""
    x, reference = x.astype(np.float64), reference.astype(np.float64)
    return float(np.linalg.norm(x - reference) / np.linalg.norm(reference))
