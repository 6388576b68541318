from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from forging import script
from tests_support import Finished, command_here, run_command

from carla_mlflow import Engine, open_artifact

CARD = {
    "name": "toy",
    "version": "2.1.0",
    "description": "a toy",
    "observation": {
        "speed": {"dtype": "float32", "shape": [], "low": 0, "high": 60, "unit": "m/s"},
        "sensors": {"dtype": "float32", "shape": [3], "low": 0, "high": 1},
    },
    "action": {
        "head": "deterministic",
        "raw": {"steer": [-1, 1], "acceleration": [-1, 1]},
        "control": "acceleration_steer",
        "rate_hz": 20,
        "fallback": {"throttle": 0, "brake": 1, "steer": 0},
    },
}
MODULE = """
import torch
class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(4, 16)
        self.last = torch.nn.Linear(16, 2)
    def forward(self, speed: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
        x = torch.cat([speed.unsqueeze(1) / 60, sensors], dim=1)
        if sensors.sum() < 0:
            x = x * 2
        return self.last(torch.tanh(self.first(x)))
def build():
    return Toy()
def build_unscriptable():
    class Odd(Toy):
        def forward(self, speed: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
            scale = {True: 1.0, False: 2.0}[speed.tolist()[0] > 3.0]
            return scale * self.last(torch.tanh(self.first(torch.cat([speed.unsqueeze(1), sensors], dim=1))))
    return Odd()
def build_wide():
    return torch.nn.Sequential()
def fails():
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text(MODULE)
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(CARD, sort_keys=False))
    return tmp_path


def export(*arguments: str) -> Finished:
    return command_here("carla-export", *arguments)


def test_a_module_of_the_users_own_becomes_an_artifact(author: Path):
    done = run_command("carla-export", "toy.py:build", "--card", "card.yaml", "--output", "artifact")
    assert done.code == 0, done.err
    assert "1,024 observations" in done.out
    engine = Engine.open(author / "artifact", device="cpu")
    card = engine.card
    assert (card.name, card.version, tuple(card.action.raw)) == ("toy", "2.1.0", ("steer", "acceleration"))
    namespace: dict = {}
    exec(MODULE, namespace)
    import torch

    rng = np.random.default_rng(5)
    rows = {spec.name: spec.sample(rng, 1000) for spec in engine.specs}
    with torch.no_grad():
        trained = namespace["build"]()(*(torch.from_numpy(rows[name]) for name in ("speed", "sensors"))).numpy()
    np.testing.assert_allclose(engine.act(rows).raw, np.clip(trained, -1, 1), rtol=1e-5, atol=1e-6)


def test_a_dry_run_writes_nothing(author: Path):
    before = sorted(author.rglob("*.yaml")) + sorted(author.rglob("*.pt"))
    done = export("toy.py:build", "--card", "card.yaml", "--output", "artifact", "--dry-run")
    assert done.code == 0
    assert "nothing written" in done.out
    assert sorted(author.rglob("*.yaml")) + sorted(author.rglob("*.pt")) == before


@pytest.mark.parametrize(
    ("source", "flags", "complaint"),
    [
        ("toy.py:build_unscriptable", ["--card", "card.yaml"], "can't be scripted"),
        ("toy.py:build_wide", ["--card", "card.yaml"], "toy.py:build_wide: returns dict; expected a tensor"),
        ("toy.py:fails", ["--card", "card.yaml"], "RuntimeError: no weights here"),
        ("toy.py:nowhere", ["--card", "card.yaml"], "toy.py has no nowhere; expected a function"),
        ("toy.py", ["--card", "card.yaml"], "the function that returns a torch module: toy.py:build"),
        ("missing.py:build", ["--card", "card.yaml"], "missing.py: there is no such file"),
        ("toy.py:build", [], "the source has no observation space: pass --card"),
        ("toy.py:build", ["--card", "none.yaml"], "none.yaml: there is no such file"),
        ("no-folder", [], "no such file or folder"),
    ],
)
def test_a_source_that_can_not_be_exported_is_one_clear_line(
    author: Path, source: str, flags: list[str], complaint: str
):
    import re

    done = export(source, "--output", "artifact", *flags)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert re.search(complaint, done.err), done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not list(author.glob("*artifact*"))


def test_debug_shows_the_traceback(author: Path):
    done = run_command("carla-export", "toy.py:fails", "--card", "card.yaml", "--output", "artifact", "--debug")
    assert done.code != 0
    assert "Traceback" in done.err


def test_an_existing_output_is_left_alone(author: Path):
    (author / "artifact").mkdir()
    (author / "artifact" / "precious").write_text("data")
    done = export("toy.py:build", "--card", "card.yaml", "--output", "artifact")
    assert done.code == 1
    assert "already exists" in done.err
    assert (author / "artifact" / "precious").read_text() == "data"


def test_a_graph_that_acts_otherwise_than_the_trained_policy_is_not_written(author: Path):
    # A module that behaves otherwise for large batches than for the tiles that it will be asked in.
    otherwise = "return self.last(torch.tanh(self.first(x))) + (0.1 if x.shape[0] > 100 else 0.0)"
    (author / "noisy.py").write_text(MODULE.replace("return self.last(torch.tanh(self.first(x)))", otherwise, 1))
    done = export("noisy.py:build", "--card", "card.yaml", "--output", "artifact")
    assert done.code == 1
    assert "does not act as the trained policy" in done.err
    assert not (author / "artifact").exists()


def test_the_golden_observations_are_half_driving_a_quarter_bounds_a_quarter_uniform(example: Path):
    engine = Engine(open_artifact(example), "cpu")
    observations, rows = engine.golden.observations, len(engine.golden.raw)
    assert rows == 64
    at_bounds = np.ones(rows, bool)
    for spec in engine.specs:
        array = observations[spec.name].reshape(rows, -1)
        at_bounds &= ((array == spec.lows) | (array == spec.highs)).all(axis=1)
    assert at_bounds.sum() == rows // 4
    assert (observations["speed"][: rows // 2] < 15).all()  # nobody drives at 60 m/s here
    assert engine.golden.features.shape == (rows, 14)


def test_a_policy_with_a_memory_is_refused(author: Path):
    remember = "self.calls.add_(1)\n        return self.calls * self.last("
    text = MODULE.replace("self.last = ", 'self.register_buffer("calls", torch.zeros(1))\n        self.last = ')
    (author / "memory.py").write_text(text.replace("return self.last(", remember, 1))
    done = export("memory.py:build", "--card", "card.yaml", "--output", "artifact")
    assert done.code == 1
    assert "changes its own buffers" in done.err
    assert not (author / "artifact").exists()


def test_an_operation_that_can_not_be_scripted_is_shown_with_its_place(author: Path):
    done = export("toy.py:build_unscriptable", "--card", "card.yaml", "--output", "artifact")
    assert "scale = {True: 1.0, False: 2.0}[speed.tolist()[0] > 3.0]" in done.err
    assert "toy.py" in done.err


LAYERS = """
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
class Layers(nn.Module):
    def __init__(self, first, scale=1.0):
        super().__init__()
        self.first, self.last, self.scale = first, nn.Linear(8, 2), scale
    def forward(self, speed: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
        x = torch.cat([speed.unsqueeze(1) / 60, sensors], dim=1)
        return self.last(torch.tanh(self.first(x)))
class Spread(Layers):
    def forward(self, speed: torch.Tensor, sensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.cat([speed.unsqueeze(1) / 60, sensors], dim=1)
        mean = self.last(torch.tanh(self.first(x)))
        return mean, mean - 5.0
def build_weight_norm():
    torch.manual_seed(0)
    return Layers(weight_norm(nn.Linear(4, 8)))
def build_spectral_norm():
    torch.manual_seed(0)
    return Layers(spectral_norm(nn.Linear(4, 8)))
def build_inplace():
    torch.manual_seed(0)
    return Layers(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GLU(), nn.Linear(4, 8)))
def build_negative_spread():
    return Spread(nn.Linear(4, 8))
"""


class Steady(torch.nn.Module):
    def forward(self, speed: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
        return torch.tanh(torch.stack([speed / 60 - sensors[:, 0], sensors[:, 1]], dim=1))


def test_a_backend_that_has_no_graph_is_not_named_and_the_reason_is_told(author: Path):
    (author / "steady.pt").write_bytes(script(Steady()))
    done = export("steady.pt", "--card", "card.yaml", "--output", "odd", "--backend", "openvino")
    assert done.code == 1
    assert "the card can't name the backend openvino: TorchScript can't be turned into ONNX" in done.err
    assert not (author / "odd").exists()


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "inplace"])
def test_layers_that_can_not_be_scripted_or_work_in_place_are_exported_to_both_backends(author: Path, name: str):
    (author / "layers.py").write_text(LAYERS)
    done = export(f"layers.py:build_{name}", "--card", "card.yaml", "--output", "artifact")
    assert done.code == 0, done.err
    assert open_artifact(author / "artifact").backends == ("torchscript", "onnx")


def test_openvino_is_measured_but_the_card_names_it_only_where_that_is_asked_for(author: Path):
    (author / "layers.py").write_text(LAYERS)
    for backend, folder in (("auto", "auto"), ("openvino", "asked")):
        done = export("layers.py:build_inplace", "--card", "card.yaml", "--output", folder, "--backend", backend)
        assert done.code == 0, done.err
        assert "measured  openvino: 1 rows" in done.out
    assert open_artifact(author / "auto").card.backend in ("torchscript", "onnx")
    asked = open_artifact(author / "asked")
    assert asked.card.backend == "openvino"
    assert set(asked.card.files) == set(open_artifact(author / "auto").card.files)
    assert Engine(asked, "cpu").backend == "openvino"


def test_a_negative_spread_is_told_as_such(author: Path):
    (author / "layers.py").write_text(LAYERS)
    (author / "spread.yaml").write_text(
        (author / "card.yaml").read_text().replace("head: deterministic", "head: gaussian")
    )
    done = export("layers.py:build_negative_spread", "--card", "spread.yaml", "--output", "artifact")
    assert done.code == 1
    assert "the network gives a std of -" in done.err
    assert not (author / "artifact").exists()
