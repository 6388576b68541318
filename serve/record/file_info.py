"""What a recording's file says about itself in its footer, beside the columns."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from carla_mlflow.errors import CarlaMlflowError
from carla_mlflow.escaping import one_line
from serve.record.machine import ENGINE, MACHINE, REFERENCE, Origin
from serve.record.schema import CARD, FORMAT, RECORDING, Images

INFO = "carla-mlflow.file"
CHAIN, PREVIOUS = "chain", "previous"
"""Metadata keys of the file's number in its node's chain, and of the sha256 of the file with the number before."""
HASHED_AT_ONCE = 1 << 20
_ORIGINS = (MACHINE.encode(), ENGINE.encode(), REFERENCE.encode())


class RecordingError(CarlaMlflowError):
    """A recording can't be read: no such folder, or a file is none of ours."""


class FileInfo(msgspec.Struct, frozen=True):
    """One file's place in its node's chain, and what it covers.

    Attributes:
        number: running number of the file in its node's chain, from 1.
        previous: sha256 of the file with the number before, 64 hex digits; empty for the first.
        contract: the cards' contract hash, and their states' names; one file has one of each.
        images: what it has of images: keep, hash or none.
        first: the earliest `timestamp` in it, nanoseconds since 1970.
        last: the latest.
        cursors: how far the rings were read when it was closed: ring → the next row's sequence number.
        replaces: files that were merged into this one: number → sha256.
    """

    number: int
    previous: str
    contract: str
    images: Images
    first: int
    last: int
    cursors: dict[str, int] = {}
    replaces: dict[int, str] = {}


class RecordedFile(msgspec.Struct, frozen=True):
    """A file on disk, as far as its footer tells.

    Attributes:
        path: of the file.
        info: about it.
        rows: in it.
        cards: digest (`sha256:…`) → bytes of model_card.yaml.
        origin: where its rows come from; see `serve/record/machine.py`.
    """

    path: Path
    info: FileInfo
    rows: int
    cards: dict[str, bytes]
    origin: Origin = {}


def to_metadata(info: FileInfo, cards: dict[str, bytes], origin: Origin) -> dict[str, bytes]:
    """A file's metadata; `cards` by digest (`sha256:…`)."""
    found = {RECORDING: FORMAT.encode(), INFO: msgspec.json.encode(info)}
    found |= {CHAIN: str(info.number).encode(), PREVIOUS: info.previous.encode()}
    found |= {key: text.encode() for key, text in origin.items()}
    return found | {CARD + digest: data for digest, data in cards.items()}


def read_file_info(path: Path) -> RecordedFile:
    """Reads a file's footer.

    Raises:
        RecordingError: it can't be read, or is no recording; names the file.
    """
    try:
        read = pq.read_metadata(path)
        metadata = read.metadata or {}
        if metadata.get(RECORDING.encode()) != FORMAT.encode():
            raise RecordingError(f"{path}: is no recording of this format")
        info = msgspec.json.decode(metadata[INFO.encode()], type=FileInfo)
    except (OSError, pa.ArrowException, KeyError, msgspec.DecodeError) as error:
        raise RecordingError(f"{path}: can't be read: {one_line(error)}") from error
    cards = {key.decode().removeprefix(CARD): value for key, value in metadata.items() if key.startswith(CARD.encode())}
    origin = {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(_ORIGINS)}
    return RecordedFile(path, info, read.num_rows, cards, origin)


def file_hash(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
