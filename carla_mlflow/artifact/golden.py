"""golden.npz: observations, and the trained policy's answers to them.

Keys: `observation.<name>` (N, *shape), `features` (N, F) from the preprocessor, `distribution.<name>` (N, A or K),
`raw` (N, A), `action` (N, 3): throttle, brake, steer. The exported graph's own answers are never in it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract.card import Card
from ..contract.heads import PARAMETERS
from ..errors import ArtifactError, ParityError, SpecError
from .npz import check_arrays

Array = NDArray[Any]

MAX_BYTES = 1 << 30
GOLDEN_ROWS, GOLDEN_IMAGE_ROWS = 64, 16
"""The fewest observations that golden.npz may hold, without and with images, which take more space."""


@dataclass(frozen=True)
class Golden:
    """The trained policy's answers, all with N rows; `features` is None when there is no preprocessor."""

    observations: dict[str, Array]
    raw: Array
    distribution: dict[str, Array]
    action: Array
    features: Array | None = None

    @property
    def answers(self) -> dict[str, Array]:
        """Raw actions, controls and the head's parameters, by name, as a graph's are compared with them."""
        return {"raw": self.raw, "action": self.action} | self.distribution

    def first(self, rows: int) -> Golden:
        """The first `rows` rows, without `features`."""
        observations = {name: array[:rows] for name, array in self.observations.items()}
        distribution = {name: array[:rows] for name, array in self.distribution.items()}
        return Golden(observations, self.raw[:rows], distribution, self.action[:rows])

    def to_bytes(self) -> bytes:
        """As golden.npz, compressed."""
        arrays = {f"observation.{name}": array for name, array in self.observations.items()}
        arrays |= {f"distribution.{name}": array for name, array in self.distribution.items()}
        arrays |= {"raw": self.raw, "action": self.action}
        if self.features is not None:
            arrays["features"] = self.features
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()


def read_golden(data: bytes, card: Card) -> Golden:
    """Reads golden.npz by the card.

    Raises:
        ArtifactError: an array is missing, pickled, or of the wrong shape.
    """
    name = card.parity.file
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            check_arrays(members, MAX_BYTES)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        observations = {spec.name: arrays[f"observation.{spec.name}"] for spec in card.observation_spec}
        distribution = {key: arrays[f"distribution.{key}"] for key in PARAMETERS[card.action.head]}
        golden = Golden(observations, arrays["raw"], distribution, arrays["action"], arrays.get("features"))
    except KeyError as error:
        raise ArtifactError(f"{name}: has no array {error}") from error
    except Exception as error:  # a boundary: hostile bytes make zipfile, zlib and numpy raise anything
        raise ArtifactError(f"{name}: not a file of plain arrays: {error}") from error
    try:
        rows = card.observation_spec.validate(observations)
    except SpecError as error:
        raise ArtifactError(f"{name}: {error}") from error
    fewest = GOLDEN_IMAGE_ROWS if card.observation_spec.has_image else GOLDEN_ROWS
    if rows < fewest:
        raise ArtifactError(
            f"{name}: {rows} observations; at least {fewest} are needed to tell one policy from another"
        )
    _check_variety(observations, rows, card, name)
    widths = {**card.action.outputs(), "action": 3}
    answers = {"raw": golden.raw, **golden.distribution, "action": golden.action}
    for label, array in answers.items():
        shape = (rows, widths[label])
        if array.shape != shape or array.dtype != np.float32:
            raise ArtifactError(f"{name}: {label} is {array.dtype}{list(array.shape)}, expected float32{list(shape)}")
    return golden


def _check_variety(observations: Mapping[str, Array], rows: int, card: Card, name: str) -> None:
    """Refuses observations that mostly repeat, which show nothing, unless the spec allows only few different ones."""
    different = len({b"".join(array[row].tobytes() for array in observations.values()) for row in range(rows)})
    choices = 0.0  # bits
    for spec in card.observation_spec:
        each = np.log2(np.broadcast_to(spec.highs.astype(np.float64) - spec.lows + 1, spec.shape))
        choices += float(each.sum()) if spec.dtype == "uint8" or spec.choices or not each.any() else np.inf
    if different < min(rows, 2 ** min(choices, 32.0)) / 2:
        raise ArtifactError(
            f"{name}: only {different} of its {rows} observations differ from each other, fewer than half"
        )


def largest_difference(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The largest absolute difference over arrays of the same names."""
    return max(float(np.abs(actual[key].astype(np.float64) - expected[key]).max()) for key in expected)


def check_parity(
    actual: Mapping[str, Array], expected: Mapping[str, Array], atol: float, rtol: float, what: str
) -> None:
    """Raises ParityError unless every |actual - expected| <= atol + rtol * |expected|; names the worst row."""
    for key, wanted in expected.items():
        got = actual[key]
        excess = np.abs(got.astype(np.float64) - wanted) - (atol + rtol * np.abs(wanted))
        bad = ~(excess <= 0)  # also true for a NaN
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise ParityError(
                f"{what}: {key} of row {row} is {got[row].tolist()} here, but the trained policy gave "
                f"{wanted[row].tolist()} (tolerance {atol:g} + {rtol:g} · |value|); {int(bad.any(axis=-1).sum())} of "
                f"{len(wanted)} rows differ"
            )
