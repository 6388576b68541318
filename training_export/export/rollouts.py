"""The reference of a policy with a memory: rollouts in which the trained policy carries its own states."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import UnsetType
from numpy.typing import NDArray

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.artifact.rollouts import EPISODES, STEPS, Rollouts, next_key
from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.card_rules import MAX_FREE_RUNNING
from carla_mlflow.contract.card_sections import Parity
from carla_mlflow.contract.field_card import observation_spec
from carla_mlflow.contract.memory import RESET, Memory
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import ExportError
from carla_mlflow.inference.engine import Engine
from carla_mlflow.look import bar
from training_export.export.noise import MARGIN, InFloat64, Noise, chooses, decided, measure_noise, round_up
from training_export.sources.trained import Arrays, TrainedPolicy, stack

BATCHES = 8
"""Batches of EPISODES rollouts of STEPS steps: 1,024 observations."""
COARSE = 8
"""The edge of the squares of one value in the first batch's images, which golden.npz would else hold incompressible."""
FREE_BATCHES = 2
"""Batches on which the difference of freely running rollouts is measured."""


@dataclass(frozen=True)
class ReferenceRollouts:
    """The trained policy's rollouts; as ReferenceAnswers.

    Attributes:
        answers: by batch, without observations, which `rollout_batches` reproduces.
        decided: by batch, the rollouts that are compared: those in which no choice is too close to call.
        golden: the rollouts for golden.npz.
        noise: how far the trained policy differs from itself in one step.
        parity: the tolerances for a graph.
        drift: how far the trained policy, running freely, differs from itself.
    """

    answers: list[Golden]
    decided: list[NDArray[np.intp]]
    golden: Golden
    noise: Noise
    parity: Parity
    drift: float

    @property
    def rows(self) -> int:
        """The number of observations that are compared."""
        return sum(len(episodes) for episodes in self.decided) * STEPS

    @property
    def left_out(self) -> int:
        """The number of observations that are not compared."""
        return EPISODES * STEPS * len(self.decided) - self.rows


def rollout_batches(specs: ObservationSpec, driving: Arrays | None) -> Iterator[dict[str, NDArray[Any]]]:
    """BATCHES of EPISODES · STEPS observations, row `episode * STEPS + step`; the same every time.

    Of each four rollouts one is from driving; without observations from driving, it changes slowly from one observation
    to another, as a second one does. The third jumps between the bounds, and the fourth is uniform at every step.
    """
    for batch in range(BATCHES):
        rng = np.random.default_rng(batch)
        parts = [_driven(specs, driving, rng)]
        parts.append({spec.name: _slow(spec, rng) for spec in specs})
        parts.append({spec.name: spec.corners(rng, STEPS) for spec in specs})
        parts.append({spec.name: spec.sample(rng, STEPS) for spec in specs})
        rows = stack(specs, list(parts))
        yield {spec.name: _coarse(spec, rows[spec.name]) for spec in specs} if batch == 0 else rows


def _driven(specs: ObservationSpec, driving: Arrays | None, rng: np.random.Generator) -> Arrays:
    if driving is None or len(driving[specs[0].name]) < STEPS:
        return {spec.name: _slow(spec, rng) for spec in specs}
    start = int(rng.integers(0, len(driving[specs[0].name]) - STEPS + 1))
    return {spec.name: _fit(spec, driving[spec.name][start : start + STEPS]) for spec in specs}


def reference_rollouts(trained: TrainedPolicy, stated: Parity | None = None) -> ReferenceRollouts:
    """Runs the trained policy on `rollout_batches`, and measures how far it differs from itself.

    Args:
        trained: the policy, with a memory.
        stated: the author's tolerance of one step; None measures one.

    Raises:
        ExportError: it does not use its memory; or it chooses from a table, and in most rollouts some choice is too
            close to call.
    """
    specs = observation_spec(trained.observation)
    shown = bar("running the trained policy", BATCHES, "batch", rollout_batches(specs, trained.driving))
    answers, drift = [], 0.0
    for index, observations in enumerate(shown):
        answer = run_trained(trained, observations, resets())
        if index == 0:
            noise = measure_noise(trained, trained.inputs, answer.inputs)
        if index < (1 if specs.is_large else FREE_BATCHES):
            drift = max(drift, _drift(trained, answer))
        answers.append(answer)
    parity = _with_free_running(stated or noise.parity, drift)
    clear = [_clear(trained, answer, noise, parity) for answer in answers]
    golden = _golden(answers, clear)
    _check_memory_is_used(trained, golden)
    kept = [dataclasses.replace(answer, observations={}, features=None) for answer in answers]
    return ReferenceRollouts(kept, clear, golden, noise, parity, drift)


