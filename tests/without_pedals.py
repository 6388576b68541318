"""Tiny policies whose actions are no pedals, each with observations and the answers that they have to get."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from carla_mlflow import Artifact, write_artifact
from carla_mlflow.contract.field_card import FieldCard
from training_export.export.export import export_policy
from training_export.sources.draft import ActionDraft, CardDraft, complete
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed


class Scaled(torch.nn.Module):
    """Gives its observation, (B, N), times a weight: the head's parameters can be read off what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


@dataclass(frozen=True)
class Kind:
    """A kind of action.

    Attributes:
        draft: the author's action section.
        rows: observations of `Scaled`.
        answers: to each row, as /predict has them.
        fallback: likewise.
        columns: of a table, to the rows.
    """

    draft: ActionDraft
    rows: list[list[float]]
    answers: list[dict[str, Any]]
    fallback: dict[str, Any]
    columns: dict[str, list[Any]]

    @property
    def observations(self) -> dict[str, np.ndarray]:
        return {"x": np.array(self.rows, dtype=np.float32)}

    @property
    def names(self) -> list[str]:
        """The columns of `Actions.control`: a label is not among them, its index is."""
        return [name for name in self.columns if name != "index" and not name.endswith("_index")]

    @property
    def control(self) -> np.ndarray:
        """The answers as `Actions.control` has them."""
        index = {name: "index" if name == "choice" else f"{name}_index" for name in self.names}
        columns = [self.columns.get(index[name], self.columns[name]) for name in self.names]
        return np.array(columns, dtype=np.float32).T

    @functools.cached_property
    def _made(self) -> dict[str, Artifact]:
        return {}

    def artifact(self, version: str = "1.0.0") -> Artifact:
        """Exported once a process."""
        if version not in self._made:
            self._made[version] = self._exported(version)
        return self._made[version]

    def _exported(self, version: str) -> Artifact:
        torch.manual_seed(0)
        section = {"x": FieldCard("float32", [len(self.rows[0])], -5.0, 5.0)}
        trained = from_network("toy", Scaled().eval(), CardDraft(), section, complete(self.draft), Preprocessed())
        return export_policy(trained, "no-pedals", version, "").artifact

    def write(self, folder: Path) -> Path:
        return write_artifact(folder / "policy", self.artifact()).path


KINDS = {
    "labelled": Kind(
        ActionDraft("named", head="categorical", choices=["LEFT", "IDLE", "RIGHT"], fallback={"choice": "IDLE"}),
        [[0.5, 0.0, -1.0], [-1.0, 0.0, 1.0]],
        [{"choice": "LEFT", "index": 0}, {"choice": "RIGHT", "index": 2}],
        {"choice": "IDLE", "index": 1},
        {"choice": ["LEFT", "RIGHT"], "index": [0, 2]},
    ),
    "unlabelled": Kind(
        ActionDraft("named", {"choice": (0.0, 2.0)}, "categorical", fallback={"choice": 1}),
        [[0.5, 0.0, -1.0], [-1.0, 0.0, 1.0]],
        [{"choice": 0}, {"choice": 2}],
        {"choice": 1},
        {"choice": [0, 2]},
    ),
    "several": Kind(
        ActionDraft(
            "named",
            {"gear": (0.0, 2.0), "lights": (0.0, 1.0)},
            "multi_categorical",
            choices={"gear": ["back", "first", "second"]},
            fallback={"lights": 1.0, "gear": "first"},
        ),
        [[0.0, 0.5, 0.25, 1.0, -1.0], [0.5, 0.0, 0.25, -1.0, 1.0]],
        [{"gear": {"choice": "first", "index": 1}, "lights": 0}, {"gear": {"choice": "back", "index": 0}, "lights": 1}],
        {"gear": {"choice": "first", "index": 1}, "lights": 1},
        {"gear": ["first", "back"], "gear_index": [1, 0], "lights": [0, 1]},
    ),
    "flags": Kind(
        ActionDraft(
            "named", {"horn": (0.0, 1.0), "wipers": (0.0, 1.0)}, "bernoulli", fallback={"horn": 0, "wipers": 1}
        ),
        [[0.5, -0.5], [-0.5, 2.0]],
        [{"horn": 1, "wipers": 0}, {"horn": 0, "wipers": 1}],
        {"horn": 0, "wipers": 1},
        {"horn": [1, 0], "wipers": [0, 1]},
    ),
    "values": Kind(
        ActionDraft(
            "named",
            {"longitudinal": (-5.0, 3.0), "lateral": (-1.0, 1.0)},
            "deterministic",
            fallback={"longitudinal": -4.7, "lateral": 0.0},
        ),
        [[1.25, -0.25], [-5.0, 0.5]],
        [{"longitudinal": 2.5, "lateral": -0.5}, {"longitudinal": -5.0, "lateral": 1.0}],
        {"longitudinal": -4.7, "lateral": 0.0},
        {"longitudinal": [2.5, -5.0], "lateral": [-0.5, 1.0]},
    ),
    "acceleration": Kind(
        ActionDraft("acceleration", {"acceleration": (-8.0, 2.0)}, "deterministic", full_throttle=2.0, full_brake=-8.0),
        [[0.5], [-2.0]],
        [{"acceleration": 0.5}, {"acceleration": -0.5}],
        {"acceleration": -1.0},
        {"acceleration": [0.5, -0.5]},
    ),
    "steer": Kind(
        ActionDraft("steer", {"steer": (-0.5, 0.5)}, "deterministic", full_right=-0.5),
        [[0.125], [-0.25]],
        [{"steer": -0.5}, {"steer": 1.0}],
        {"steer": 0.0},
        {"steer": [-0.5, 1.0]},
    ),
}
