"""What a block's payload is: rows as a worker has them, packed with as little work as possible.

A worker packs them between two requests, in their time, so it makes no columns; whoever reads the ring does that
(`serve/record/unpack.py`). Numbers that Python has are copied as they are, and arrays one behind the other.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray


class Forwards(msgspec.Struct, array_like=True, gc=False):
    """The forwards that answered the rows, one behind the other.

    Attributes:
        counts: int32, rows of each.
        began: float64, when each began, by `time.perf_counter`.
        inference_ms: float64, duration of each.
        seeds: of each, None for one that does not sample; None where none does.
    """

    counts: bytes
    began: bytes
    inference_ms: bytes
    seeds: list[int | None] | None


class Memory(msgspec.Struct, array_like=True, gc=False):
    """Of rows of a policy with memory.

    Attributes:
        steps: uint32, each row's.
        reset: bool, each row's: whether its memory begins there.
        given: bool, each row's: whether its state is recorded.
        states: float32, in the card's order: the rows that are given.
    """

    steps: bytes
    reset: bytes
    given: bytes
    states: list[bytes]


class Packed(msgspec.Struct, array_like=True, gc=False):
    """Requests of one policy, and their rows.

    Attributes:
        offset_ns: to be added to times by `time.perf_counter` for nanoseconds since 1970.
        ids: of the requests.
        episodes: that the requests named, None for one without; None where none named any.
        frames: actions that each request's episode had before, as this worker counts; None where none is known.
        received: float64, when each request's first byte came, by `time.perf_counter`.
        ended: float64, when each was answered, by the same clock.
        decode_s: float64, seconds that each took to decode.
        counts: int32, rows of each request; None where each has one.
        firsts: int32, the place in its request of each request's first row here; None where all are 0.
        outcome: its index in OUTCOMES.
        statuses: of the responses; None where all are 200.
        deterministic: of each request; None where the forwards' seeds tell.
        forwards: None where there were none.
        arrays: the observation's columns, the action, the raw action, as far as the block has them; flat in C order.
        memory: None for a policy without memory, and for errors.
    """

    offset_ns: int
    ids: Sequence[str]
    episodes: Sequence[str | None] | None
    frames: list[int | None] | None
    received: bytes
    ended: bytes
    decode_s: bytes
    counts: bytes | None
    firsts: bytes | None
    outcome: int
    statuses: list[int] | None
    deterministic: list[bool] | None
    forwards: Forwards | None
    arrays: list[bytes]
    memory: Memory | None = None


def float64s(values: Iterable[float]) -> bytes:
    """Numbers as the bytes of an array; a third of the time that numpy takes."""
    return array("d", values).tobytes()


def int32s(values: Iterable[int]) -> bytes:
    """The same of whole numbers."""
    return array("i", values).tobytes()


def joined(parts: Sequence[NDArray[Any]]) -> bytes:
    """Arrays one behind the other, each in C order."""
    try:
        return b"".join(parts)  # type: ignore[arg-type]  # a quarter of the time that numpy takes for many small ones
    except TypeError:  # one is not in C order
        return b"".join([part.tobytes() for part in parts])


PACK = msgspec.msgpack.Encoder().encode
UNPACK = msgspec.msgpack.Decoder(Packed).decode
