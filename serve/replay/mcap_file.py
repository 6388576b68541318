"""Writes a recording as an MCAP file, whose messages are JSON with a JSON schema, as Foxglove and others open them.

/observation            the fields of the observation, images not
/observation/NAME       an image, as Foxglove's schema `foxglove.CompressedImage`
/action                 what was answered, the raw action, by which version, and with which outcome
/timing                 milliseconds of the request's parts
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from mcap.writer import Writer
from numpy.typing import NDArray

from carla_mlflow.contract.card import Card
from carla_mlflow.errors import RefusedError
from serve.replay.lerobot_features import Feature, features_of, png
from serve.replay.rows import by_digest

TIMES = ("queue_ms", "decode_ms", "inference_ms", "total_ms")
NAMED = ("version", "digest", "outcome", "status", "episode_id", "frame_index", "request_id", "row", "seed")
IMAGE = "foxglove.CompressedImage"


class McapWriter:
    """Writes a file beside its place, and renames it at the end.

    Attributes:
        messages: how many were written.
    """

    def __init__(self, path: Path, cards: dict[str, Card]) -> None:
        """Begins a file.

        Raises:
            RefusedError: it exists.
        """
        if path.exists():
            raise RefusedError(f"{path}: already exists; remove it or write elsewhere")
        self._path, self._cards = path, cards
        self._beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._file = self._beside.open("wb")
        self._writer = Writer(self._file)
        self._writer.start(profile="", library="carla-mlflow")
        self._channels: dict[str, int] = {}
        self.messages = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Writes a batch, all of whose rows become messages, refused requests too."""
        for digest, rows in by_digest(batch):
            card = self._cards[digest]
            self._write(rows, card, features_of(card, rows.schema.names))

    def close(self) -> str:
        """Ends the file, and puts it in its place; returns what was written, in words."""
        self._writer.finish()
        self._file.close()
        os.replace(self._beside, self._path)
        return f"{self._path}: {self.messages:,} messages"

    def abandon(self) -> None:
        """Removes what was written."""
        self._file.close()
        self._beside.unlink(missing_ok=True)

    def _write(self, batch: pa.RecordBatch, card: Card, features: list[Feature]) -> None:
        times = batch.column("timestamp").cast(pa.int64()).to_pylist()
        sequences = batch.column("sequence").to_pylist()
        named = {name: batch.column(name).to_pylist() for name in (*NAMED, *TIMES)}
        valid = {f.key: batch.column(f.column).is_valid().to_pylist() for f in features}
        values = {f.key: f.values(batch) for f in features}
        raw = batch.column("action.raw").to_pylist()
        fields = [f for f in features if f.key != "action"]
        for row, when in enumerate(times):
            there = [f for f in fields if valid[f.key][row]]
            observed = {f.spec.name: values[f.key][row].tolist() for f in there if not f.is_image}
            if observed:
                self._send("/observation", "observation", observed, when, sequences[row])
            for feature in there:
                if feature.is_image:
                    self._send_image(feature, values[feature.key][row], when, sequences[row])
            answered = {name: named[name][row] for name in NAMED}
            if valid["action"][row]:
                answered |= _named(card.action.control_names, values["action"][row].tolist())
            if raw[row] is not None:
                answered["raw"] = _named(tuple(card.action.raw), raw[row])
            self._send("/action", "action", answered, when, sequences[row])
            timing = {name: named[name][row] for name in TIMES if named[name][row] is not None}
            if timing:
                self._send("/timing", "timing", timing, when, sequences[row])

    def _send_image(self, feature: Feature, image: NDArray[Any], when: int, sequence: int) -> None:
        stamp = {"sec": when // 10**9, "nsec": when % 10**9}
        data = base64.b64encode(png(image)).decode()
        message = {"timestamp": stamp, "frame_id": feature.spec.name, "format": "png", "data": data}
        self._send(f"/observation/{feature.spec.name}", IMAGE, message, when, sequence)

    def _send(self, topic: str, schema: str, message: dict[str, Any], when: int, sequence: int) -> None:
        channel = self._channels.get(topic)
        if channel is None:
            name = schema if schema == IMAGE else f"carla_mlflow.{schema}"
            number = self._writer.register_schema(name, "jsonschema", json.dumps(schema_of(message)).encode())
            channel = self._channels[topic] = self._writer.register_channel(topic, "json", number)
        data = json.dumps(message, separators=(",", ":")).encode()
        self._writer.add_message(channel, when, data, when, sequence)
        self.messages += 1


def schema_of(message: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of messages such as this one."""
    return {"type": "object", "properties": {name: _type_of(name, value) for name, value in message.items()}}


def _type_of(name: str, value: Any) -> dict[str, Any]:
    if name == "data":
        return {"type": "string", "contentEncoding": "base64"}
    if isinstance(value, dict):
        return schema_of(value)
    if isinstance(value, list):
        return {"type": "array", "items": _type_of("", value[0]) if value else {}}
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number"}
    return {"type": kinds[type(value)]} if value is not None else {}


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))
