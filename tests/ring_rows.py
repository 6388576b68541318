"""Rows in a ring as a worker leaves them, with what a policy really answers, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from carla_mlflow import Artifact, Engine
from serve.record.blocks import block_schema, write_policy
from serve.record.machine import engine_note
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
        rows, kind = len(times), OUTCOMES.index(outcome)
        actions = self._engine.act(observations)
        schema = block_schema(self._card, "keep", OBSERVED | ACTED)
        given: dict[str, Any] = {
            "timestamp": [BEGAN_NS + int(time * 1e9) for time in times],
            "request_id": [f"{id(self)}-{self.ring.sequence + row}" for row in range(rows)],
            "row": [0] * rows,
            "episode_id": episodes or [None] * rows,
            "frame_index": frames or [None] * rows,
            "deterministic": [True] * rows,
            "outcome": [kind] * rows,
            "status": [200] * rows,
            "action": list(actions.control),
            "action.raw": list(actions.raw),
            "reset": [None if frames is None else frame == 0 for frame in frames or [0] * rows],
        }
        for name, values in observations.items():
            given[f"observation.{name}"] = list(values.reshape(rows, -1)) if values.ndim > 1 else values
        arrays = [pa.array(given.get(field.name, [None] * rows), field.type) for field in schema]
        payload = pa.record_batch(arrays, schema=schema).serialize()
        self.ring.append(bytes.fromhex(self._digest), rows, OBSERVED | ACTED, memoryview(payload))
        return actions.control
