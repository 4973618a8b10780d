"""Ways in which a file can be broken, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable

_NASTY = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"NaN",
    b"-1",
    b"2",
    b"1e9",
    b" ",
    b"\t",
    b"\r",
    b"\x1a",
)


def _lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 3, 20))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_NASTY) + data[at:]


def cut_out(data: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:a] + data[b:]


def drop_line(data: bytes, rng: random.Random) -> bytes:
    lines = _lines(data)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def repeat_line(data: bytes, rng: random.Random) -> bytes:
    lines = _lines(data)
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    return b"".join(lines)


def repeat_changed(data: bytes, rng: random.Random) -> bytes:
    lines = _lines(data)
    line = rng.choice(lines)
    lines.append(line.replace(b"-1", b" 1", 1) if b"-1" in line else line.rstrip()[:-1] + b"1\n")
    return b"".join(lines)


def swap_lines(data: bytes, rng: random.Random) -> bytes:
    lines = _lines(data)
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def drop_column(data: bytes, rng: random.Random) -> bytes:
    column = rng.randrange(3)
    rows = [line.split() for line in data.splitlines()]
    return b"\n".join(b" ".join(row[:column] + row[column + 1 :]) for row in rows)


def other_value(data: bytes, rng: random.Random) -> bytes:
    words = data.split(b" ")
    words[rng.randrange(len(words))] = rng.choice((b"7", b"x", b"", b"-1", b"1.5", b"9" * 30, "ü".encode(), b"None"))
    return b" ".join(words)


def line_ends(data: bytes, rng: random.Random) -> bytes:
    plain = data.replace(b"\r\n", b"\n")
    return plain.replace(b"\n", rng.choice((b"\n", b"\r\n", b"\r", b"\n\n", b"\n\r")))


def bom(data: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) + data


def utf16(data: bytes, rng: random.Random) -> bytes:
    return data.decode("latin-1").encode(rng.choice(("utf-16", "utf-16-le")))


def binary(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((1, 17, 400)))


def nothing(data: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"", b"\n", b"   ", b"\r\n\r\n"))


WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    truncate, flip, flip, insert, cut_out, drop_line, repeat_line, repeat_changed, swap_lines, drop_column,
    other_value, line_ends, bom, utf16, binary, nothing,
)  # fmt: skip


def corrupted(data: bytes, seed: int) -> tuple[str, bytes]:
    """The ``seed``-th broken version of ``data``, and how it was made."""
    rng = random.Random(seed)
    way = WAYS[seed % len(WAYS)]
    out = way(data, rng)
    if out and seed % 5 == 4:
        second = rng.choice(WAYS)
        return f"{way.__name__}, {second.__name__}", second(out, rng)
    return way.__name__, out
