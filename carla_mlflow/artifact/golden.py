"""golden.npz: observations, and the trained policy's answers to them.

Keys: `observation.<name>` (N, *shape), `features` (N, F) from the preprocessor, `distribution.<name>` (N, A or K),
`raw` (N, A), `action` (N, C): throttle, brake, steer, or what the card's policy answers. The exported graph's own
answers are never in it.

Of a policy with a memory it holds rollouts: every array has (episodes, steps, …) instead of (N, …), and there are
`reset`, `state.<name>` and `next.<name>` besides; see `rollouts`. In memory they are rows all the same.
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
from ..contract.memory import RESET
from ..errors import ArtifactError, ParityError, SpecError
from .npz import check_arrays
from .rollouts import Rollouts, next_key, read_rollouts

Array = NDArray[Any]

MAX_BYTES = 1 << 30
GOLDEN_ROWS, GOLDEN_IMAGE_ROWS = 64, 16
"""The fewest observations that golden.npz may hold, without and with images, which take more space."""
MAX_SHOWN = 16
"""The most values of a row in an error; of a longer one, such as a state, only the first that differs is shown."""


@dataclass(frozen=True)
class Golden:
    """The trained policy's answers, all with N rows.

    Attributes:
        features: None when there is no preprocessor.
        rollouts: None when the policy has no memory.
    """

    observations: dict[str, Array]
    raw: Array
    distribution: dict[str, Array]
    action: Array
    features: Array | None = None
    rollouts: Rollouts | None = None

    @property
    def answers(self) -> dict[str, Array]:
        """Raw actions, controls, parameters and next states, by name, as a graph's are compared with them."""
        following = {} if self.rollouts is None else self.rollouts.next
        answers = {"raw": self.raw, "action": self.action} | self.distribution
        return answers | {next_key(name): array for name, array in following.items()}

    @property
    def given(self) -> dict[str, Any]:
        """What `Engine.act` takes besides the observations: `state` and `reset` of a policy with a memory."""
        return {} if self.rollouts is None else {"state": self.rollouts.state, "reset": self.rollouts.reset}

    @property
    def inputs(self) -> dict[str, Array]:
        """All that the graph takes by name: observations and, with a memory, `reset` and states."""
        rollouts = self.rollouts
        return self.observations if rollouts is None else self.observations | {RESET: rollouts.reset} | rollouts.state

    def first(self, rows: int) -> Golden:
        """The first `rows` rows, without `features`; of a policy with a memory, the first steps of its rollouts."""
        if (rollouts := self.rollouts) is not None:
            steps = max(1, rows // rollouts.episodes)
            cut = {key: rollouts.split(array)[:, :steps] for key, array in self.arrays().items()}
            shorter = {key: array.reshape(-1, *array.shape[2:]) for key, array in cut.items()}
            return Golden.of_arrays(shorter, rollouts.episodes)
        observations = {name: array[:rows] for name, array in self.observations.items()}
        distribution = {name: array[:rows] for name, array in self.distribution.items()}
        return Golden(observations, self.raw[:rows], distribution, self.action[:rows])

    def arrays(self) -> dict[str, Array]:
        """All arrays as rows, under their names in golden.npz."""
        arrays = {f"observation.{name}": array for name, array in self.observations.items()}
        arrays |= {f"distribution.{name}": array for name, array in self.distribution.items()}
        arrays |= {"raw": self.raw, "action": self.action}
        if self.features is not None:
            arrays["features"] = self.features
        return arrays if self.rollouts is None else arrays | self.rollouts.arrays()

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Array], episodes: int = 0) -> Golden:
        """From `arrays`; with a memory, of that many rollouts."""

        def part(kind: str) -> dict[str, Array]:
            start = f"{kind}."
            return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}

        rollouts = Rollouts(episodes, arrays[RESET], part("state"), part("next")) if episodes else None
        observed, distribution = part("observation"), part("distribution")
        return cls(observed, arrays["raw"], distribution, arrays["action"], arrays.get("features"), rollouts)

    def to_bytes(self) -> bytes:
        """As golden.npz, compressed."""
        arrays = self.arrays()
        if self.rollouts is not None:
            arrays = {key: self.rollouts.split(array) for key, array in arrays.items()}
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
        arrays, rollouts = read_rollouts(arrays, card) if card.memory is not None else (arrays, None)
        observations = {spec.name: arrays[f"observation.{spec.name}"] for spec in card.observation_spec}
        distribution = {key: arrays[f"distribution.{key}"] for key in PARAMETERS[card.action.head]}
        golden = Golden(observations, arrays["raw"], distribution, arrays["action"], arrays.get("features"), rollouts)
    except ArtifactError:
        raise
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
    widths = {**card.action.outputs(), "action": len(card.action.control_names)}
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
        got, wanted = (array.reshape(len(array), -1) for array in (actual[key], wanted))
        excess = np.abs(got.astype(np.float64) - wanted) - (atol + rtol * np.abs(wanted))
        bad = ~(excess <= 0)  # also true for a NaN
        if bad.any():
            row, first = (int(place) for place in np.argwhere(bad)[0])
            part = slice(None) if got.shape[1] <= MAX_SHOWN else slice(first, first + 1)
            raise ParityError(
                f"{what}: {key} of row {row} is {got[row, part].tolist()} here, but the trained policy gave "
                f"{wanted[row, part].tolist()} (tolerance {atol:g} + {rtol:g} · |value|); "
                f"{int(bad.any(axis=-1).sum())} of {len(wanted)} rows differ"
            )
