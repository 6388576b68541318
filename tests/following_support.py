"""What the tests of following share: a policy in a registry under several versions, good ones and bad ones."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import msgspec
import psutil
import torch
from forging import script, with_files
from patience import PATIENCE_S
from tests_support import Server

from benchmarks.policies.bad_policies import publish
from benchmarks.policies.two_policies import NAME, Questions
from benchmarks.support.mlflow_server import MlflowServer
from carla_mlflow import Artifact, write_artifact
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.artifact.golden import read_golden

LONGEST_PAUSE_S = 0.1


@dataclass
class Registry:
    """A running MLflow server that holds 1.0.0 and 1.1.0, with other weights."""

    server: MlflowServer
    artifacts: list[Artifact]
    questions: Questions

    def publish(self, artifact: Artifact) -> str:
        """Puts any artifact into the registry, as someone could who does not ask our commands; MLflow's number."""
        return publish(artifact, self.server.home)

    def point(self, alias: str, number: str) -> None:
        """Moves an alias as MLflow's UI does."""
        mlflow.MlflowClient().set_registered_model_alias(NAME, alias, number)

    def stored(self, artifact: Artifact) -> list[Path]:
        """The folders of the server that hold an artifact's files."""
        cards = self.server.home.rglob("model_card.yaml")
        return [card.parent for card in cards if card.read_bytes() == artifact.files["model_card.yaml"]]


def again(artifact: Artifact, version: str, **changed: object) -> Artifact:
    """The same policy under another version, other parts of its card changed too."""
    card = msgspec.structs.replace(artifact.card, version=version, **changed)
    return seal(card, {name: artifact.files[name] for name in artifact.card.files})


def out_of_parity(artifact: Artifact, version: str) -> Artifact:
    """Its golden answers are another policy's."""
    golden = read_golden(artifact.files["golden.npz"], artifact.card)
    golden.action[:] = 1.0 - golden.action
    return with_files(again(artifact, version), golden_npz=golden.to_bytes())


class Endless(torch.nn.Module):
    """Ten thousand rounds, each of them slow: minutes for one action."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(512))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        x = self.weight * state.sum()
        for _ in range(10_000):
            x = torch.mm(x, self.weight)
        return torch.tanh(state[:, :3] + 0.0 * x.sum())


def hanging(artifact: Artifact, version: str) -> Artifact:
    """Its warm-up does not come to an end."""
    return with_files(again(artifact, version, backend="torchscript"), model_pt=script(Endless().eval()))


def of_other_contract(artifact: Artifact, version: str) -> Artifact:
    """It wants to be asked ten times a second instead of twenty."""
    return again(artifact, version, action=msgspec.structs.replace(artifact.card.action, rate_hz=10.0))


def until(happened: Callable[[], object], server: Server, limit_s: float = PATIENCE_S) -> None:
    """Waits; the limit is for a machine that is busy, and promises no speed."""
    for _ in pauses(limit_s):
        if happened():
            return
    raise AssertionError(server.log.read_text()[-6000:])


def until_true(happened: Callable[[], object], limit_s: float = PATIENCE_S) -> None:
    """Waits for what no server tells of."""
    for _ in pauses(limit_s):
        if happened():
            return
    raise AssertionError(f"not within {limit_s} s")


def pauses(limit_s: float) -> Iterator[None]:
    """Yields again and again, until the limit is over: at first often, then less, since each look costs CPU time.

    What takes long to happen is seen at most LONGEST_PAUSE_S late; servers and cars of the tests share the processors
    with who looks.
    """
    pause_s, ends = 0.02, time.monotonic() + limit_s
    yield
    while time.monotonic() < ends:
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.25, LONGEST_PAUSE_S)
        yield


def metric(server: Server, name: str, **labels: str) -> float | None:
    """The value of the first sample of that name that has those labels."""
    for line in server.get("/metrics").body.decode().splitlines():
        found = re.fullmatch(rf"{name}(\{{.*\}})? (\S+)", line)
        if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
            return float(found[2])
    return None


def served(server: Server) -> set[str]:
    """The versions that any worker of a server serves."""
    return set(re.findall(r'^policy_model_info\{.*version="([^"]+)"', server.get("/metrics").body.decode(), re.M))


def put(folder: Path, artifact: Artifact) -> Path:
    """Adds a version to a folder of versions."""
    return write_artifact(folder / f"v{artifact.card.version}", artifact).path


def following_folder(start_server: Callable[..., Server], policies: Path, *flags: str) -> Server:
    """A ready server that follows the newest 1.x of a folder of versions."""
    server = start_server("--model", f"{policies}/@^1", "--poll-s", "0.2", "--fetch-timeout-s", "1", *flags)
    server.wait_ready()
    return server


def promote(server: Server, policies: Path, artifact: Artifact) -> None:
    """Adds a version to the followed folder, and waits until the server has taken it."""
    put(policies, artifact)
    until(lambda: served(server) == {artifact.card.version}, server)


def follower(server: Server) -> psutil.Process | None:
    """The server's follower, when it runs."""
    return next((child for child in _children(server) if "serve.following.follower" in _command(child)), None)


def workers(server: Server) -> list[psutil.Process]:
    """The server's workers."""
    return [
        child for child in _children(server) if _command(child) and "serve.following.follower" not in _command(child)
    ]


def _children(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # it has just ended, also when nobody has taken note of it yet
        return []
