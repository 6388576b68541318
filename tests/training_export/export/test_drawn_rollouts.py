"""Rollouts that are drawn for golden.npz and for comparing a policy with a memory: every observation fits its spec."""

from __future__ import annotations

import numpy as np
import pytest

from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.specs import ObservationSpec
from training_export.export.rollouts import rollout_batches

SPECS = ObservationSpec(
    (
        ArraySpec("gear", "float32", (), -1, 1, choices=3),
        ArraySpec("light", "uint8", (), 0, 2, choices=3),
        ArraySpec("view", "uint8", (3, 16, 16), 0, 255),
        ArraySpec("speed", "float32", (), 0, 60),
    )
)


@pytest.mark.parametrize("is_driven", [False, True])
def test_every_drawn_observation_fits_its_spec(is_driven: bool):
    rng = np.random.default_rng(0)
    driving = {spec.name: spec.sample(rng, 200) for spec in SPECS} if is_driven else None
    for batch in rollout_batches(SPECS, driving):
        SPECS.validate(batch)
