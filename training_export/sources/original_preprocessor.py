"""The original project's own preprocessors, rebuilt from their fitted numbers without running its code.

Its `save` wrote a pickle of its own class, and later JSON. The pickle is read by a reader that can make nothing but a
record of these numbers, so that the file needs no trust.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import ExportError

FIELDS = ("speed", "steering", "sensors")
"""The observations in the order of its features; sensors are a vector, the others scalars."""
MAX_BYTES = 1 << 20
"""The limit of the file; a record of a dozen numbers takes a few hundred bytes."""
# fmt: off
OPERATIONS = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "GLOBAL",
    "STACK_GLOBAL", "SHORT_BINUNICODE", "BINUNICODE", "NEWOBJ", "BUILD", "NONE", "NEWTRUE", "NEWFALSE", "BININT",
    "BININT1", "BININT2", "BINFLOAT", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "EMPTY_LIST", "APPEND", "APPENDS",
    "EMPTY_DICT", "SETITEM", "SETITEMS",
})
# fmt: on
"""The pickle operations that such a record needs, by pickletools' names."""
KINDS = {"standard": "StandardFeaturePreprocessor", "minimal": "MinimalPreprocessor"}


class Statistics(msgspec.Struct, frozen=True):
    """Mean and standard deviation of one field, over all its elements."""

    mean: float = 0.0
    std: float = 1.0


class Fitted(msgspec.Struct, frozen=True):
    """A preprocessor's fitted numbers; one that was never fitted changes nothing, as in the original."""

    is_fitted: bool
    input_shape: list[int] | None = None
    normalize_speed: bool = False
    normalize_steering: bool = False
    normalize_sensors: bool = False
    sensor_clip_range: tuple[float, float] = (-math.inf, math.inf)
    speed_stats: Statistics = Statistics()
    steering_stats: Statistics = Statistics()
    sensor_stats: Statistics = Statistics()


class _SavedJson(msgspec.Struct, frozen=True):
    format_version: int
    type: str
    state: Fitted


def read_original(path: Path) -> Fitted | None:
    """The numbers of one of the original's preprocessors; None when the file is anything else.

    Raises:
        ExportError: it is such a preprocessor, but its numbers are missing or invalid.
    """
    data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    if data.lstrip()[:1] == b"{":
        state = _from_json(path, data)
    else:
        try:
            if not all(_is_plain(operation.name, argument) for operation, argument, _ in pickletools.genops(data)):
                return None
            record = _Reader(io.BytesIO(data)).load()
        except Exception:  # any type, if it is not such a pickle; another reader then says why
            return None
        state = vars(record) if isinstance(record, _Record) else None
    if state is None:
        return None
    try:
        return msgspec.convert(state, Fitted)
    except msgspec.ValidationError as error:
        raise ExportError(f"{path.name}: a preprocessor of the original layout, but {error}") from error


def _from_json(path: Path, data: bytes) -> Any:
    try:
        written = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
    if written.get("type") not in KINDS or written.get("format_version") != 1:
        raise ExportError(
            f"{path.name}: expected type {' or '.join(KINDS)} and format_version 1, as the original wrote"
        )
    return written.get("state")


def _is_plain(operation: str, argument: Any) -> bool:
    """Whether a pickle operation is one that a record of numbers needs, with an argument that can't exhaust memory."""
    return operation in OPERATIONS and (operation != "LONG_BINPUT" or argument < MAX_BYTES)


class _Record:
    """Replaces the original's class: takes the pickled attributes, and has no code."""


class _Reader(pickle.Unpickler):
    """Replaces the original's own classes by _Record, and refuses any other name."""

    def find_class(self, module: str, name: str) -> type:
        if module.rpartition(".")[2] == "preprocessing" and name in KINDS.values():
            return _Record
        raise pickle.UnpicklingError(f"{module}.{name} is none of the original's preprocessors")


class OriginalFeatures(nn.Module):
    """Flat observations in the card's order → the original's features, in float32 as it computed them."""

    def __init__(self, fitted: Fitted, specs: ObservationSpec) -> None:
        """Raises ExportError when the observations are not those on which it was fitted."""
        super().__init__()
        self.order: torch.Tensor
        self.low: torch.Tensor
        self.high: torch.Tensor
        self.mean: torch.Tensor
        self.std: torch.Tensor
        order, low, high, mean, std = _columns(fitted, specs)
        self.register_buffer("order", torch.from_numpy(order))
        for name, numbers in {"low": low, "high": high, "mean": mean, "std": std}.items():
            self.register_buffer(name, torch.from_numpy(numbers.astype(np.float32)))

    def forward(self, flat: torch.Tensor) -> torch.Tensor:
        """float32 (B, F) → float32 (B, F)."""
        picked = torch.index_select(flat, 1, self.order)
        return (torch.clamp(picked, self.low, self.high) - self.mean) / self.std


def _columns(fitted: Fitted, specs: ObservationSpec) -> tuple[np.ndarray[Any, Any], ...]:
    """Per feature: its column in the flat observation, its clipping bounds, mean and standard deviation."""
    shapes = {spec.name: spec.shape for spec in specs}
    if sorted(shapes) != sorted(FIELDS) or [len(shapes[name]) for name in FIELDS] != [0, 0, 1]:
        raise ExportError(
            "the preprocessor of the original layout takes the scalars speed and steering and the vector sensors; "
            f"the observation section says {', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())}"
        )
    widths = {name: math.prod(shape) for name, shape in shapes.items()}
    if fitted.input_shape not in (None, [sum(widths.values())]):
        raise ExportError(
            f"the preprocessor was fitted on {fitted.input_shape[0] - 2 if fitted.input_shape else 0} sensors; "
            f"the observation section says {widths['sensors']}"
        )
    starts = dict(zip(shapes, np.cumsum([0, *widths.values()]), strict=False))
    parts: list[list[np.ndarray[Any, Any]]] = [[], [], [], [], []]
    for name in FIELDS:
        low, high, statistics = _scaling(fitted, name)
        numbers = (low, high, statistics.mean, statistics.std)
        parts[0].append(np.arange(starts[name], starts[name] + widths[name]))
        for part, number in zip(parts[1:], numbers, strict=True):
            part.append(np.full(widths[name], number))
    return tuple(np.concatenate(part) for part in parts)


def _scaling(fitted: Fitted, name: str) -> tuple[float, float, Statistics]:
    """Clipping and statistics of a field, neutral where it is not normalised."""
    wanted = {
        "speed": fitted.normalize_speed,
        "steering": fitted.normalize_steering,
        "sensors": fitted.normalize_sensors,
    }
    if not (fitted.is_fitted and wanted[name]):
        return -math.inf, math.inf, Statistics()
    if name == "sensors":
        return *fitted.sensor_clip_range, fitted.sensor_stats
    return -math.inf, math.inf, fitted.speed_stats if name == "speed" else fitted.steering_stats
