"""The conformance kit as a user runs it: over a folder, over a server, and over what does not hold."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import pytest
import torch
from conftest import servers
from tests_support import Finished, Server, command_here, run_command

from benchmarks.policies.remembering import lstm
from benchmarks.policies.two_policies import small_policy, write
from carla_mlflow import Engine, open_artifact
from carla_mlflow.testing import CHECKS, Subject
from carla_mlflow.testing.subject import FailedError
from training_export.export.export import export_policy


def kit(*arguments: str) -> Finished:
    """`python -m carla_mlflow.testing`, in this process."""
    return command_here("testing", *arguments)


def test_a_sound_artifact_holds_every_check_on_each_of_its_graphs(example: Path):
    done = run_command("python", "-m", "carla_mlflow.testing", str(example), "--json")
    assert done.code == 0, done.out + done.err
    told = json.loads(done.out)
    assert told["failed"] == 0
    assert len(told["checks"]) == len(CHECKS) * len(open_artifact(example).backends)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_one_backend_is_checked_alone_where_it_is_named(example: Path, backend: str):
    done = kit(str(example), "--backend", backend, "--json")
    assert done.code == 0, done.out + done.err
    assert {check["on"] for check in json.loads(done.out)["checks"]} == {f"{backend} on cpu"}


def test_a_sound_server_holds_with_its_artifact_and_without(server: Server, example: Path):
    done = kit(server.url, "--policy", str(example), "--p99-ms", "10000")
    assert done.code == 0, done.out + done.err
    assert "7 of 7 passed; name racetrack-policy, version 0.1.0" in done.out
    assert "golden_rows 64" in done.out
    done = kit(server.url, "--json")
    assert done.code == 0, done.out + done.err
    assert json.loads(done.out)["figures"]["requests"] == 500
    assert "not compared with an artifact" in done.err


def remembering_stacks(folder: Path) -> Path:
    """A policy with memory that sees a history, and whose actions hold for three ticks."""
    trained = lstm()
    beams = msgspec.structs.replace(trained.observation["beams"], history=[-2, -1, 0], history_start="zeros")
    action = msgspec.structs.replace(trained.action, repeat=3)
    trained = dataclasses.replace(trained, observation=trained.observation | {"beams": beams}, action=action)
    return write(export_policy(trained, "remembering", "1.0.0", "an LSTM").artifact, folder)


def test_a_sound_server_of_a_policy_with_memory_holds_every_check(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    folder = remembering_stacks(tmp_path)
    with servers(tmp_path_factory) as start:
        running = start("--model", str(folder))
        running.wait_ready()
        done = kit(running.url, "--policy", str(folder), "--p99-ms", "10000")
    assert done.code == 0, done.out + done.err
    assert "7 of 7 passed; name remembering, version 1.0.0" in done.out
    assert "golden_rows 128" in done.out


def test_other_recurrent_weights_than_the_artifacts_are_found_out_through_the_server(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    artifacts = {}
    for name, factor in (("served", 1.0), ("wanted", 1.01)):
        trained = lstm()
        assert isinstance(trained.graph, torch.nn.Module)
        with torch.no_grad():
            for key, weights in trained.graph.named_parameters():
                if key.endswith("weight_hh"):
                    weights.mul_(factor)
        artifacts[name] = write(export_policy(trained, "remembering", "1.0.0", name).artifact, tmp_path / name)
    with servers(tmp_path_factory) as start:
        running = start("--model", str(artifacts["served"]))
        running.wait_ready()
        done = kit(running.url, "--policy", str(artifacts["wanted"]))
    assert done.code == 1
    assert "5 of 7 passed" in done.out, done.out
    assert "but the trained policy gave" in done.out


def test_a_server_that_is_too_slow_or_drives_something_else_fails_in_words(server: Server, tmp_path: Path):
    other = write(small_policy("1.0.0", 1), tmp_path)
    done = kit(server.url, "--policy", str(other), "--p99-ms", "0.000001")
    assert done.code == 1
    assert "FAILED  the server serves the artifact\n        the server serves 0.1.0 with sha256:" in done.out
    assert "ms of 500 requests, allowed are 1e-06 ms" in done.out


def test_no_server_and_no_artifact_are_told_in_a_line(tmp_path: Path):
    done = kit("http://127.0.0.1:9")
    assert (done.code, "no answer" in done.err) == (3, True)
    done = kit(str(tmp_path / "nothing"))
    assert (done.code, "there is no such folder" in done.err) == (1, True)


class OfPlace(Engine):
    """Answers the first row of a batch otherwise than the same row elsewhere."""

    def act(self, observations, deterministic=True, seed=None):
        actions = super().act(observations, deterministic, seed)
        if len(actions.raw) > 1:
            actions.raw[0] += 1e-7
        return actions


@pytest.mark.parametrize("check", [c for c in CHECKS if "same_bits" in c.__name__], ids=lambda c: c.__name__)
def test_bits_that_depend_on_the_place_are_found_out(check, example: Path):
    artifact = open_artifact(example)
    with pytest.raises(FailedError, match="other bits"):
        check(Subject(OfPlace(artifact, "cpu"), artifact))
