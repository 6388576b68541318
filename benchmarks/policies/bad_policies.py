"""Policies whose loading ends the process: one crashes torch's parser, one takes more memory than is allowed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from carla_mlflow import Artifact, write_artifact
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.artifact.golden import read_golden

DEPTH = 300_000
"""How many brackets enclose one value; torch's parser recurses for each."""
ROWS = 11_585
"""Rows and columns of the float32 matrix that one forward makes: half a gigabyte."""
PUBLISHED = "published"
"""How the name of a model begins that `publish` lays into a run."""
RawOf = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Observations → the raw actions of a network."""


class Large(torch.nn.Module):
    """Tanh of the first three values, (B, 3), after computing a matrix of half a gigabyte."""

    def __init__(self) -> None:
        super().__init__()
        self.column = torch.nn.Parameter(torch.ones(ROWS, 1))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        x = torch.mm(self.column * state.sum(), self.column.t())
        return torch.tanh(state[:, :3]) + 0.0 * x[0, 0]


def crashing(artifact: Artifact, version: str) -> Artifact:
    """The artifact with a graph whose parsing kills the process."""
    return with_graph(artifact, version, _in_brackets(scripted(torch.nn.Tanh())))


def too_large(artifact: Artifact, version: str) -> Artifact:
    """The artifact with a graph whose every forward takes half a gigabyte."""
    return with_graph(artifact, version, scripted(Large()), lambda state: np.tanh(state[:, :3]))


def publish(artifact: Artifact, home: Path, name: str | None = None, said: Artifact | None = None) -> str:
    """Puts any artifact into the registry without carla-registry's checks, as anyone with access to MLflow could.

    Args:
        artifact: whose files an MLflow server keeps from now on.
        home: that server's folder.
        name: under which it is registered; None: the card's.
        said: the artifact that the registry says it is; None: the same.

    Returns:
        MLflow's version number.
    """
    import mlflow

    from carla_mlflow.flavor.model import ARTIFACT_PATH
    from carla_mlflow.flavor.runs import logging_run
    from registry.store.store import Store

    said = said or artifact
    with logging_run() as run:
        kept = mlflow.get_artifact_uri(f"{PUBLISHED}-{run}").removeprefix("mlflow-artifacts:/")
    model = home / "artifacts" / kept
    (model / ARTIFACT_PATH).parent.mkdir(parents=True)
    write_artifact(model / ARTIFACT_PATH, artifact)
    (model / "MLmodel").touch()
    tags = {"semver": said.card.version, "digest": said.digest, "contract": said.card.contract}
    return Store().create_version(name or artifact.card.name, f"runs:/{run}/{PUBLISHED}-{run}", tags).number


def scripted(network: torch.nn.Module) -> bytes:
    """A network as a TorchScript file."""
    graph = io.BytesIO()
    torch.jit.save(torch.jit.script(network.eval()), graph)
    return graph.getvalue()


def with_graph(artifact: Artifact, version: str, graph: bytes, raw_of: RawOf | None = None) -> Artifact:
    """The artifact with another graph, and golden actions that are its own when it is said what it computes."""
    card = msgspec.structs.replace(artifact.card, version=version, backend="torchscript")
    files = {name: artifact.files[name] for name in card.files} | {"model.pt": graph}
    if raw_of:
        golden = read_golden(files["golden.npz"], artifact.card)
        golden.raw[:] = raw_of(golden.observations["state"])
        golden.action[:] = np.clip(golden.raw, [0, 0, -1], [1, 1, 1])
        files["golden.npz"] = golden.to_bytes()
    return seal(card, files)


def _in_brackets(archive: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(written, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith(".py"):
                data = data.replace(b"torch.tanh(input)", b"torch.tanh(%binput%b)" % (b"(" * DEPTH, b")" * DEPTH))
            target.writestr(zipfile.ZipInfo(name), data)
    return written.getvalue()
