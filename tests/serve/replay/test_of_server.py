"""What a real server recorded, replayed: the same bits, its machine and backend, and late requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests_support import EXAMPLE, Server, run_command

from benchmarks.support.encoding import rows_of
from carla_mlflow import Artifact, Engine, PolicyClient, write_artifact
from serve.record.files import open_recordings
from serve.record.machine import ENGINE, MACHINE, REFERENCE, this_machine

StartServer = Callable[..., Server]


def replayed(folder: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    done = run_command("python", "-m", "serve", "replay", str(folder), *flags, "--json")
    told = [line for line in done.err.splitlines() if not line.startswith("replaying: ")]  # how far, on a slow machine
    assert told == []
    return done.code, json.loads(done.out)


def test_a_servers_answers_are_given_again_bit_by_bit(start_server: StartServer, tmp_path: Path):
    folder = tmp_path / "recordings"
    server = start_server("--model", str(EXAMPLE), "--record", str(folder), "--workers", "2")
    server.wait_ready()
    engine, rng = Engine.open(EXAMPLE, device="cpu"), np.random.default_rng(0)
    for number in range(30):
        rows = rows_of({spec.name: spec.sample(rng, 1 + number % 3) for spec in engine.specs})
        more: dict[str, Any] = {"deterministic": False, "seed": number} if number % 5 == 0 else {}
        assert server.post("/predict", {"observations": rows, **more}, **{"X-Episode-Id": "drive"}).status == 200
    late = server.post("/predict", {"observations": rows[:1], "budget_ms": 0.001})
    assert late.status == 504
    assert server.post("/predict", {"observations": [{"speed": "fast"}]}).status == 422
    server.stop()
    code, told = replayed(folder, "--artifacts", str(EXAMPLE))
    assert (code, told["outcomes"], told["lost"]) == (0, {"policy": 60, "fallback": 1, "refused": 1}, 0)
    [again] = told["again"]
    assert (again["rows"], again["equal"], again["fallbacks"], again["why_not_bits"]) == (60, 60, 1, "")
    [origin] = {json.dumps(file.origin): file.origin for file in open_recordings(folder).files}.values()
    assert json.loads(origin[MACHINE]) == this_machine()
    assert json.loads(origin[ENGINE + engine.digest]) == {"backend": "onnx", "device": "cpu"}
    assert origin[REFERENCE] == ""


def test_episodes_of_a_policy_with_memory_are_given_again_bit_by_bit(
    start_server: StartServer, remembering: Artifact, tmp_path: Path
):
    artifact, folder = write_artifact(tmp_path / "policy", remembering).path, tmp_path / "recordings"
    server = start_server("--model", str(artifact), "--record", str(folder))
    server.wait_ready()
    rng = np.random.default_rng(0)
    with PolicyClient(server.url) as client:
        episodes = [client.start_episode() for _ in range(3)]
        for _ in range(15):
            for episode in episodes:
                episode.act({spec.name: spec.sample(rng, 1)[0] for spec in remembering.card.observation_spec})
    server.stop()
    code, told = replayed(folder, "--artifacts", str(artifact))
    assert (code, told["episodes"]) == (0, 3)
    [again] = told["again"]
    assert (again["rows"], again["equal"], again["skipped"]) == (45, 45, {})


def test_without_its_requirements_the_command_says_what_to_install():
    code = "import sys; sys.modules['pyarrow'] = None; from serve.__main__ import main; "
    code += "sys.exit(main(['replay', 'recordings']))"
    done = run_command("python", "-c", code)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith(
        "python -m serve replay: needs pyarrow, which is not installed: pip install 'carla-mlflow["
    )
