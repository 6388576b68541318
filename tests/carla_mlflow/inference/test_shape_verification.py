"""Tile shapes are used only where a sample that can tell them apart shows that they give the same bits."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchscript_cases as cases
from torch import nn

from carla_mlflow import Engine, ObservationSpec
from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.field_card import FieldCard
from carla_mlflow.inference.batch_shapes import LARGE_SHAPES
from carla_mlflow.inference.shape_verification import ROWS, verification_sample, verified_shapes
from carla_mlflow.inference.workspace import Workspace
from training_export.export.export import Export, export_policy
from training_export.sources.draft import ActionDraft, CardDraft, complete
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed

RAW = {"acceleration": (-1.0, 1.0), "steer": (-1.0, 1.0)}


def exported(module: nn.Module, field: FieldCard) -> Export:
    draft = CardDraft(action=ActionDraft("acceleration_steer", RAW, "deterministic"), observation={"x": field})
    trained = from_network("test", module.eval(), draft, {"x": field}, complete(draft.action), Preprocessed())
    return export_policy(trained, "proof", "1.0.0", "")


def bits(engine: Engine, rows: np.ndarray) -> list[bytes]:
    return [action.tobytes() for action in engine.act({"x": rows}).raw]


@pytest.mark.parametrize("bound", [5.0, 1e6, 1e30])
def test_a_network_that_saturates_over_its_bounds_still_gives_a_row_the_same_bits(bound: float):
    torch.manual_seed(0)
    export = exported(cases.Saturated(), FieldCard("float32", [16], -bound, bound))
    rows = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    for engine in export.engines.values():
        alone = [bits(engine, rows[i : i + 1])[0] for i in range(300)]
        assert bits(engine, rows) == alone, engine.backend
        assert [b for i in range(0, 300, 5) for b in bits(engine, rows[i : i + 5])] == alone, engine.backend


def test_a_network_that_looks_at_other_rows_is_asked_one_row_at_a_time():
    torch.manual_seed(0)
    export = exported(cases.Coupled(), FieldCard("float32", [4]))
    for engine in export.engines.values():
        assert engine.tile_rows == (1,), engine.backend
        rows = np.array([[1, 2, 3, 4], [1e20, 0, 0, 0]], dtype=np.float32)
        assert bits(engine, rows)[0] == bits(engine, rows[:1])[0]


def test_a_network_that_gives_few_answers_proves_nothing_and_is_asked_one_row_at_a_time():
    export = exported(cases.Constant(), FieldCard("float32", [4], -1.0, 1.0))
    assert export.engine.tile_rows == (1,)


VIEW = FieldCard("uint8", [4, 36, 36], 0, 255)


class OneWork(nn.Module):
    """As much work for many images as for one, and answers that tell images apart."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(192))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        work = torch.mm(torch.mm(self.weight * (1.0 + 0.0 * x.float().mean()), self.weight), self.weight).sum()
        return torch.tanh(x.float()[:, :2, :, :].mean(dim=(2, 3)) / 128.0 - 1.0) + 0.0 * work


class Nature(nn.Module):
    """The network for images that most libraries for reinforcement learning bring along, with fewer channels."""

    def __init__(self) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(4, 16, 8, 4), nn.ReLU(), nn.Conv2d(16, 16, 4, 2), nn.ReLU(), nn.Flatten()]
        self.layers = nn.Sequential(*convolutions, nn.Linear(144, 512), nn.ReLU(), nn.Linear(512, 2), nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.float() / 255.0)


def test_images_whose_work_is_shared_run_in_larger_shapes():
    torch.manual_seed(0)
    export = exported(OneWork(), VIEW)
    for (
        backend
    ) in export.engines:  # several tries, as whether a shape saves time is measured: others may need the cores
        tries = (Engine(export.artifact, "cpu", backend=backend).tile_rows for _ in range(20))
        assert any(shapes == LARGE_SHAPES for shapes in tries), backend


@pytest.mark.parametrize("network", [OneWork, Nature])
def test_an_image_has_the_same_bits_alone_and_in_any_batch(network: type[nn.Module]):
    torch.manual_seed(0)
    rows = np.random.default_rng(0).integers(0, 256, (100, 4, 36, 36)).astype(np.uint8)
    for engine in exported(network(), VIEW).engines.values():
        alone = [bits(engine, rows[i : i + 1])[0] for i in range(100)]
        for size in (100, 17, 16, 5, 4, 3):
            batches = [bits(engine, rows[start : start + size]) for start in range(0, 100, size)]
            assert [row for batch in batches for row in batch] == alone, (engine.backend, size)


def test_a_shape_is_used_only_where_every_row_of_the_sample_has_the_references_bits_at_any_position():
    sample = {"x": np.arange(ROWS, dtype=np.float32).reshape(-1, 1)}
    off = {4: [ROWS - 1], 16: [0], 32: [1]}  # rows that get other bits in batches of that shape

    def run(shape: int, observations: dict[str, np.ndarray]) -> np.ndarray:
        rows = observations["x"].copy()
        rows[np.isin(rows, off.get(shape, []))] += 0.5
        if shape == 64 and rows[0] > 0:  # another order
            rows[-1] += 0.5
        return rows

    assert verified_shapes((1, 4, 8, 16, 32, 64, 128), 8, sample, run) == (1, 8, 128)


def test_rows_left_over_in_a_tile_hold_nothing_that_a_caller_asked(example):
    engine = Engine.open(example, device="cpu", backend="torchscript")
    tile = Workspace(engine.backend_call, engine.specs, 4, None)
    assert tile.fill(engine.golden.observations, 0, 4)
    assert tile.fill(engine.golden.observations, 4, 6)
    for view, spec in zip(tile._views, engine.specs, strict=True):
        assert (view[:2] == engine.golden.observations[spec.name][4:6]).all()
        assert (view[2:] == spec.generate_value()).all()


ASKED_BEFORE = """
import os
import sys

import carla_mlflow
import torch

torch.ones(8, 8) @ torch.ones(8, 8)
engine = carla_mlflow.Engine.open(sys.argv[1], device="cpu", backend="torchscript")
print(os.environ["MKL_CBWR"], len(engine.tile_rows))
"""


def asked_with(example, setting: str | None) -> tuple[str, int]:
    """What MKL was asked for in a fresh process with that setting of the user's, and how many tiles it proved."""
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    environment |= {} if setting is None else {"MKL_CBWR": setting}
    command = [sys.executable, "-c", ASKED_BEFORE, str(example)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    asked, tiles = answer.stdout.split()
    return asked, int(tiles)


def test_mkl_is_asked_for_the_same_bits_before_the_first_product_unless_the_user_says_otherwise(example):
    asked, tiles = asked_with(example, None)
    users, without = asked_with(example, "AUTO")
    assert (asked, users) == ("AUTO,STRICT", "AUTO")
    assert tiles >= without  # on a processor with AMX 8 and 1


def test_the_sample_holds_every_magnitude_inside_the_bounds():
    specs = ObservationSpec([ArraySpec("x", "float32", (3,)), ArraySpec("y", "uint8", (2,), 5, 9)])
    golden = {"x": np.ones((4, 3), np.float32), "y": np.full((4, 2), 7, np.uint8)}
    sample = verification_sample(specs, golden, far=True)
    specs.validate(sample)
    magnitudes = np.log10(np.abs(sample["x"]).max(axis=1))
    assert all(((magnitudes >= low) & (magnitudes < low + 2)).any() for low in range(-3, 37, 2))
    assert {name: len(array) for name, array in sample.items()} == {"x": ROWS, "y": ROWS}
