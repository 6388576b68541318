"""A preprocessor with a type of the operator's own: every command runs it where POLICY_TRUST_TYPES names the type."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from tests_support import run_command

AUTHORS = """
import torch
from sklearn.preprocessing import StandardScaler

class Clipper(StandardScaler):
    def transform(self, X, copy=None):
        return super().transform(X, copy).clip(-1, 1)

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(features))

def build():
    torch.manual_seed(0)
    return Network()
"""
CARD = """
name: mine
version: 0.1.0
observation:
  speed:  {dtype: float32, shape: [], low: 0, high: 60}
  offset: {dtype: float32, shape: [], low: -1, high: 1}
action: {head: deterministic, raw: {acceleration: [-1, 1], steer: [-1, 1]}, control: acceleration_steer, rate_hz: 20}
"""


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The artifact; its author's code can be imported, but nobody trusts it yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("POLICY_TRUST_TYPES", raising=False)
    Path("authors_code.py").write_text(AUTHORS)
    Path("card.yaml").write_text(CARD)
    clipper = importlib.import_module("authors_code").Clipper
    rng = np.random.default_rng(0)
    Path("own.skops").write_bytes(skops.io.dumps(clipper().fit(rng.uniform([0, -1], [60, 1], (100, 2)))))
    pq.write_table(pa.table({"speed": rng.uniform(0, 60, 9), "offset": rng.uniform(-1, 1, 9)}), "in.parquet")
    flags = ["--card", "card.yaml", "--preprocessor", "own.skops", "--trust-types", "authors_code.Clipper"]
    done = run_command("carla-export", "authors_code.py:build", *flags, "--output", "policy")
    assert done.code == 0, done.err
    return tmp_path / "policy"


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "serve", "score", "--model", "policy", "--input", "in.parquet", "--output"],
        ["-m", "serve.bake", "policy"],
    ],
    ids=["score", "bake"],
)
@pytest.mark.slow
def test_a_command_runs_it_when_it_is_trusted_and_only_then(exported: Path, command: list[str]):
    refused = run_command("python", *command, "refused")
    assert (refused.code, "authors_code.Clipper" in refused.err) == (1, True), refused.err
    assert not Path("refused").exists()
    done = run_command("python", *command, "by-variable", env={"POLICY_TRUST_TYPES": "authors_code.Clipper"})
    assert done.code == 0, done.err
    done = run_command("python", *command, "by-flag", "--trust-types", "authors_code.Clipper")
    assert done.code == 0, done.err
