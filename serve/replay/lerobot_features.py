"""The features of a LeRobot dataset (format v3.0) that a recording becomes, and its columns."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.card import Card
from serve.replay.rows import OBSERVATION, integers, lists

IMAGES = "observation.images."
"""Prefix of the features that LeRobot takes for cameras."""
COLOURS = (1, 3)
"""How many channels a picture file has here: grey, or red, green and blue."""
RECORDED_AT = "time_ns"
"""The feature with the wall clock, nanoseconds since 1970: LeRobot's `timestamp` counts from the episode's start."""
OWN = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""The features that every dataset has."""


class Feature(NamedTuple):
    """One feature.

    Attributes:
        key: its name in the dataset.
        column: of the recording.
        spec: type and shape there.
        is_image: whether its frames are stored as PNG.
        names: of its elements.
    """

    key: str
    column: str
    spec: ArraySpec
    is_image: bool = False
    names: tuple[str, ...] | None = None

    def describe(self) -> dict[str, Any]:
        """As info.json has it."""
        if self.is_image:
            channels, height, width = self.spec.shape
            return {
                "dtype": "image",
                "shape": [height, width, channels],
                "names": ["height", "width", "channels"],
            }
        return {
            "dtype": self.spec.dtype,
            "shape": list(self.spec.shape) or [1],
            "names": self.names and list(self.names),
        }

    def values(self, batch: pa.RecordBatch) -> NDArray[Any]:
        """The recorded values, (B, *shape)."""
        if self.column == "timestamp":
            return integers(batch, self.column, 0)
        if self.spec.shape:
            return lists(batch, self.column, self.spec.shape, np.dtype(self.spec.dtype))[0]
        return np.ascontiguousarray(batch.column(self.column).to_numpy(zero_copy_only=False), self.spec.dtype)

    def to_arrow(self, values: NDArray[Any]) -> pa.Array:
        """The values as the dataset's column."""
        if self.is_image:
            pictures = [{"bytes": png(value), "path": None} for value in values]
            return pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        column = pa.array(values.reshape(-1))
        if len(self.spec.shape) == 1 and self.spec.shape[0] > 1:  # LeRobot has one number where the shape is [1]
            return pa.FixedSizeListArray.from_arrays(column, self.spec.shape[0])
        for size in reversed(self.spec.shape if len(self.spec.shape) > 1 else ()):
            column = nested(column, size)
        return column


def nested(column: pa.Array, size: int) -> pa.Array:
    """Elements → lists of `size` of them."""
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(column) + 1, size, dtype=np.int32)), column)


def features_of(card: Card, columns: list[str]) -> list[Feature]:
    """The features that a recording with these columns has for a dataset, besides LeRobot's own."""
    found = []
    for spec in card.observation_spec:
        column = OBSERVATION + spec.name
        if column not in columns:
            continue
        is_image = spec.dtype == "uint8" and len(spec.shape) == 3 and spec.shape[0] in COLOURS
        found.append(Feature(IMAGES + spec.name if is_image else column, column, spec, is_image))
    names = card.action.control_names
    found.append(Feature("action", "action", ArraySpec("action", "float32", (len(names),)), names=names))
    return found


def own_features() -> dict[str, Any]:
    """LeRobot's own features, and the wall clock, as info.json has them."""
    types = {name: "float32" if name == "timestamp" else "int64" for name in (*OWN, RECORDED_AT)}
    return {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in types.items()}


def png(image: NDArray[np.uint8]) -> bytes:
    """An image (C, H, W) of 1 or 3 channels as PNG, which loses nothing."""
    from PIL import Image  # of the extra `replay`; images alone need it

    buffer = io.BytesIO()
    data = image[0] if len(image) == 1 else np.ascontiguousarray(np.moveaxis(image, 0, 2))
    Image.fromarray(data).save(buffer, "PNG")
    return buffer.getvalue()
