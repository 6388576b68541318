"""Blocks: what the ring carries of a recording's columns, and how that becomes a batch with all of them.

A block holds rows of one policy, so that its version, digest and worker stand once, beside what is packed in it. A file
beside the rings, named by the policy's digest, has its card.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from carla_mlflow.contract.card import Card, parse_card
from carla_mlflow.errors import CarlaMlflowError
from carla_mlflow.escaping import one_line
from serve.record.layout import Layout
from serve.record.ring import Block, RingError
from serve.record.schema import (
    OUTCOMES,
    Images,
    columns_key,
    recording_schema,
)
from serve.record.unpack import unpacked

SUFFIX = ".policy"


def write_policy(folder: Path, digest: str, card_bytes: bytes, images: Images, engine: str) -> None:
    """Writes what readers need in order to decode a policy's blocks; to be called before its first block.

    Args:
        folder: with the rings.
        digest: of the policy, 64 hex digits.
        card_bytes: model_card.yaml.
        images: `keep` or `none`: whether the blocks have images.
        engine: what runs the policy, as `machine.engine_note` has it.
    """
    path = folder / (digest + SUFFIX)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    beside.write_bytes(images.encode() + b"\n" + engine.encode() + b"\n" + card_bytes)
    os.replace(beside, path)


class BlockDecoder:
    """Decodes the blocks of one server's rings; knows the policies that it has seen.

    Attributes:
        cards: digest (64 hex digits) → the bytes of the policy's model_card.yaml.
        engines: digest (64 hex digits) → what runs the policy, as `machine.engine_note` has it.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` has the rings."""
        self._folder = folder
        self.cards: dict[str, bytes] = {}
        self.engines: dict[str, str] = {}
        self._known: dict[str, tuple[Card, Images]] = {}
        self._keys: dict[str, str] = {}
        self._layouts: dict[str, Layout] = {}

    def card_of(self, digest: str) -> Card:
        """The card of a policy whose blocks are in the rings."""
        return self._policy(digest)[0]

    def key_of(self, digest: str) -> str:
        """The `columns_key` of a policy whose blocks are in the rings."""
        if digest not in self._keys:  # looked up for each block
            self._keys[digest] = columns_key(self.card_of(digest))
        return self._keys[digest]

    def read(self, blocks: Sequence[Block]) -> pa.RecordBatch:
        """Returns the columns that blocks have, below each other; what stands beside them is missing.

        Args:
            blocks: of one policy and with the same flags, at least one.

        Raises:
            CarlaMlflowError: the file that describes the policy is missing or damaged, or a payload is.
        """
        first = blocks[0]
        layout = self._layouts.get(first.digest)
        if layout is None:
            layout = self._layouts[first.digest] = Layout(*self._policy(first.digest))
        try:
            batch = unpacked(layout, first.flags, [block.payload for block in blocks])
        except Exception as error:  # the boundary: an error of ours costs these rows, not their reader
            raise RingError(f"a block in a ring can't be read: {one_line(error)}") from error
        if batch.num_rows != sum(block.rows for block in blocks):
            raise RingError("a block in a ring has other rows than its head says")
        return batch

    def decode(self, block: Block) -> pa.RecordBatch:
        """Returns the rows with every column of `recording_schema`; `episode_index` is null. Raises as `read`."""
        table = pa.Table.from_batches([self.read([block])])
        return self.with_all(table, [block], recording_schema(*self._policy(block.digest))).to_batches()[0]

    def with_all(self, table: pa.Table, blocks: Sequence[Block], schema: pa.Schema) -> pa.Table:
        """Adds what stands beside blocks, and nulls for what they don't have.

        Args:
            table: their columns below each other, in one chunk.
            blocks: of one policy, whose payload is not looked at.
            schema: of the result.
        """
        rows, counts = table.num_rows, np.array([block.rows for block in blocks])
        card = self.card_of(blocks[0].digest)
        columns = {name: table.column(name).chunk(0) for name in table.column_names}
        columns["version"], columns["digest"] = _one(card.version, rows), _one(f"sha256:{blocks[0].digest}", rows)
        columns["outcome"] = pa.DictionaryArray.from_arrays(columns["outcome"].cast(pa.int32()), pa.array(OUTCOMES))
        columns["worker"] = pa.array(np.repeat(np.array([block.worker for block in blocks], np.int32), counts))
        before = np.cumsum(counts) - counts  # of each block in the table
        first = np.array([block.first for block in blocks], np.int64) - before
        columns["sequence"] = pa.array(np.arange(rows, dtype=np.int64) + np.repeat(first, counts))
        arrays = [columns[field.name] if field.name in columns else pa.nulls(rows, field.type) for field in schema]
        return pa.table(arrays, schema=schema)

    def _policy(self, digest: str) -> tuple[Card, Images]:
        known = self._known.get(digest)
        if known is None:
            try:
                images, engine, card_bytes = (self._folder / (digest + SUFFIX)).read_bytes().split(b"\n", 2)
            except OSError as error:
                raise CarlaMlflowError(f"the card of the recorded policy sha256:{digest} is gone: {error}") from error
            known = self._known[digest] = parse_card(card_bytes), "keep" if images == b"keep" else "none"
            self.cards[digest], self.engines[digest] = card_bytes, engine.decode()
        return known


def _one(text: str, rows: int) -> pa.Array:
    """A column of the same text in every row."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))
