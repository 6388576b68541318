"""A preprocessor with a type of the operator's own: every command runs it where POLICY_TRUST_TYPES names the type."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from tests_support import command_here

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


pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trust-types")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The artifact, beside its author's code and in.parquet; only the export trusted the code."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "authors_code.py").write_text(AUTHORS)
    (folder / "card.yaml").write_text(CARD)
    rng = np.random.default_rng(0)
    columns = {"speed": rng.uniform(0, 60, 9), "offset": rng.uniform(-1, 1, 9)}
    pq.write_table(pa.table(columns), folder / "in.parquet")
    flags = ["--preprocessor", "own.skops", "--trust-types", "authors_code.Clipper", "--output", "policy"]
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.syspath_prepend(str(folder))
        clipper = importlib.import_module("authors_code").Clipper
        Path("own.skops").write_bytes(skops.io.dumps(clipper().fit(rng.uniform([0, -1], [60, 1], (100, 2)))))
        done = command_here("carla-export", "authors_code.py:build", "--card", "card.yaml", *flags)
        assert done.code == 0, done.err
        yield folder


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("score", ["--model", "policy", "--input", "in.parquet", "--output"]),
        ("serve.bake", ["policy"]),
    ],
    ids=["score", "bake"],
)
def test_a_command_runs_it_when_it_is_trusted_and_only_then(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, arguments: list[str]
):
    monkeypatch.chdir(exported)  # its author's code can be imported, but nobody trusts it yet
    monkeypatch.delenv("POLICY_TRUST_TYPES", raising=False)
    refused, by_variable, by_flag = (str(tmp_path / name) for name in ("refused", "by-variable", "by-flag"))
    done = command_here(command, *arguments, refused)
    assert (done.code, "authors_code.Clipper" in done.err) == (1, True), done.err
    assert not Path(refused).exists()
    done = command_here(command, *arguments, by_variable, env={"POLICY_TRUST_TYPES": "authors_code.Clipper"})
    assert done.code == 0, done.err
    done = command_here(command, *arguments, by_flag, "--trust-types", "authors_code.Clipper")
    assert done.code == 0, done.err
