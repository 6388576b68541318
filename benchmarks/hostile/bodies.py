"""Bodies that are larger than they look, or larger than any request needs."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

from benchmarks.hostile.framing import JSON, chunk, chunked, post
from benchmarks.hostile.saying import Case

MIB = 1024 * 1024
TOO_LARGE = frozenset({400, 413})
CODED = frozenset({400, 413, 415})


def declared() -> Iterator[Case]:
    """Huge declared sizes with no body sent, which have to be refused at once."""
    for size in (65 * MIB, 1024 * MIB, 2**40, 10**17):
        yield Case(f"{size:,} bytes, declared", post(b"", length=b"%d" % size), frozenset({413}), closes=False)
        waits = post(b"", b"Expect: 100-continue\r\n", length=b"%d" % size)
        yield Case(f"{size:,} bytes, asked for first", waits, frozenset({413}), closes=False)


def sent(size: int = 256 * MIB) -> Iterator[Case]:
    """Bodies of `size` bytes, really sent."""
    part = b" " * MIB

    def lasting(head: bytes, piece: bytes) -> Iterator[bytes]:
        yield head
        for _ in range(size // MIB):
            yield piece

    yield Case(
        "256 MiB with their length", lasting(post(b"", length=b"%d" % size), part), frozenset({413}), may_end=True
    )
    yield Case("256 MiB in chunks", lasting(chunked(), chunk(part)), TOO_LARGE, may_end=True)
    small = chunk(b" " * 16) * (MIB // 22)
    yield Case("256 MiB in chunks of 16 bytes", lasting(chunked(), small), TOO_LARGE, may_end=True)


def packed(good: bytes) -> Iterator[Case]:
    """Compressed bodies that are bombs, truncated, corrupt, or not what their Content-Encoding says."""

    def coded(name: str, body: bytes, coding: bytes, path: bytes = b"/predict") -> Case:
        head = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Content-Encoding: " + coding
        return Case(name, head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body, CODED)

    for size in (65 * MIB, 256 * MIB):
        bomb = gzip.compress(b" " * size, 9)
        for path in (b"/predict", b"/invocations", b"/v2/models/racetrack-policy/infer"):
            yield coded(f"{size // MIB} MiB of spaces in {len(bomb) // 1024} KiB", bomb, b"gzip", path)
    brackets = gzip.compress(b"[" * 60 * MIB, 9)
    yield coded("60 MiB of brackets", brackets, b"gzip")
    members = gzip.compress(b" " * MIB, 9) * 200
    yield coded("200 members of 1 MiB", members, b"gzip")
    zipped = gzip.compress(good)
    yield coded("twice", gzip.compress(zipped), b"gzip, gzip")
    yield coded("twice, said once", gzip.compress(zipped), b"gzip")
    for coding in (b"br", b"deflate", b"zstd", b"compress", b"identity, gzip", b"*", b"gzip;q=1", b"x" * 500):
        yield coded(f"as {coding[:20].decode()}", zipped, coding)
    yield coded("deflate called gzip", zlib.compress(good), b"gzip")
    for cut in (1, 5, len(zipped) // 2):
        yield coded(f"{cut} bytes short", zipped[:-cut], b"gzip")
    yield coded("with a wrong checksum", zipped[:-8] + b"\0" * 8, b"gzip")
    yield coded("with more behind it", zipped + b"x", b"gzip")


def deep() -> Iterator[Case]:
    """Bodies that cost a parser more than their size suggests."""
    for name, text in {
        "1,000,000 brackets": "[" * 1_000_000,
        "1,000,000 objects": '{"a":' * 1_000_000,
        "100,000 different names": json.dumps(dict.fromkeys(map(str, range(100_000)))),
        "a name of 1 MB": '{"' + "a" * 1_000_000 + '":1}',
        "a number of 1 MB": '{"observations":' + "1" * 1_000_000 + "}",
        "1,000,000 observations": '{"observations":[' + ",".join(["{}"] * 1_000_000) + "]}",
        "backslashes": '{"observations":"' + "\\\\" * 500_000 + '"}',
    }.items():
        yield Case(name, post(text.encode()), TOO_LARGE | {422})
