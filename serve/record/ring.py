"""The ring in shared memory by which a worker hands its rows to the processes that read them.

One file a worker, one producer, any number of readers that the producer does not know. It never waits: it overwrites
the oldest block, and a reader that was overtaken sees by the sequence numbers how many rows it lost.

    4096 bytes   the head: eight or more uint64, see the indices below
    capacity     blocks, each of a header (see HEADER) and its payload, at a multiple of ALIGN bytes

Positions count bytes since the beginning and never wrap; a block lies at its position modulo the capacity, in one
piece. TAIL is moved on before anything is overwritten, HEAD once a block is whole: what a reader has copied is good
if TAIL is not behind it afterwards.
"""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec

from carla_mlflow.errors import CarlaMlflowError

MAGIC = 0x31474E4952564C43
HEAD_BYTES, ALIGN = 4096, 64
MAGIC_AT, CAPACITY, PID, HEAD, TAIL, CLOSED, NEXT = range(7)
HEADER = struct.Struct("=IIQII32s")
"""Of a block: its size with header and padding, bytes of its payload (FILLER: none, the next block lies at the
beginning), its first row's sequence number, its rows, flags, the policy's digest."""
FILLER = 0xFFFFFFFF
OBSERVED, ACTED, FAILED = 1, 2, 4
"""Flags of a block: whether it has the columns of the observation, and those of the action; a block that FAILED has
nothing but the number of rows that the worker could not pack."""
SMALLEST = 1 << 20
"""Bytes below which a ring is not worth having."""
SUFFIX = ".ring"


class RingError(CarlaMlflowError):
    """There is no ring: no memory for it, or the file is none."""


class Block(msgspec.Struct, frozen=True, gc=False):
    """Some consecutive rows of one worker and one policy.

    Attributes:
        digest: of the policy, 64 hex digits.
        worker: process id.
        first: sequence number of the first row.
        rows: number of rows.
        flags: OBSERVED and ACTED.
        payload: a `Packed`; `serve.record.blocks` makes columns of it.
    """

    digest: str
    worker: int
    first: int
    rows: int
    flags: int
    payload: bytes


def rings_in(folder: Path) -> list[Path]:
    """The rings of all workers of a server."""
    return sorted(folder.glob("*" + SUFFIX))
