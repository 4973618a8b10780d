"""Damage to text and binary files: what disks, transfers and editors do."""

from __future__ import annotations

import random
from collections.abc import Iterator


def damaged(data: bytes, seed: int) -> bytes:
    """``data`` damaged in one of nine ways; the same for the same seed."""
    rng = random.Random(seed)
    lines = data.split(b"\n")
    at, row = rng.randrange(len(data) + 1), rng.randrange(len(lines))
    ways = [
        lambda: data[:at],
        lambda: data[at:],
        lambda: data[:at] + data[at + rng.randint(1, 12) :],
        lambda: data[:at] + rng.randbytes(rng.randint(1, 12)) + data[at:],
        lambda: bytes(b if rng.random() > 0.02 else rng.randrange(256) for b in data),
        lambda: (
            data[:at] + rng.choice([b"0", b"1", b"7", b" ", b"\t", b",", b"\n", b"/", b"..", b"9"]) + data[at + 1 :]
        ),
        lambda: b"\n".join(lines[:row] + lines[row + 1 :]),
        lambda: b"\n".join(lines[:row] + [lines[row]] * 2 + lines[row + 1 :]),
        lambda: b"\n".join([*lines[:row], b"", *lines[row:]]),
    ]
    return ways[seed % len(ways)]()


def all_damaged(data: bytes, count: int) -> Iterator[bytes]:
    """The first ``count`` kinds that differ from ``data``."""
    seed = found = 0
    while found < count:
        bad = damaged(data, seed)
        seed += 1
        if bad != data:
            found += 1
            yield bad
