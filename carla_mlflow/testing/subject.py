"""A policy under test: its engine, the test rows, and its answer to each row alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.artifact import Artifact, open_artifact
from ..contract.actions import Actions
from ..contract.memory import RESET
from ..errors import SpecError
from ..inference.engine import Engine
from ..inference.rollouts import with_seen_states

ROWS, IMAGE_ROWS = 300, 12
Batch = dict[str, NDArray[Any]]


class FailedError(AssertionError):
    """A check failed; the text says what was seen."""


def expect(holds: object, seen: str) -> None:
    """Raises FailedError with the text `seen`, unless `holds` is true."""
    if not holds:
        raise FailedError(seen)


@dataclass
class Subject:
    """A policy on one backend.

    Attributes:
        engine: with the loaded policy.
        artifact: from which it was loaded.
        trusted: types that its preprocessor may hold beyond TRUSTED_TYPES.
    """

    engine: Engine
    artifact: Artifact
    trusted: Sequence[str] = field(default=())

    @classmethod
    def open(
        cls, folder: str | Path, backend: str = "card", device: str = "cpu", trusted: Sequence[str] = ()
    ) -> Subject:
        """Opens an artifact's folder.

        Args:
            folder: of the artifact.
            backend: `torchscript`, `onnx`, `openvino`, or `card` for the one that the card names.
            device: see `select_device`.
            trusted: types that its preprocessor may hold beyond TRUSTED_TYPES.

        Raises:
            ArtifactError: the artifact is invalid.
        """
        artifact = open_artifact(folder)
        return cls(Engine(artifact, device, backend, trusted), artifact, trusted)

    @cached_property
    def observations(self) -> Batch:
        """Uniform rows, and rows at the bounds, the same each time; fewer for images, to save time.

        Of a policy with a memory, `reset` and the states are among them; one row in eight begins an episode.
        """
        rng = np.random.default_rng(3)
        half = (IMAGE_ROWS if self.engine.specs.has_image else ROWS) // 2
        inputs = with_seen_states(self.artifact.card.graph_inputs, self.engine.golden)
        rows = {spec.name: np.concatenate([spec.sample(rng, half), spec.corners(rng, half)]) for spec in inputs}
        if self.states:
            rows[RESET] = (rng.random(2 * half) < 1 / 8).astype(np.float32)
        return rows

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states; none without a memory."""
        return tuple(self.artifact.card.states)

    def act(self, batch: Batch, **how: Any) -> Actions:
        """The engine's answer to some of the rows, with their states."""
        if not self.states:
            return self.engine.act(batch, **how)
        memory = {name: batch[name] for name in self.states}
        observed = {name: array for name, array in batch.items() if name not in memory and name != RESET}
        return self.engine.act(observed, state=memory, reset=batch[RESET], **how)

    @cached_property
    def alone(self) -> list[bytes]:
        """The answer to each row as a batch of its own."""
        return [self.bits([row])[0] for row in range(self.count)]

    @property
    def count(self) -> int:
        return len(next(iter(self.observations.values())))

    def take(self, rows: Sequence[int]) -> Batch:
        """Some of the rows, in that order."""
        return {name: array[list(rows)] for name, array in self.observations.items()}

    def bits(self, rows: Sequence[int], observations: Batch | None = None, **how: Any) -> list[bytes]:
        """All bits of the answers to some rows, as one byte string per row."""
        actions = self.act(self.take(rows) if observations is None else observations, **how)
        return bits_of_rows(actions)


def bits_of_rows(actions: Actions) -> list[bytes]:
    """All bits of the answer to each row."""
    parts = [actions.control, actions.raw, *actions.distribution.values(), *actions.state.values()]
    as_bytes = [np.ascontiguousarray(part.reshape(len(part), -1)).view(np.uint8) for part in parts]
    return [row.tobytes() for row in np.concatenate(as_bytes, axis=1)]


def refusal_of(subject: Subject, batch: Batch, **how: Any) -> SpecError:
    """The error with which the engine refuses a batch; raises FailedError when it answers."""
    try:
        subject.act(batch, **how)
    except SpecError as error:
        return error
    expect(False, "something that does not fit the spec was answered")
    raise AssertionError  # never reached: `expect` has raised
