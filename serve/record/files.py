"""Reads recordings: the rows of a time or an episode in order, the cards, and whether every bit is as written."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from carla_mlflow.contract.card import Card, parse_card
from serve.record.chain import Damage, readable, recorded_paths, verify_node, without_replaced
from serve.record.file_columns import as_recorded
from serve.record.file_info import RecordedFile, RecordingError
from serve.record.head_file import HEAD, Head, read_head
from serve.record.schema import Images, recording_schema

ORDER = [("timestamp", "ascending"), ("worker", "ascending"), ("sequence", "ascending")]


class Recordings:
    """The recordings below one folder, of all its nodes, as they are when this is made.

    Attributes:
        folder: as given to `--record`.
        nodes: the folder of each node.
        files: that can be read, oldest first.
        damages: files that can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = sorted(path.parent for path in folder.glob(f"*/{HEAD}"))
        self.nodes = sorted({*self.nodes, *(path.parent.parent for path in folder.glob("*/*/*.parquet"))})
        self.files: list[RecordedFile] = []
        self.damages: list[Damage] = []
        for node in self.nodes:
            found, damages = readable(recorded_paths(node))
            self.files += without_replaced(found)
            self.damages += damages
        self.files.sort(key=lambda file: (file.info.first, file.path))

    @cached_property
    def cards(self) -> dict[str, Card]:
        """The card of every policy that is recorded, by digest (`sha256:…`)."""
        return {digest: parse_card(data) for file in self.files for digest, data in file.cards.items()}

    @property
    def rows(self) -> int:
        """Rows in all files that can be read."""
        return sum(file.rows for file in self.files)

    @property
    def lost(self) -> int:
        """Rows that were lost on all nodes since their recording began."""
        return sum(sum(head.lost.values()) for head in self.heads.values())

    @property
    def heads(self) -> dict[str, Head]:
        """What the nodes' files HEAD say: name of the node → rows lost by reason, and the end of its chain."""
        return {node.name: read_head(node) or Head() for node in self.nodes}

    def verify(self) -> list[Damage]:
        """Reads every file whole; returns each that is damaged or missing, nothing where all bits are as written."""
        return [damage for node in self.nodes for damage in verify_node(node)]

    def batches(
        self,
        start: int | None = None,
        end: int | None = None,
        episode: str | None = None,
        columns: list[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows in order of time, with the columns of `recording_schema` or those that are named.

        Rows that came at the same nanosecond are in order of worker and sequence number. Versions with different
        contracts have different columns: their rows come in batches of their own, which may overlap in time.

        Args:
            start: the earliest `timestamp`, nanoseconds since 1970.
            end: the first that is not wanted any more.
            episode: only of this episode.
            columns: names; None for all. Names that a file does not have are passed over.

        Raises:
            RecordingError: a file can't be read; names it.
        """
        low, high = -(2**63) if start is None else start, 2**63 - 1 if end is None else end
        groups = [group for file in self.files for group in _groups_of(file, low, high)]
        groups.sort(key=lambda group: group[0])
        waiting: dict[tuple[str, Images], list[pa.Table]] = {}
        for place, (_, file, index) in enumerate(groups):
            key = file.info.contract, file.info.images
            waiting.setdefault(key, []).append(_read(file, index, low, high, episode, columns))
            after = groups[place + 1][0] if place + 1 < len(groups) else None
            for key in list(waiting):
                done, waiting[key] = _until(waiting[key], after)
                yield from _batches(done, columns)


def open_recordings(folder: str | Path) -> Recordings:
    """Opens what `carla-serve --record` wrote.

    Raises:
        RecordingError: there are no recordings.
    """
    found = Recordings(Path(folder))
    if not found.nodes:
        raise RecordingError(f"{folder}: there are no recordings; expected the folder that --record names")
    return found


def _groups_of(file: RecordedFile, low: int, high: int) -> list[tuple[int, RecordedFile, int]]:
    """The row groups of a file that may have rows of a time: earliest timestamp, file, index."""
    if file.info.last < low or file.info.first >= high:
        return []
    try:
        metadata = pq.read_metadata(file.path)
    except (OSError, pa.ArrowException) as error:
        raise RecordingError(
            f"{file.path}: can't be read: {error}; if it was merged or deleted meanwhile, run this again"
        ) from error
    place = metadata.schema.names.index("timestamp")
    found = []
    for index in range(metadata.num_row_groups):
        statistics = metadata.row_group(index).column(place).statistics
        first, last = statistics.min_raw, statistics.max_raw
        if last >= low and first < high:
            found.append((first, file, index))
    return found


def _read(
    file: RecordedFile, index: int, low: int, high: int, episode: str | None, columns: list[str] | None
) -> pa.Table:
    try:
        with pq.ParquetFile(file.path) as opened:
            needed = None
            if columns is not None:
                wanted = {*columns, *(name for name, _ in ORDER), "episode_id"}
                needed = [name for name in opened.schema_arrow.names if name in wanted]
            table = opened.read_row_group(index, columns=needed)
    except (OSError, pa.ArrowException) as error:
        raise RecordingError(f"{file.path}: can't be read: {error}") from error
    times = table["timestamp"].cast(pa.int64())
    mask = pc.and_(pc.greater_equal(times, low), pc.less(times, high))
    if episode is not None:
        mask = pc.and_(mask, pc.fill_null(pc.equal(table["episode_id"], episode), False))
    return as_recorded(table.filter(mask), _schema(next(iter(file.cards.values())), file.info.images))


@functools.lru_cache(maxsize=64)
def _schema(card_bytes: bytes, images: Images) -> pa.Schema:
    return recording_schema(parse_card(card_bytes), images)


def _until(tables: list[pa.Table], after: int | None) -> tuple[pa.Table | None, list[pa.Table]]:
    """The rows before a time in order, and the others; all rows for None."""
    if not tables:
        return None, []
    whole = pa.concat_tables(tables)
    if after is None:
        return whole.sort_by(ORDER), []
    early = pc.less(whole["timestamp"].cast(pa.int64()), after)
    done, rest = whole.filter(early), whole.filter(pc.invert(early))
    return done.sort_by(ORDER), [rest] if rest.num_rows else []


def _batches(table: pa.Table | None, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    if table is None or not table.num_rows:
        return
    if columns is not None:
        table = table.select([name for name in table.column_names if name in columns])
    yield from table.replace_schema_metadata(None).combine_chunks().to_batches()