def compare_rollouts(engine: Engine, trained: TrainedPolicy, reference: ReferenceRollouts) -> float:
    """The largest difference of an engine from the trained policy in one step.

    Raises:
        ParityError: it is beyond the tolerance, or that of a whole rollout is.
    """
    largest = 0.0
    for (answer, observations), episodes in zip(_each(trained, reference.answers), reference.decided, strict=True):
        if len(episodes):
            whole = dataclasses.replace(answer, observations=observations)
            largest = max(largest, engine.compare(_picked([whole], [episodes])))
    return largest


def run_trained(trained: TrainedPolicy, observations: Arrays, reset: NDArray[np.float32]) -> Golden:
    """The trained policy's rollouts, in which it carries its own states.

    Args:
        trained: the policy.
        observations: name → (episodes · steps, *shape), row `episode * steps + step`.
        reset: (episodes, steps), 1.0 where an episode begins.
    """
    shape = Rollouts(len(reset), reset.reshape(-1), {}, {})
    columns = {name: shape.by_step(array) for name, array in {**observations, RESET: shape.reset}.items()}
    state: Arrays = Memory(trained.states).initial(len(reset))
    steps = []
    for step in range(shape.steps):
        answer = trained.answer({name: arrays[step] for name, arrays in columns.items()} | dict(state))
        state = _rollouts(answer).next
        steps.append(answer.arrays())
    rows = {key: np.stack([one[key] for one in steps], axis=1) for key in steps[0]}
    return Golden.of_arrays({key: array.reshape(-1, *array.shape[2:]) for key, array in rows.items()}, shape.episodes)


