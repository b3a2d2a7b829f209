"""Random numbers as a function of (seed, key, stream, position): nothing is drawn "before" anything else.

Philox-4x32-10 (Salmon et al., SC 2011), vectorised. A value never depends on the neighbours in a batch, so splitting,
reordering, resuming and distributing leave each example's noise as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUND = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)

Words = NDArray[np.uint64]


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """[..., 4] random 32-bit words of the counters [..., 4] (32-bit words, held in 64 bits)."""
    c0, c1, c2, c3 = (counter[..., i] for i in range(4))
    k0, k1 = (np.uint64(word) for word in key)
    for _ in range(10):
        left, right = c0 * _ROUND[0], c2 * _ROUND[1]
        c0, c1, c2, c3 = (right >> _HALF) ^ c1 ^ k0, right & _LOW, (left >> _HALF) ^ c3 ^ k1, left & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return np.stack([c0, c1, c2, c3], axis=-1)


def words(seed: int, keys: NDArray[np.int64], stream: int, size: int) -> Words:
    """[N, size] 32-bit words for ``keys`` [N].

    Args:
        seed: 0 <= seed < 2**64.
        keys: stable integers of the examples, not negative.
        stream: which use of randomness (timestep, noise, ...); streams are independent.
    """
    blocks = -(-size // 4)
    counter = np.empty((len(keys), blocks, 4), np.uint64)
    wide = keys.astype(np.uint64)[:, None]
    counter[..., 0] = np.arange(blocks, dtype=np.uint64)
    counter[..., 1] = np.uint64(stream)
    counter[..., 2] = wide & _LOW
    counter[..., 3] = wide >> _HALF
    return philox(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(len(keys), -1)[:, :size]


def integers(seed: int, keys: NDArray[np.int64], stream: int, below: int) -> NDArray[np.int64]:
    """[N] integers in [0, below), ``below`` at most 2**31; the bias is below ``below`` / 2**32."""
    return ((words(seed, keys, stream, 1)[:, 0] * np.uint64(below)) >> _HALF).astype(np.int64)


def normals(seed: int, keys: NDArray[np.int64], stream: int, size: int) -> NDArray[np.float64]:
    """[N, size] standard normal numbers, by Box and Muller's transform."""
    pairs = -(-size // 2)
    # Words at the centres of their intervals: never 0, so the logarithm is finite; at most 6.7 sigma out.
    uniform = (words(seed, keys, stream, 2 * pairs).astype(np.float64) + 0.5) / 2**32
    radius = np.sqrt(-2 * np.log(uniform[:, 0::2]))
    angle = 2 * np.pi * uniform[:, 1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(len(keys), -1)[:, :size]
