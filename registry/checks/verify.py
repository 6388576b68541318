"""Every check of an artifact before it drives: its bytes, graphs, preprocessor, and parity on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from carla_mlflow.artifact.artifact import Artifact, open_artifact
from carla_mlflow.artifact.golden import Golden, read_golden
from carla_mlflow.backends.weights import check_weights
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.control import unstated_scales
from carla_mlflow.errors import ParityError
from carla_mlflow.inference.engine import Engine
from carla_mlflow.own_process import values_of, write_values
from carla_mlflow.preprocessing.beside_graph import OutOfGraph
from carla_mlflow.preprocessing.skops_file import load_preprocessor


def verify(
    path: Path, digest: str | None, device: str = "cpu", trusted: Sequence[str] = (), backend: str = ""
) -> Iterator[str]:
    """Checks an artifact and yields one line in words for each check that passed.

    Args:
        path: the folder.
        digest: the digest that it must have; None accepts whatever card lies there.
        device: where to check parity.
        trusted: types that preprocessor.skops may hold beside those always trusted.
        backend: the one on which to check parity; empty for each that the artifact is for.

    Raises:
        ArtifactError: the first check that failed; no part of the artifact that is checked later has run.
        DeviceError: the device is not there.
    """
    artifact = open_artifact(path, digest)
    size = sum(len(data) for data in artifact.files.values())
    yield f"artifact     {artifact.card.name} {artifact.card.version}, format {artifact.card.format}"
    pin = (
        "as pinned"
        if digest
        else "unpinned: no digest was given, so nothing outside this folder confirms that it is the right one"
    )
    yield f"digest       {artifact.digest}, {pin}"
    yield f"files        {', '.join(artifact.files)}: {size / 1e3:.0f} kB, as the card says"
    for text in unstated_scales(artifact.card.action):
        yield f"warning      {text}"
    yield from _preprocessor(artifact, trusted)
    check_weights(artifact)
    yield f"weights      {artifact.card.weights}, as the graph holds them"
    for name in (backend,) if backend else artifact.backends:
        engine = Engine(artifact, device, name, trusted)
        engine.warm_up()
        chosen = ", the card's choice" if name == artifact.card.backend else ""
        rows, parity = len(engine.golden.raw), artifact.card.parity
        allowed = f"{parity.atol:.1e} + {parity.rtol:.0e} · |value|"
        yield (
            f"{name:12} acts on {engine.device.name} as the trained policy did on {rows} observations: largest "
            f"difference {engine.parity_difference:.1e}, allowed {allowed}{chosen}"
        )


def _preprocessor(artifact: Artifact, trusted: Sequence[str]) -> Iterator[str]:
    source = artifact.card.preprocessing.source
    if source is not None:
        transformer = load_preprocessor(artifact.files[source], trusted)
        golden = read_golden(artifact.files[artifact.card.parity.file], artifact.card)
        _check_features(transformer, golden, artifact.card)
        where = "in the graph" if artifact.card.preprocessing.in_graph else "run from this file"
        yield f"preprocessor {type(transformer).__name__}, {where}; makes the features that training saw"


def _check_features(transformer: Any, golden: Golden, card: Card) -> None:
    """Checks that the preprocessor turns the golden observations into the golden features, as it did in training.

    Raises:
        ParityError: it makes other features.
    """
    flat = [golden.observations[name].reshape(len(golden.raw), -1) for name in card.observation_spec.names]
    made = OutOfGraph(transformer)(np.concatenate(flat, axis=1))
    wanted, parity = golden.features, card.parity
    if (
        wanted is None
        or made.shape != wanted.shape
        or not np.allclose(made, wanted, rtol=parity.rtol, atol=parity.atol)
    ):
        raise ParityError(
            f"{card.preprocessing.source}: {type(transformer).__name__} makes other features of the golden "
            f"observations than {card.parity.file} holds"
        )


class LoadRequest(msgspec.Struct):
    """The artifact that a child process has to load, as sent to it."""

    path: str
    digest: str | None
    device: str
    trusted: tuple[str, ...]
    backend: str = ""


def verify_apart(
    path: Path, digest: str | None, device: str = "cpu", trusted: Sequence[str] = (), backend: str = ""
) -> Iterator[str]:
    """Runs `verify` in a process of its own, so that a policy that crashes or hangs ends only that process.

    Raises:
        CrashError: loading it ended that process.
    """
    request = LoadRequest(str(path), digest, device, tuple(trusted), backend)
    yield from values_of("registry.checks.verify", [msgspec.json.encode(request).decode()])


def _verify_here(request: LoadRequest) -> Iterator[str]:
    return verify(Path(request.path), request.digest, request.device, request.trusted, request.backend)


if __name__ == "__main__":
    sys.exit(write_values(lambda: _verify_here(msgspec.json.decode(sys.argv[1], type=LoadRequest))))
