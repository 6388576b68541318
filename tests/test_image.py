"""The real image, built and run as users run it: confined, as PID 1, following a registry."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpcore
import msgspec
import numpy as np
import podman_images as engine
import pytest
from patience import PATIENCE_S
from podman_images import BAKED, IMAGE, podman, running
from tests_support import EXAMPLE, example_as, registry_here

from benchmarks.support.free_port import free_port
from benchmarks.support.mlflow_server import MlflowServer
from carla_mlflow import Engine, __version__, open_artifact
from carla_mlflow.contract.control_kinds import CONTROL_NAMES

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.xdist_group("container")]
ROW = {"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}
DIGEST = open_artifact(EXAMPLE).digest
WRONG_PIN = ("--model", "/policy/policy", "--digest", "sha256:" + "0" * 64)


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    """Both images."""
    engine.need_podman()
    engine.make_base()
    engine.build(IMAGE)
    engine.build(BAKED, "--build-arg", "ARTIFACT=examples/v0.1.0")


@pytest.fixture
def name() -> str:
    return new_name()


def new_name() -> str:
    return f"policy-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def baked(image: None) -> Iterator[tuple[engine.Container, float]]:
    """One that only answers, shared by those that only ask it; the seconds that it took to be ready."""
    with running(BAKED, new_name(), free_port()) as container:
        yield container, container.wait_ready()


Baked = tuple[engine.Container, float]


def test_a_baked_policy_is_pinned_and_gives_the_engines_bits(baked: Baked):
    container, _ = baked
    assert container.ask("/readyz").json == {"ready": True, "warnings": []}
    answer = container.ask("/predict", {"observations": [ROW]})
    wanted = Engine.open(EXAMPLE, device="cpu").act([ROW]).control[0]
    assert answer.json["digest"] == DIGEST
    assert [np.float32(answer.json["actions"][0][key]) for key in CONTROL_NAMES] == wanted.tolist()


def test_its_size_and_its_start_are_told(baked: Baked, capsys: pytest.CaptureFixture[str]):
    size, base = (json.loads(podman("inspect", each))[0]["Size"] / 1e6 for each in (BAKED, engine.BASE))
    with capsys.disabled():
        print(f"\nimage: {size:.0f} MB, its base {base:.0f}; ready {baked[1]:.1f} s after podman run")


def test_it_holds_no_compiler_no_pip_and_nothing_that_it_may_write(baked: Baked):
    name = baked[0].name
    for program in ("gcc", "cc", "pip", "curl"):
        assert podman("exec", name, "sh", "-c", f"command -v {program} || echo none") == "none"
    assert podman("exec", name, "id", "-u") == "10001"
    for path in ("/", "/opt/policy", "/policy", "/etc"):
        assert "no" in podman("exec", name, "sh", "-c", f"touch {path}/x 2>/dev/null && echo yes || echo no")


def test_its_labels_and_healthz_say_the_same_version_and_commit(baked: Baked):
    alive = baked[0].ask("/healthz").json
    labels = json.loads(podman("inspect", BAKED))[0]["Labels"]
    assert alive["git_sha"] == labels["org.opencontainers.image.revision"] != "unknown"
    assert alive["service_version"] == labels["org.opencontainers.image.version"] == __version__


def test_its_health_check_needs_no_curl_and_tells_ready_from_not(baked: Baked, name: str):
    [image] = json.loads(podman("inspect", IMAGE))
    check = image["Healthcheck"]["Test"]  # podman's place for it
    assert check[:1] == ["CMD"]
    podman("exec", baked[0].name, *check[1:])
    with running(BAKED, name + "-wrong", free_port(), flags=WRONG_PIN) as container:
        container.wait_for(lambda: container.ask("/healthz").status == 200)
        assert subprocess.run(["podman", "exec", container.name, *check[1:]], capture_output=True).returncode == 1


def test_a_wrong_digest_is_never_ready_and_stays_alive(name: str):
    with running(BAKED, name, free_port(), flags=WRONG_PIN) as container:
        container.wait_for(lambda: "was pinned" in container.ask("/readyz").json["error"]["message"])
        assert container.ask("/readyz").status == 503
        assert container.ask("/healthz").status == 200
        assert container.ask("/predict", {"observations": [ROW]}).status == 503


def test_term_as_pid_1_drains_and_exits_0(name: str):
    with running(BAKED, name, free_port(), "-e", "POLICY_DRAIN_S=1") as container:
        container.wait_ready()
        outcomes, stop = Counter[object](), threading.Event()
        body = msgspec.json.encode({"observations": [ROW]})

        def load() -> None:
            with httpcore.ConnectionPool(max_connections=1) as pool:
                url = f"http://127.0.0.1:{container.port}/predict"
                headers = {"Host": "localhost", "Content-Type": "application/json"}
                while not stop.is_set():
                    try:
                        outcomes[pool.request("POST", url, headers=headers, content=body).status] += 1
                    except httpcore.ConnectError:
                        return  # it has stopped

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        podman("kill", "--signal", "TERM", name)
        container.wait_for(lambda: container.state()["Status"] == "exited")
        stop.set()
        for thread in threads:
            thread.join()
        assert container.state()["ExitCode"] == 0
        assert set(outcomes) == {200}


def test_a_worker_over_the_memory_limit_is_killed_and_comes_back(name: str):
    remembers = ("--memory", "220m", "-e", "POLICY_RESULT_CACHE=10000000")  # more rows than that holds
    with running(BAKED, name, free_port(), *remembers) as container:
        container.wait_ready()
        rng, ends = np.random.default_rng(0), time.monotonic() + PATIENCE_S
        try:
            while time.monotonic() < ends:
                rows = [{**ROW, "speed": float(speed)} for speed in rng.uniform(0, 10, 1024)]
                assert container.ask("/predict", {"observations": rows}).status == 200
        except (httpcore.NetworkError, httpcore.ProtocolError):
            pass  # the kernel has ended the worker
        container.began = time.monotonic()
        container.wait_ready()
        assert "SIGKILL" in container.log()
        assert container.state()["Status"] == "running"
        assert container.ask("/predict", {"observations": [ROW]}).status == 200


@pytest.fixture
def registry(tmp_path: Path, tables: Path) -> Iterator[MlflowServer]:
    shutil.copy(tables, tmp_path)
    server = MlflowServer(tmp_path)
    yield server
    server.kill()


def test_it_follows_a_promotion_on_a_registry_outside(name: str, registry: MlflowServer, tmp_path: Path):
    env = {"MLFLOW_TRACKING_URI": registry.uri, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for version in ("0.1.0", "0.2.0"):
        folder = EXAMPLE if version == "0.1.0" else example_as(tmp_path, version)
        done = registry_here("register", str(folder), "--name", "mine", env=env)
        assert done.code == 0, done.err

    def to_production(version: str) -> None:
        command = ("promote", f"mine@{version}", "--to", "production", "--force", "--reason", "a test")
        done = registry_here(*command, env=env)
        assert done.code == 0, done.err

    to_production("0.1.0")
    settings = (f"MLFLOW_TRACKING_URI={registry.uri}", "POLICY_MODEL=mine@production", "POLICY_POLL_S=0.5")
    with running(IMAGE, name, free_port(), *(part for setting in settings for part in ("-e", setting))) as container:
        container.wait_ready()
        assert container.ask("/predict", {"observations": [ROW]}).json["version"] == "0.1.0"
        to_production("0.2.0")
        container.wait_for(lambda: container.ask("/predict", {"observations": [ROW]}).json["version"] == "0.2.0")
        assert container.ask("/metadata").json["stage"] == "production"
