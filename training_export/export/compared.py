"""Compares an exported graph with the trained policy, on observations of which some become the golden rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.artifact.golden import GOLDEN_IMAGE_ROWS, GOLDEN_ROWS, Golden
from carla_mlflow.contract.card_sections import Parity
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import ExportError
from carla_mlflow.inference.engine import Engine
from carla_mlflow.look import bar
from training_export.export.noise import Noise, decided, measure_noise
from training_export.sources.trained import Arrays, TrainedPolicy, stack

COMPARED_ROWS = 1024
MAX_BYTES = 32 * 2**20
"""The limit of observations in memory at once: images are compared batch by batch."""
Valid = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]


def compared_batches(
    specs: ObservationSpec, driving: Arrays | None, valid: Valid | None = None
) -> Iterator[dict[str, NDArray[Any]]]:
    """COMPARED_ROWS observations in batches: half of each from driving, a quarter at the bounds, a quarter uniform.

    Without observations from driving that half is uniform too. The batches are the same every time. `valid` is a
    TrainedPolicy's.
    """
    rows = _rows_at_once(specs)
    for batch in range(COMPARED_ROWS // rows):
        rng = np.random.default_rng(batch)
        half, quarter = rows // 2, rows // 4
        if driving is None:
            first: Arrays = {spec.name: spec.sample(rng, half) for spec in specs}
        else:
            seen = len(driving[specs[0].name])
            picked = rng.choice(seen, half, replace=seen < half)
            first = {spec.name: np.clip(driving[spec.name][picked], spec.lows, spec.highs) for spec in specs}
        corners = {spec.name: spec.corners(rng, quarter) for spec in specs}
        uniform = {spec.name: spec.sample(rng, quarter) for spec in specs}
        drawn = stack(specs, [first, corners, uniform])
        yield drawn if valid is None else valid(drawn)


def _rows_at_once(specs: ObservationSpec) -> int:
    row_bytes = sum(spec.generate_value().nbytes for spec in specs)
    rows = COMPARED_ROWS
    while rows > 4 and rows * row_bytes > MAX_BYTES:
        rows //= 2
    return rows


@dataclass(frozen=True)
class ReferenceAnswers:
    """The trained policy's answers.

    Attributes:
        answers: one per batch of `compared_batches`, without its observations, which that function reproduces.
        decided: by batch, the rows that are compared: all but those whose best two choices lie within the tolerance.
        golden: evenly spaced rows of the first batches, so that the proportions of their kinds are kept.
        noise: how far the trained policy differs from itself.
        parity: the tolerance for a graph.
    """

    answers: list[Golden]
    decided: list[NDArray[np.bool_]]
    golden: Golden
    noise: Noise
    parity: Parity

    @property
    def rows(self) -> int:
        """The number of observations that are compared."""
        return sum(int(rows.sum()) for rows in self.decided)

    @property
    def left_out(self) -> int:
        """The number of observations that are not compared."""
        return sum(len(rows) for rows in self.decided) - self.rows


def reference_answers(trained: TrainedPolicy, specs: ObservationSpec, stated: Parity | None = None) -> ReferenceAnswers:
    """Runs the trained policy on `compared_batches`, and measures its noise.

    Args:
        trained: the policy.
        specs: of its observations.
        stated: the author's tolerance; None measures one.

    Raises:
        ExportError: it chooses, and its best two choices rarely differ by more than its noise.
    """
    wanted = GOLDEN_IMAGE_ROWS if specs.has_image else GOLDEN_ROWS
    batches = COMPARED_ROWS // _rows_at_once(specs)
    each, taken = max(4, wanted // batches), 0
    answers: list[Golden] = []
    golden: list[Golden] = []
    decisions: list[NDArray[np.bool_]] = []
    noise = measure_noise(trained, specs, next(compared_batches(specs, trained.driving, trained.valid)))
    parity = stated or noise.parity
    compared = compared_batches(specs, trained.driving, trained.valid)
    shown = bar("running the trained policy", batches, "batch", compared)
    for index, batch in enumerate(shown):
        answer = trained.answer(batch)
        rows = decided(trained, batch, answer, noise, parity)
        if index == 0:
            rows &= ~noise.flips
        usable = np.flatnonzero(rows)
        count = min(each, len(usable))
        if taken < wanted and count:
            golden.append(_pick(answer, usable[np.arange(count) * len(usable) // count]))
            taken += count
        answers.append(replace(answer, observations={}, features=None))
        decisions.append(rows)
    if taken < wanted:
        raise ExportError(
            f"the policy's choice is clear in only {sum(int(rows.sum()) for rows in decisions)} of {COMPARED_ROWS:,} "
            "observations: elsewhere rounding alone could change which of its best two choices is taken. Check that it "
            "was trained, and that the observation's bounds are those of training"
        )
    return ReferenceAnswers(answers, decisions, _join(golden), noise, parity)


def compare(engine: Engine, trained: TrainedPolicy, reference: ReferenceAnswers) -> float:
    """The largest difference of an engine from the trained policy; raises ParityError beyond the tolerance."""
    batches = compared_batches(engine.specs, trained.driving, trained.valid)
    each = zip(batches, reference.answers, reference.decided, strict=True)
    largest = 0.0
    for batch, answer, rows in bar(f"comparing {engine.backend}", len(reference.answers), "batch", each):
        if rows.any():
            largest = max(largest, engine.compare(_pick(replace(answer, observations=batch), np.flatnonzero(rows))))
    return largest


def _pick(answers: Golden, rows: NDArray[np.intp]) -> Golden:
    return Golden(
        {name: array[rows] for name, array in answers.observations.items()},
        answers.raw[rows],
        {name: array[rows] for name, array in answers.distribution.items()},
        answers.action[rows],
        None if answers.features is None else answers.features[rows],
    )


def _join(parts: list[Golden]) -> Golden:
    features = [part.features for part in parts if part.features is not None]
    return Golden(
        {name: np.concatenate([p.observations[name] for p in parts]) for name in parts[0].observations},
        np.concatenate([part.raw for part in parts]),
        {name: np.concatenate([p.distribution[name] for p in parts]) for name in parts[0].distribution},
        np.concatenate([part.action for part in parts]),
        np.concatenate(features) if features else None,
    )
