"""Stateless randomness: every number follows from (seed, purpose, counters) and from nothing that happened before.

So a resumed run, a run split into smaller micro-batches and a run on another device see the same noise.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import torch


def key(seed: int, purpose: str, *counters: int) -> int:
    """Hash a seed, a purpose and counters to 63 bits."""
    data = struct.pack(f"<q{len(counters)}q", seed, *counters) + purpose.encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """Return a CPU generator for one purpose; drawing on the CPU gives the same numbers on every device."""
    return torch.Generator().manual_seed(key(seed, purpose, *counters))


def uniform(seed: int, purpose: str, *counters: int) -> float:
    """Return one number in [0, 1)."""
    return key(seed, purpose, *counters) / 2.0**63


def permutation(count: int, seed: int, purpose: str, *counters: int) -> list[int]:
    """Return the numbers below ``count`` in a random order (numpy's Philox, stable across versions)."""
    bits = np.random.Generator(np.random.Philox(key=key(seed, purpose, *counters)))
    order: list[int] = np.argsort(bits.random(count), kind="stable").tolist()
    return order
