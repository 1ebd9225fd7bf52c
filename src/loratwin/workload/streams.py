"""One random stream for each purpose, all from one seed.

Every group of adapters has its own stream for arrivals, for prompt lengths, and so on. So another length distribution
leaves the arrivals as they were, and a further group leaves the other groups as they were: comparisons between two
workloads then show the change and not the luck of the draw.
"""

from __future__ import annotations

import hashlib

import numpy as np

from loratwin.errors import InputError


def stream(seed: int, group: str, purpose: str) -> np.random.Generator:
    """Generator for one purpose of one group: the same numbers in every process and on every machine.

    The stream is ``PCG64(SeedSequence(seed, spawn_key=key))`` where the key is the first 128 bits of the SHA-256 of
    group and purpose; Python's ``hash`` would differ from process to process.

    Raises
    ------
    InputError
        The seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed = {seed}: must be 0 or a positive whole number")
    digest = hashlib.sha256(f"{group}\0{purpose}".encode()).digest()
    key = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
