"""The engine: a loaded policy that turns observations into throttle, brake and steer, or what its card names.

In deterministic mode the same row gives the same bits alone, among 7 or among 256 rows, and under concurrent load
(see `batch_shapes`); a sampled action depends on digest, seed, observation and state only (see `sampling`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UnsetType
from numpy.typing import NDArray

from ..artifact.artifact import Artifact, open_artifact
from ..artifact.golden import Golden, check_parity, largest_difference, read_golden
from ..backends.backend import Backend
from ..backends.device import select_device
from ..backends.loading import LoadedGraph, load_graph
from ..contract.actions import Actions, check_budget, fallback_actions
from ..contract.card import Card
from ..contract.control import controller
from ..contract.control_kinds import CONTROL_NAMES
from ..contract.heads import sample
from ..contract.memory import RESET, States, next_name
from ..contract.observations import as_arrays
from ..contract.running_episode import Episode, local_episode
from ..contract.strict_yaml import CARD_NAME
from ..errors import ActionError, SpecError
from .batch_shapes import WARM_UP_CALLS, PaddedRunner
from .output_check import OutputCheck
from .rollouts import answers_of, run_freely, with_seen_states
from .sampling import checked_seed, row_generators
from .unpadded_runner import UnpaddedRunner

Float32 = NDArray[np.float32]


class Engine:
    """A loaded policy, verified to act as the trained one did. Safe to call from several threads.

    A policy with a memory keeps nothing here: `act` returns the state for the next step, and takes it back there.

    Attributes:
        card: of the artifact.
        card_bytes: model_card.yaml as it lies in the artifact; the digest is their hash.
        digest: of the artifact.
        pinned: whether the caller gave the digest, so that no other artifact could be loaded.
        device: the chosen device, and why.
        parity_difference: the largest difference from the trained policy on golden.npz.
        unusable_actions: how many batches failed because the policy computed an unusable number.
    """

    def __init__(
        self,
        artifact: Artifact,
        device: str = "auto",
        backend: str = "card",
        trusted: Sequence[str] = (),
        strict: bool = True,
    ) -> None:
        """Loads the graph and checks that it acts as the trained policy did.

        Args:
            artifact: from `open_artifact` or `seal`.
            device: auto, cpu, cuda or cuda:N; see `select_device`.
            backend: `torchscript`, `onnx`, `openvino`, or `card` for the one that the card names.
            trusted: types that preprocessor.skops may hold beyond TRUSTED_TYPES, when it runs outside the graph.
            strict: False runs every batch in one call; its bits then depend on the batch.

        Raises:
            ArtifactError: the graph does not fit the card.
            ParityError: it acts differently here than the trained policy did.
            DeviceError: a device requested by name is missing.
        """
        self.card: Card = artifact.card
        self.digest, self.pinned = artifact.digest, artifact.pinned
        self.card_bytes = artifact.files[CARD_NAME]
        self.specs = self.card.observation_spec
        name = self.card.backend if backend == "card" else backend
        self.device = select_device(device, name)
        self.unusable_actions = 0
        self._outputs = self.card.action.outputs()
        self._width = sum(self._outputs.values())
        self._names = self.card.action.control_names
        self._control = controller(self.card.action)
        self._memory = self.card.memory
        self._is_plain = self._memory is None and self._names == CONTROL_NAMES  # whose Actions need not say more
        elements = {next_name(name): math.prod(state.shape) for name, state in self.card.states.items()}
        self._output_check = OutputCheck(self.card.action, elements)
        self._fields = [(spec.name, np.dtype(spec.dtype), spec.shape) for spec in self.specs]
        graph = load_graph(artifact, name, self.device.name, trusted)
        self._golden = read_golden(artifact.files[self.card.parity.file], self.card)
        self._inputs = with_seen_states(self.card.graph_inputs, self._golden)
        self._deciding = (*self.specs.names, *self.card.states)
        self._backend = graph.backend
        self._runner: PaddedRunner | UnpaddedRunner = (
            self._padded_runner(graph) if strict else UnpaddedRunner(graph.backend, self._inputs, graph.features)
        )
        self.parity_difference = self.verify_parity()

    def _padded_runner(self, graph: LoadedGraph) -> PaddedRunner:
        width = self._width + (0 if self._memory is None else self._memory.size)
        golden = self._golden
        return PaddedRunner(graph.backend, self._inputs, width, graph.features, golden.inputs, self._memory is not None)

    @classmethod
    def open(cls, path: str | Path, digest: str | None = None, **options: Any) -> Engine:
        """Opens a policy artifact from a folder; see `open_artifact` and the constructor's options."""
        return cls(open_artifact(path, digest), **options)

    def __repr__(self) -> str:
        where = f"{self.backend} on {self.device.name}"
        return f"<Engine {self.card.name} {self.card.version}, {where}, {self.digest[:19]}…>"

    @property
    def backend(self) -> str:
        return self._backend.name

    @property
    def backend_call(self) -> Backend:
        """The graph itself, without checks and fixed batch shapes, for benchmarks to compare with."""
        return self._backend

    @property
    def tile_rows(self) -> tuple[int, ...]:
        """The batch shapes in use, in rows, verified to give the same bits here; empty when not strict."""
        return self._runner.shapes

    @property
    def golden(self) -> Golden:
        return self._golden

    def act(
        self,
        observations: Any,
        deterministic: bool = True,
        seed: int | None = None,
        budget_ms: float | None = None,
        state: Mapping[str, Any] | None = None,
        reset: Any = None,
    ) -> Actions:
        """Checks observations and computes actions.

        Args:
            observations: dict of arrays (batch axis first), DataFrame, or list of dicts; see `as_arrays`.
            deterministic: the head's mode (or mean, as the card says); otherwise one sample per row.
            seed: of the sample, in [0, 2**63); drawn and returned when None.
            budget_ms: after how many milliseconds an action is late; the card's fallback is then returned, with
                `fallback` set. The forward pass is not interrupted.
            state: `Actions.state` of the step before, of a policy with a memory: name → float32 (B, *shape). None:
                every row begins an episode.
            reset: (B,) bool or float, rows that begin an episode although a state is given.

        Raises:
            SpecError: an observation or a state does not fit the spec, the policy has no memory, or the budget is
                invalid; names row and field.
            ActionError: the policy computed a number that is not finite or out of its bounds.
        """
        began = time.perf_counter()
        check_budget(budget_ms)
        seed = None if deterministic else self._seed(seed)
        rows = self._rows_as_they_are(observations)
        if not rows:
            observations = as_arrays(self.specs, observations)
            rows = self.specs.count(observations)
        entered = None
        if self._memory is not None or state is not None or reset is not None:
            observations, entered = self._enter(observations, rows, state, reset)
        gathered = time.perf_counter()
        forward = self._runner.forward(observations, rows)
        ran = time.perf_counter()
        control, raw, distribution = self._decide(forward.outputs, observations, seed)
        check_ms, inference_ms = (gathered - began + forward.check_s) * 1e3, forward.forward_s * 1e3
        ended = time.perf_counter()
        if budget_ms is not None and (ended - began) * 1e3 >= budget_ms:
            return fallback_actions(self.card.action, rows, entered)
        control_ms = (ended - ran) * 1e3
        if self._is_plain:
            return Actions(control, raw, distribution, seed, check_ms, inference_ms, control_ms)
        following = {} if self._memory is None else self._memory.split(forward.outputs[:, self._width :])
        timing = (check_ms, inference_ms, control_ms)
        return Actions(control, raw, distribution, seed, *timing, state=following, names=self._names)

    def start_episode(self, episode_id: str | None = None) -> Episode:
        """Begins an episode, such as one route of one car, in which the policy keeps its memory and history.

        Args:
            episode_id: 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`; None: a new, random one.

        Raises:
            SpecError: the id is not such a text.
        """
        return local_episode(self, episode_id)

    def verify_parity(self, rows: int | None = None) -> float:
        """Runs golden.npz, or its first rows; returns the largest difference from the trained policy.

        Raises:
            ParityError: it is larger than the card allows.
        """
        return self.compare(self._golden if rows is None else self._golden.first(rows))

    def compare(self, trained: Golden) -> float:
        """As `verify_parity`, for any answers of the trained policy.

        With a memory, each row first starts from the trained policy's state; then this policy runs whole rollouts.
        """
        name, parity = f"{self.card.name} {self.card.version}", self.card.parity
        actual = answers_of(self.act(trained.observations, **trained.given))
        check_parity(actual, trained.answers, parity.atol, parity.rtol, name)
        if trained.rollouts is not None and not isinstance(parity.free_running, UnsetType):
            free, wanted = run_freely(self.act, trained)
            check_parity(free, wanted, parity.free_running, parity.rtol, f"{name}, running freely")
        return largest_difference(actual, trained.answers)

    def warm_up(self, rows: int = 1, calls: int = WARM_UP_CALLS) -> list[float]:
        """Acts on the golden observations `calls` times and returns each call's time in milliseconds."""
        batch = {
            k: np.ascontiguousarray(np.resize(a, (rows, *a.shape[1:]))) for k, a in self._golden.observations.items()
        }
        timings = []
        for _ in range(calls):
            started = time.perf_counter()
            self.act(batch)
            timings.append((time.perf_counter() - started) * 1e3)
        return timings

    def _rows_as_they_are(self, observations: Any) -> int:
        """The number of rows of a dict of arrays that the graph can take unchanged, else 0; a cheap check."""
        if type(observations) is not dict or len(observations) != len(self._fields):
            return 0
        rows = None
        for name, dtype, shape in self._fields:
            array = observations.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape[1:] != shape or not array.ndim:
                return 0
            if rows is not None and len(array) != rows:
                return 0
            rows = len(array)
        return rows or 0

    def _enter(
        self, observations: dict[str, NDArray[Any]], rows: int, state: Mapping[str, Any] | None, reset: Any
    ) -> tuple[dict[str, NDArray[Any]], States | None]:
        """All inputs of the graph, and the states among them, in which rows that begin have the initial values."""
        if self._memory is None:
            if reset is None and isinstance(state, Mapping) and not state:  # `Actions.state` of such a policy
                return observations, None
            raise SpecError("state", "this policy has no memory: it takes neither state nor reset")
        begins, entered = self._memory.enter(rows, state, reset)
        return {**observations, RESET: begins, **entered}, entered

    def _seed(self, seed: int | None) -> int:
        if self.card.action.head == "deterministic":
            raise SpecError("deterministic", "this policy has no distribution to sample from")
        return checked_seed(seed)

    def _decide(
        self, outputs: Float32, observations: dict[str, NDArray[Any]], seed: int | None
    ) -> tuple[Float32, Float32, dict[str, Float32]]:
        self._check(outputs)
        start, parts = 0, {}
        for name, width in self._outputs.items():
            parts[name] = outputs[:, start : start + width]
            start += width
        raw = parts.pop("raw")
        if seed is not None:
            generators = row_generators(self.digest, seed, [observations[name] for name in self._deciding])
            try:
                raw = sample(self.card.action.head, parts, *self.card.action.bounds, generators)
            except ValueError as error:  # numpy refuses to draw from a Beta with alpha or beta 0
                self.unusable_actions += 1
                raise ActionError(f"the policy's distribution can't be sampled: {error}") from error
            self._check(raw)
        return self._control(raw), raw, parts

    def _check(self, numbers: Float32) -> None:
        try:
            self._output_check.check(numbers)
        except ActionError:
            self.unusable_actions += 1
            raise
