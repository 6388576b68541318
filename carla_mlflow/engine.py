"""The engine: a loaded policy that turns observations into throttle, brake and steer.

Strict determinism. A matrix product may round differently for another number of rows, so a row's action would
depend on the company it came in. Every forward here therefore has the same shape: rows go through the graph in
tiles of TILE_ROWS, the last one filled up. The same row gives the same bits alone, among 7 or among 256.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .actions import Actions
from .artifact import Artifact, open_artifact
from .backends import Backend, load_backend
from .card_sections import Card
from .control import to_control
from .device import Device, select_device
from .errors import ActionError, ArtifactError, SpecError
from .golden import Golden, check_parity, largest_difference, read_golden
from .heads import MAX_SEED, PARAMETERS, row_generators, sample
from .observations import collect

Float32 = NDArray[np.float32]

TILE_ROWS = 8
WARM_UP_CALLS = 4
"""TorchScript specialises itself during its first calls (measured: 56, 0.7, then 0.04 ms)."""


class Engine:
    """A policy, loaded, verified and warm. Safe to call from several threads."""

    def __init__(self, artifact: Artifact, device: Device) -> None:
        """Loads the graph and shows that it acts as the trained policy did.

        Raises:
            ArtifactError: the graph does not fit the card.
            ParityError: it acts differently here.
        """
        self.card: Card = artifact.card
        self.digest = artifact.digest
        self.pinned = artifact.pinned
        self.device = device
        self.specs = self.card.observation_spec
        self._low, self._high = self.card.raw_bounds
        self._parameters = PARAMETERS[self.card.action.head]
        self._backend = load_backend(self.card.backend, artifact.file_of_backend(self.card.backend), device.name)
        self._golden = read_golden(artifact.files[self.card.parity.file], self.card)
        self._check_graph()
        self.parity_difference = self.verify_parity()

    @classmethod
    def open(cls, path: str | Path, digest: str | None = None, device: str = "auto") -> Engine:
        """Opens a policy artifact from a folder; see `open_artifact` and `select_device`."""
        return cls(open_artifact(Path(path), digest), select_device(device))

    @property
    def backend(self) -> str:
        return self._backend.name

    @property
    def backend_call(self) -> Backend:
        """The graph itself, without checks and tiles: what a benchmark compares with."""
        return self._backend

    @property
    def golden(self) -> Golden:
        return self._golden

    def act(self, observations: Any, deterministic: bool = True, seed: int | None = None) -> Actions:
        """Checks observations and decides.

        Args:
            observations: dict of arrays (batch axis first), DataFrame, or list of dicts; see `collect`.
            deterministic: the head's mode; otherwise one sample a row.
            seed: of the sample, in [0, 2**63); drawn and returned when None.

        Raises:
            SpecError: an observation does not fit the spec; names row and field.
            ActionError: the policy gave a number that is not finite or out of its bounds.
        """
        return self.act_on_arrays(collect(self.specs, observations), deterministic, seed)

    def act_on_arrays(
        self, arrays: dict[str, NDArray[Any]], deterministic: bool = True, seed: int | None = None
    ) -> Actions:
        """As `act`, for arrays that `collect` made or that pass `specs.validate`."""
        if not deterministic:
            seed = self._checked_seed(seed)
        inputs = [arrays[name] for name in self.specs.names]
        started = time.perf_counter()
        raw, *parameters = self._forward(inputs)
        inference_ms = (time.perf_counter() - started) * 1e3
        distribution = dict(zip(self._parameters, parameters, strict=True))
        if seed is not None and not deterministic:
            raw = sample(
                self.card.action.head, distribution, self._low, self._high, row_generators(self.digest, seed, inputs)
            )
        self._check_raw(raw)
        control = to_control(self.card.action.control, self.card.raw_names, raw)
        return Actions(control, raw, distribution, None if deterministic else seed, inference_ms)

    def verify_parity(self) -> float:
        """Runs golden.npz; returns the largest difference from the trained policy, or raises ParityError."""
        return self.compare(self._golden)

    def compare(self, trained: Golden) -> float:
        """As `verify_parity`, for any answers of the trained policy."""
        actions = self.act_on_arrays(trained.observations)
        actual = {"raw": actions.raw, "action": actions.control} | actions.distribution
        expected = {"raw": trained.raw, "action": trained.action} | trained.distribution
        parity = self.card.parity
        check_parity(actual, expected, parity.atol, parity.rtol, f"{self.card.name} {self.card.version}")
        return largest_difference(actual, expected)

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

    def _checked_seed(self, seed: int | None) -> int:
        if self.card.action.head == "deterministic":
            raise SpecError("deterministic", "this policy has no distribution to sample from")
        if seed is None:
            return secrets.randbelow(2**53)  # as large as a JSON reader keeps exact
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= MAX_SEED:
            raise SpecError("seed", "expected a whole number from 0 to 2**63 - 1")
        return int(seed)

    def _forward(self, inputs: list[NDArray[Any]]) -> list[Float32]:
        rows = len(inputs[0])
        missing = -rows % TILE_ROWS
        if missing:
            # Filled with the last row rather than zeros, which may lie outside what the policy was trained on.
            inputs = [np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for array in inputs]
        tiles = [
            self._backend([array[start : start + TILE_ROWS] for array in inputs])
            for start in range(0, rows + missing, TILE_ROWS)
        ]
        if len(tiles) == 1:
            return [output[:rows] for output in tiles[0]]
        return [np.concatenate(outputs)[:rows] for outputs in zip(*tiles, strict=True)]

    def _check_raw(self, raw: Float32) -> None:
        inside = (raw >= self._low) & (raw <= self._high)  # False for a NaN
        if not inside.all():
            row = int(np.argwhere(~inside)[0][0])
            raise ActionError(f"row {row}: the policy's raw action is not finite or leaves its bounds")

    def _check_graph(self) -> None:
        example = [array for array in self.specs.example(TILE_ROWS).values()]
        try:
            outputs = self._backend(example)
        except (RuntimeError, AttributeError) as error:  # AttributeError: it returned something other than tensors
            raise ArtifactError(f"the graph does not take or give what the card says: {_last_line(error)}") from error
        names = ("raw", *self._parameters)
        shape = (TILE_ROWS, len(self.card.action.raw))
        found = [(output.shape, output.dtype.name) for output in outputs]
        if found != [(shape, "float32")] * len(names):
            raise ArtifactError(f"the graph returns {found}, but the head needs float32 {shape} for each of {names}")


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
