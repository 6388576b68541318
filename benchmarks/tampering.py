"""python -m benchmarks.tampering [ARTIFACT]: 600 single-bit flips in each file, with and without our digests.

Without: what TorchScript, ONNX Runtime, numpy, skops and the YAML reader themselves accept, in separate processes, as
some flips crash them. With: what `open_artifact` accepts under a pinned digest.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.support.command_line import add_artifact, parser_of
from benchmarks.support.table import Column, Table
from carla_mlflow import Artifact, open_artifact
from carla_mlflow.artifact.golden import read_golden
from carla_mlflow.backends.loading import load_backend
from carla_mlflow.contract.card import parse_card
from carla_mlflow.errors import ArtifactError
from carla_mlflow.preprocessing.skops_file import load_preprocessor

FLIPS = 600
TIMEOUT_S = 20
OUTCOMES = ("refused", "crashed", "same answers", "other answers")
TABLE = Table("", 22, (*(Column(name, len(name) + 2) for name in OUTCOMES), Column("|", 3), Column("loaded", 8)))


def flipped(data: bytes, bit: int) -> bytes:
    """The same bytes with one bit flipped."""
    turned = bytearray(data)
    turned[bit // 8] ^= 1 << bit % 8
    return bytes(turned)


def load_bare(artifact: Artifact, name: str, data: bytes) -> bool:
    """Loads a file without a digest; for a graph, returns whether its outputs differ, else True."""
    card = artifact.card
    file = card.files.get(name)
    if file is not None and file.backend is not None:
        names = card.observation_spec.names, tuple(card.action.outputs())
        rows = read_golden(artifact.files[card.parity.file], card).observations
        before, after = (
            load_backend(file.backend, graph, "cpu", *names)([rows[n] for n in names[0]])
            for graph in (artifact.files[name], data)
        )
        return any(a.tobytes() != b.tobytes() for a, b in zip(before, after, strict=True))
    readers: dict[str, Callable[[], Any]] = {
        card.parity.file: lambda: read_golden(data, card),
        "model_card.yaml": lambda: parse_card(data),
    }
    readers.get(name, lambda: load_preprocessor(data))()
    return True


def _outcomes(artifact: Artifact, name: str, bits: list[int], found: Any) -> None:
    for bit in bits:
        try:
            otherwise = load_bare(artifact, name, flipped(artifact.files[name], bit))
            found.put("other answers" if otherwise else "same answers")
        except Exception:  # a flipped bit may make a reader raise anything
            found.put("refused")


def without_digest(artifact: Artifact, name: str, bits: list[int]) -> dict[str, int]:
    """Outcome → how many flips have it when the file's own reader loads them."""
    counts = dict.fromkeys(OUTCOMES, 0)
    context = multiprocessing.get_context("spawn")
    left = list(bits)
    with tqdm(total=len(bits), desc=name, leave=False, disable=None) as bar:
        while left:
            found = context.Queue()
            process = context.Process(target=_outcomes, args=(artifact, name, left, found))
            process.start()
            done = 0
            while done < len(left):
                try:
                    counts[found.get(timeout=TIMEOUT_S if process.is_alive() else 1)] += 1
                    done += 1
                    bar.update()
                except Exception:  # queue.Empty: the process died, or hangs
                    break
            process.kill()
            process.join()
            if done < len(left):
                counts["crashed"] += 1
                done += 1
                bar.update()
            left = left[done:]
    return counts


def with_digest(artifact: Artifact, name: str, bits: list[int]) -> int:
    """How many flips `open_artifact` accepts under the pinned digest."""
    passed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "artifact"
        shutil.copytree(artifact.path, folder)
        for bit in bits:
            (folder / name).write_bytes(flipped(artifact.files[name], bit))
            try:
                open_artifact(folder, artifact.digest)
                passed += 1
            except ArtifactError:
                pass
    return passed


def main() -> None:
    parser = parser_of(__doc__)
    add_artifact(parser)
    artifact = open_artifact(parser.parse_args().artifact)
    print(f"{FLIPS} single-bit flips a file; without our digests, by the file's own reader | with: loaded")
    TABLE.print_heading()
    for name, data in artifact.files.items():
        size = len(data) * 8
        bits = np.random.default_rng(0).choice(size, FLIPS, replace=size < FLIPS).tolist()
        bare, pinned = without_digest(artifact, name, bits), with_digest(artifact, name, bits)
        TABLE.print_row(name, *(bare[outcome] for outcome in OUTCOMES), "|", pinned)


if __name__ == "__main__":
    main()