def resets() -> NDArray[np.float32]:
    """(EPISODES, STEPS): where episodes begin. In every other rollout one begins half-way, so that it has to forget."""
    reset = np.zeros((EPISODES, STEPS), dtype=np.float32)
    reset[:, 0] = reset[1::2, STEPS // 2] = 1.0
    return reset


def _rollouts(answer: Golden) -> Rollouts:
    assert answer.rollouts is not None  # of a policy with a memory
    return answer.rollouts


def _picked(answers: list[Golden], episodes: list[NDArray[np.intp]]) -> Golden:
    """Some rollouts of each of several batches, as one."""
    parts = [
        {key: _rollouts(answer).split(array)[picked] for key, array in answer.arrays().items()}
        for answer, picked in zip(answers, episodes, strict=True)
    ]
    rows = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    count = sum(len(picked) for picked in episodes)
    return Golden.of_arrays({key: array.reshape(-1, *array.shape[2:]) for key, array in rows.items()}, count)


def _golden(answers: list[Golden], clear: list[NDArray[np.intp]]) -> Golden:
    """The first EPISODES rollouts without a choice that is too close to call."""
    picked, left = [], EPISODES
    for episodes in clear:
        picked.append(episodes[:left])
        left -= len(picked[-1])
    if left:
        raise ExportError(
            f"the policy's choice is clear throughout in only {EPISODES - left} of {BATCHES * EPISODES} rollouts of "
            f"{STEPS} steps: in the others rounding alone could change which of its best two choices is taken. Check "
            "that it was trained, and that the observation's bounds are those of training"
        )
    used = [(answer, episodes) for answer, episodes in zip(answers, picked, strict=True) if len(episodes)]
    return _picked([answer for answer, _ in used], [episodes for _, episodes in used])


def _check_memory_is_used(trained: TrainedPolicy, golden: Golden) -> None:
    """Raises ExportError when every answer of the rollouts is that of an episode which begins at that step."""
    begun = {RESET: np.ones_like(_rollouts(golden).reset)}
    going_on, beginning = (trained.answer(inputs).answers for inputs in (golden.inputs, golden.inputs | begun))
    states = set(map(next_key, trained.states))
    if all(np.array_equal(going_on[name], beginning[name]) for name in going_on.keys() - states):
        raise ExportError(
            f"this network does not use its memory: over {len(golden.raw)} steps it answers whatever "
            f"{', '.join(trained.states)} may hold as it does where an episode begins. Leave `state` out of the card, "
            "and the states out of the network's arguments and results"
        )


def _each(trained: TrainedPolicy, answers: list[Golden]) -> Iterator[tuple[Golden, dict[str, NDArray[Any]]]]:
    return zip(answers, rollout_batches(observation_spec(trained.observation), trained.driving), strict=True)


def _clear(trained: TrainedPolicy, answer: Golden, noise: Noise, parity: Parity) -> NDArray[np.intp]:
    """The rollouts in which no choice is so close that rounding, added up, might change it."""
    assert not isinstance(parity.free_running, UnsetType)
    rows = decided(trained, answer.observations, answer, noise, Parity(atol=max(parity.atol, parity.free_running)))
    return np.flatnonzero(_rollouts(answer).split(rows).all(axis=1))


def _drift(trained: TrainedPolicy, together: Golden) -> float:
    """The largest difference between the actions of rollouts run together and run one by one, or in float64."""
    rollouts = _rollouts(together)
    reset, alone = rollouts.split(rollouts.reset), []
    for episode in range(rollouts.episodes):
        observations = {name: rollouts.split(array)[episode] for name, array in together.observations.items()}
        alone.append(_acts(trained, run_trained(trained, observations, reset[episode : episode + 1])))
    others = [{name: np.concatenate([one[name] for one in alone]) for name in alone[0]}]
    with contextlib.suppress(Exception), InFloat64():  # type: ignore[no-untyped-call]  # a network may require float32
        others.append(_acts(trained, run_trained(trained, together.observations, reset)))
    wanted = _acts(trained, together)
    apart = [np.nan_to_num(np.abs(other[name] - wanted[name]), posinf=0.0) for other in others for name in wanted]
    return max((float(array.max()) for array in apart), default=0.0)


def _acts(trained: TrainedPolicy, answer: Golden) -> dict[str, NDArray[np.float64]]:
    """The numbers of an answer without the next states; of a choice, only those by which it is made."""
    left_out = {next_key(name) for name in trained.states} | ({"raw", "action"} if chooses(trained) else set())
    return {name: array.astype(np.float64) for name, array in answer.answers.items() if name not in left_out}


def _with_free_running(parity: Parity, drift: float) -> Parity:
    wanted = max(round_up(MARGIN * drift), parity.atol) if drift else parity.atol
    return msgspec.structs.replace(parity, free_running=min(wanted, MAX_FREE_RUNNING))


def _slow(spec: ArraySpec, rng: np.random.Generator) -> NDArray[Any]:
    """From one uniform observation to another."""
    start, end = (each.astype(np.float64) for each in spec.sample(rng, 2))
    share = np.linspace(0, 1, STEPS).reshape(-1, *[1] * len(spec.shape))
    return _fit(spec, start + share * (end - start))


def _fit(spec: ArraySpec, values: NDArray[Any]) -> NDArray[Any]:
    whole = np.rint(values) if spec.dtype == "uint8" or spec.has_whole_floats else values
    return np.asarray(np.clip(whole, spec.lows, spec.highs).astype(spec.dtype))


def _coarse(spec: ArraySpec, rows: NDArray[Any]) -> NDArray[Any]:
    """Images in squares of one value each; other arrays as they are."""
    if spec.dtype != "uint8" or len(spec.shape) < 2:
        return rows
    height, width = spec.shape[-2:]
    squares = rows[..., ::COARSE, ::COARSE].repeat(COARSE, axis=-2).repeat(COARSE, axis=-1)
    return _fit(spec, squares[..., :height, :width])
