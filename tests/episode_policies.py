"""A policy that sees histories and whose actions hold for several ticks; exported like any other."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from carla_mlflow import Artifact, write_artifact
from carla_mlflow.contract.action_card import ActionCard, Control
from carla_mlflow.contract.field_card import FieldCard
from training_export.export.export import export_policy
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed

HISTORY, REPEAT = [-3, -1, 0], 2
SECTION = {
    "view": FieldCard("uint8", [6, 4, 4], 0, 255, history=HISTORY, history_start="zeros"),
    "speed": FieldCard("float32", [3], 0.0, 60.0, "m/s", history=HISTORY, history_start="repeat"),
    "steering": FieldCard("float32", [], -1.0, 1.0),
}


class Watching(torch.nn.Module):
    """Actions that depend on every element of the stacks."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(6 * 4 * 4 + 3 + 1, 2)

    def forward(self, view: torch.Tensor, speed: torch.Tensor, steering: torch.Tensor) -> torch.Tensor:
        """(B, 2): acceleration, steer."""
        seen = torch.flatten(view.to(torch.float32) / 255.0, 1)
        return torch.tanh(self.layer(torch.cat([seen, speed / 60.0, steering[:, None]], dim=1)))


@functools.cache
def watching(version: str = "0.1.0", seed: int = 0, repeat: int = REPEAT) -> Artifact:
    """Exported once a process; its weights depend on the seed."""
    torch.manual_seed(seed)
    raw = {"acceleration": (-1.0, 1.0), "steer": (-1.0, 1.0)}
    brake = Control(throttle=0.0, brake=1.0, steer=0.0)
    action = ActionCard("deterministic", raw, "acceleration_steer", 10.0, brake, repeat=repeat)
    trained = from_network("watching", Watching().eval(), CardDraft(), SECTION, action, Preprocessed())
    return export_policy(trained, "watching", version, f"seed {seed}").artifact


def written(folder: Path, artifact: Artifact) -> Path:
    """The artifact's folder, below another one, under its version."""
    return write_artifact(folder / artifact.card.version, artifact).path


def frames(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """One observation a tick."""
    rng = np.random.default_rng(seed)
    return [
        {
            "view": rng.integers(0, 256, (2, 4, 4), dtype=np.uint8),
            "speed": float(rng.uniform(0.0, 60.0)),
            "steering": np.float32(rng.uniform(-1.0, 1.0)),
        }
        for _ in range(count)
    ]


def stacks(ticks: list[dict[str, Any]], at: int) -> dict[str, Any]:
    """What the graph takes at that tick, made by hand."""
    views = [ticks[at + back]["view"] if at + back >= 0 else np.zeros((2, 4, 4), np.uint8) for back in HISTORY]
    speeds = np.array([ticks[max(at + back, 0)]["speed"] for back in HISTORY], np.float32)
    return {"view": np.concatenate(views)[None], "speed": speeds[None], "steering": ticks[at]["steering"][None]}
