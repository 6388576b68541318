"""Packed rows of several blocks → those of one, whose columns then cost little more than one block's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.record.packed import Forwards, Memory, Packed, int32s


def runs(blocks: Sequence[Packed]) -> Iterator[tuple[Packed, NDArray[np.int64]]]:
    """Joins consecutive blocks of one kind; yields the rows, and each request's `offset_ns`.

    Args:
        blocks: of one policy, with the same columns.
    """
    for _, group in groupby(blocks, _kind):
        some = list(group)
        offsets = np.repeat(np.array([each.offset_ns for each in some]), [len(each.ids) for each in some])
        yield (some[0] if len(some) == 1 else _joined(some)), offsets


def _kind(block: Packed) -> tuple[Any, ...]:
    return block.outcome, block.forwards is None, block.memory is None


def _joined(blocks: list[Packed]) -> Packed:
    forwards = [each.forwards for each in blocks if each.forwards is not None]
    memories = [each.memory for each in blocks if each.memory is not None]
    return Packed(
        blocks[0].offset_ns,
        [*chain.from_iterable(each.ids for each in blocks)],
        _lists(blocks, lambda each: each.episodes, None),
        _lists(blocks, lambda each: each.frames, None),
        b"".join([each.received for each in blocks]),
        b"".join([each.ended for each in blocks]),
        b"".join([each.decode_s for each in blocks]),
        _numbers(blocks, lambda each: each.counts, 1),
        _numbers(blocks, lambda each: each.firsts, 0),
        blocks[0].outcome,
        _lists(blocks, lambda each: each.statuses, 200),
        _lists(blocks, lambda each: each.deterministic, True),
        _forwards(forwards) if forwards else None,
        [b"".join(column) for column in zip(*(each.arrays for each in blocks), strict=True)],
        _memory(memories) if memories else None,
    )


def _lists(blocks: list[Packed], of: Callable[[Packed], Sequence[Any] | None], usual: Any) -> list[Any] | None:
    """A list that only some blocks have, filled up with what is usual; None where none has it."""
    if all(of(each) is None for each in blocks):
        return None
    return [*chain.from_iterable(of(each) or repeat(usual, len(each.ids)) for each in blocks)]


def _numbers(blocks: list[Packed], of: Callable[[Packed], bytes | None], usual: int) -> bytes | None:
    if all(of(each) is None for each in blocks):
        return None
    return b"".join([of(each) or int32s(repeat(usual, len(each.ids))) for each in blocks])


def _forwards(parts: list[Forwards]) -> Forwards:
    seeds = None
    if any(each.seeds is not None for each in parts):
        seeds = [*chain.from_iterable(each.seeds or repeat(None, len(each.counts) // 4) for each in parts)]
    return Forwards(
        b"".join([each.counts for each in parts]),
        b"".join([each.began for each in parts]),
        b"".join([each.inference_ms for each in parts]),
        seeds,
    )


def _memory(parts: list[Memory]) -> Memory:
    return Memory(
        b"".join([each.steps for each in parts]),
        b"".join([each.reset for each in parts]),
        b"".join([each.given for each in parts]),
        [b"".join(state) for state in zip(*(each.states for each in parts), strict=True)],
    )
