"""Rows in a ring as a worker leaves them, with what a policy really answers, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from carla_mlflow import Artifact, Engine
from serve.record.blocks import write_policy
from serve.record.machine import engine_note
from serve.record.packed import PACK, Forwards, Memory, Packed, float64s, int32s, joined
from serve.record.ring import ACTED, OBSERVED
from serve.record.ring_writer import RingWriter
from serve.record.schema import OUTCOMES

BEGAN_NS = 1_700_000_000_000_000_000
"""When the first row came."""


class Worker:
    """Writes rows into a ring of its own."""

    def __init__(self, folder: Path, artifact: Artifact, engine: Engine, capacity: int = 4 << 20) -> None:
        self.ring = RingWriter(folder, capacity)
        self._digest, self._card, self._engine = artifact.digest.removeprefix("sha256:"), artifact.card, engine
        note = engine_note(engine.backend, engine.device.name)
        write_policy(folder, self._digest, artifact.files["model_card.yaml"], "keep", note)

    def answers(
        self,
        observations: dict[str, np.ndarray],
        times: Sequence[int],
        episodes: Sequence[str | None] | None = None,
        frames: Sequence[int] | None = None,
        outcome: str = "policy",
    ) -> np.ndarray:
        """Puts what the policy answers into the ring, one request a row; returns the actions.

        Args:
            observations: each (B, *shape).
            times: B, in seconds after BEGAN_NS.
            episodes: B ids.
            frames: B steps of the episodes; where it is 0 the memory begins.
            outcome: of all rows.
        """
        rows, ring = len(times), self.ring
        actions = self._engine.act(observations)
        began, no_time = float64s(times), float64s([0.0] * rows)
        steps = [0 if frame is None else frame for frame in frames or [0] * rows]
        memory = Memory(
            np.array(steps, np.uint32).tobytes(),
            np.array([step == 0 for step in steps]).tobytes(),
            bytes(rows),
            [b""] * len(self._card.states),
        )
        seen = [observations[spec.name] for spec in self._card.observation_spec]
        packed = Packed(
            BEGAN_NS,
            [f"{id(self)}-{ring.sequence + row}" for row in range(rows)],
            list(episodes) if episodes else None,
            None,
            began,
            began,
            no_time,
            None,
            None,
            OUTCOMES.index(outcome),
            None,
            None,
            Forwards(int32s([1] * rows), began, no_time, None),
            [joined([array]) for array in (*seen, actions.control, actions.raw)],
            memory if frames is not None else None,
        )
        ring.append(bytes.fromhex(self._digest), rows, OBSERVED | ACTED, PACK(packed))
        return actions.control
