"""TorchScript that would do more than compute: refused in its own words, and nothing of it runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from forging import Canary, script, with_files
from torchscript_cases import BehindAnInterface

from carla_mlflow import Artifact, Engine, open_artifact
from carla_mlflow.errors import ArtifactError


@pytest.fixture(scope="module")
def artifact(example: Path) -> Artifact:
    return open_artifact(example)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x04pickle", b"not a graph", b"\xff" * 100])
@pytest.mark.parametrize(("name", "backend"), [("model_pt", "torchscript"), ("model_onnx", "onnx")])
def test_a_graph_that_is_none_is_refused(artifact: Artifact, data: bytes, name: str, backend: str):
    with pytest.raises(ArtifactError, match=r"model\.pt: not a TorchScript archive|model\.onnx: not an ONNX model"):
        Engine(with_files(artifact, **{name: data}), "cpu", backend)


class Evil(torch.nn.Module):
    """Reads and would write a file, as TorchScript can."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = str(path)

    def forward(self, speed: torch.Tensor, steering: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
        return sensors[:, :2] + torch.from_file(self.path, True, 2)


def test_torchscript_that_could_touch_files_is_refused_before_it_runs(artifact: Artifact, tmp_path: Path):
    canary = tmp_path / "canary"
    with pytest.raises(ArtifactError, match=r"model\.pt: uses operations that a policy may not use: aten::from_file"):
        Engine(with_files(artifact, model_pt=script(Evil(canary))), "cpu", "torchscript")
    assert not canary.exists()


class EvilState(torch.nn.Module):
    """Runs code when it is loaded."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = str(path)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path, self.training = state[0], state[1]
        torch.from_file(self.path, True, 2).fill_(7.0)

    def forward(self, speed: torch.Tensor, steering: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
        return sensors[:, :2]


def renamed(archive: bytes, old: str, new: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            if not name.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(name.replace(old, new)), source.read(name))
    return buffer.getvalue()


@pytest.mark.parametrize("folder", ["/code/", "/CODE/", "/Code/"])  # torch finds each of them
def test_torchscript_that_runs_code_when_it_is_loaded_is_refused_before(artifact, tmp_path: Path, folder: str):
    canary = tmp_path / "canary"
    forged = renamed(script(EvilState(canary)), "/code/", folder)
    canary.unlink(missing_ok=True)
    with pytest.raises(ArtifactError, match=r"runs when it is loaded|not a TorchScript archive as torch"):
        Engine(with_files(artifact, model_pt=forged), "cpu", "torchscript")
    assert not canary.exists()


def test_torchscript_that_hides_a_call_behind_an_interface_is_refused(artifact: Artifact, tmp_path: Path):
    canary = tmp_path / "canary"
    with pytest.raises(ArtifactError, match="may not use: prim::CallMethod"):
        Engine(with_files(artifact, model_pt=script(BehindAnInterface(canary))), "cpu", "torchscript")
    assert not canary.exists()


class Counting(torch.nn.Module):
    """Answers otherwise after many questions."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("asked", torch.zeros(2, 1))

    def forward(self, speed: torch.Tensor, steering: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
        self.asked.view(-1)[0].add_(1.0)
        return sensors[:, :2] + torch.floor(self.asked[0] / 1000.0)


def test_torchscript_that_counts_its_questions_is_refused(artifact: Artifact):
    with pytest.raises(ArtifactError, match=r"changes its own tensors when it runs"):
        Engine(with_files(artifact, model_pt=script(Counting())), "cpu", "torchscript")


class Halved(torch.nn.Module):
    def forward(self, speed: torch.Tensor, steering: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
        return sensors[:, :2].to(torch.bfloat16)


def test_torchscript_that_gives_what_numpy_has_no_type_for_is_refused(artifact: Artifact):
    with pytest.raises(ArtifactError, match="failed on an example of the card's observations"):
        Engine(with_files(artifact, model_pt=script(Halved())), "cpu", "torchscript")


def test_torchscript_with_a_pickle_inside_executes_nothing(artifact: Artifact, tmp_path: Path):
    canary = tmp_path / "canary"
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(artifact.files["model.pt"])) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            data = pickle.dumps(Canary(canary)) if name.endswith("/data.pkl") else source.read(name)
            target.writestr(name, data)
    with pytest.raises(ArtifactError, match=r"model\.pt"):
        Engine(with_files(artifact, model_pt=buffer.getvalue()), "cpu", "torchscript")
    assert not canary.exists()
