"""Ray Serve on a real cluster of two nodes: carla-serve's bits, a node that is killed, a promotion under load."""

from __future__ import annotations

import functools
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import pytest
from patience import PATIENCE_S
from ray_cluster import SLOW_PROXY
from tests_support import EXAMPLE, Server, example_as, registry_here, run_command

from benchmarks.support.free_port import free_port
from benchmarks.support.mlflow_server import MlflowServer
from carla_mlflow import Engine, open_artifact

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
]
JSON = {"Host": "localhost", "Content-Type": "application/json"}


@functools.cache
def engine() -> Engine:
    return Engine.open(EXAMPLE, device="cpu")


CORES = 4
"""That each node says it has; this machine's are shared."""


@pytest.fixture(scope="module")
def registry(mlflow_server: MlflowServer) -> MlflowServer:
    """The worker's own: nobody else's policy has this one's name."""
    return mlflow_server


@pytest.fixture(scope="module")
def moved(registry: MlflowServer, tmp_path_factory: pytest.TempPathFactory):
    """Moves production to a version."""
    home = tmp_path_factory.mktemp("cli")
    env = {"MLFLOW_TRACKING_URI": registry.uri, "XDG_CACHE_HOME": str(home / "cache")}
    for folder in (EXAMPLE, example_as(home, "0.2.0")):
        done = registry_here("register", str(folder), "--name", "mine", env=env)
        assert done.code == 0, done.err

    def to_production(version: str) -> None:
        command = ("promote", f"mine@{version}", "--to", "production", "--force", "--reason", "a test")
        done = run_command("carla-registry", *command, env=env)  # in a process that the load here does not slow down
        assert done.code == 0, done.err

    to_production("0.1.0")
    return to_production


class Deployed:
    """The application on two nodes, each with a cache of its own, and one port of Ray's proxy."""

    def __init__(self, cluster: Any, nodes: list[Any], url: str, caches: list[Path], downloads_before: int = 0) -> None:
        self.cluster, self.nodes, self.url, self.caches = cluster, nodes, url, caches
        self.downloads_before = downloads_before

    def ask(self, document: Any, pool: Any = httpcore) -> Any:
        answer = pool.request("POST", f"{self.url}/predict", headers=JSON, content=msgspec.json.encode(document))
        return answer.status, msgspec.json.decode(answer.content)


@pytest.fixture(scope="module")
def deployed(registry: MlflowServer, moved: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    from ray import serve
    from ray.cluster_utils import Cluster

    from serve.ray_app import policy

    given = {"MLFLOW_TRACKING_URI": registry.uri, "MLFLOW_DISABLE_TELEMETRY": "true"} | SLOW_PROXY
    os.environ.update(given)
    caches = [tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("cache")]
    of_nodes = [{"num_cpus": CORES, "env_vars": {"POLICY_CACHE_DIR": str(cache)}} for cache in caches]
    # A port of its own for the dashboard: beside another cluster there would be none, and with it no list of actors.
    cluster = Cluster(initialize_head=True, head_node_args={**of_nodes[0], "dashboard_port": free_port()})
    nodes = [cluster.head_node, cluster.add_node(**of_nodes[1])]
    port, before = free_port(), downloads(registry)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        arguments = {"model": "mine@production", "poll_s": 0.5, "min_replicas": 4, "max_replicas": 6, "num_cpus": 1}
        serve.run(policy(arguments), name="policy")
        yield Deployed(cluster, nodes, f"http://127.0.0.1:{port}", caches, before)
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
        for name in given:
            os.environ.pop(name)


def downloads(registry: MlflowServer) -> int:
    """Of a policy's graph, by anybody."""
    log = (registry.home / "mlflow-server.log").read_text()
    return len(re.findall(r"GET \S*/artifacts/\S*model\.onnx", log))


class Load:
    """Callers, for as long as the block lasts; what became of their requests."""

    def __init__(self, deployed: Deployed, callers: int = 4) -> None:
        self.deployed, self.outcomes, self.failed_at = deployed, Counter[Any](), list[float]()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpcore.ConnectionPool(max_connections=1) as pool:
            while not self._stop.is_set():
                try:
                    status, answer = self.deployed.ask({"observations": rows(1)}, pool)
                    self.outcomes[status if status != 200 else answer["version"]] += 1
                    if status == 200:
                        continue
                except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
                    self.outcomes[type(error).__name__] += 1
                self.failed_at.append(time.monotonic())

    def wait_for_answers(self, count: int) -> None:
        """Waits until that many more requests have been answered."""
        ends, before = time.monotonic() + PATIENCE_S, self.answered
        while self.answered < before + count:
            assert time.monotonic() < ends, self.outcomes
            time.sleep(0.1)

    @property
    def answered(self) -> int:
        return self.outcomes["0.1.0"] + self.outcomes["0.2.0"]

    @property
    def failed(self) -> int:
        return self.outcomes.total() - self.answered


def rows(count: int) -> list[dict[str, Any]]:
    golden = engine().golden.observations
    return [{name: array[row].tolist() for name, array in golden.items()} for row in range(count)]


def test_the_same_bits_as_carla_serve_at_every_door(deployed: Deployed, server: Server):
    for count in (1, 7, 64):
        status, answer = deployed.ask({"observations": rows(count), "details": True})
        alone = server.post("/predict", {"observations": rows(count), "details": True}).json
        assert status == 200
        for document in (answer, alone):
            document.pop("timing_ms")
        assert answer == alone
    for path, body in (("/invocations", {"inputs": rows(5)}), ("/v2/models/racetrack-policy", None)):
        assert said(deployed, path, body) == said(server, path, body)
    for path in ("/healthz", "/readyz", "/metadata", "/metrics", "/openapi.json", "/docs"):
        assert httpcore.request("GET", deployed.url + path).status == 200
    assert deployed.ask({"observations": [{}]})[0] == 422


def said(where: Any, path: str, body: Any) -> Any:
    content = None if body is None else msgspec.json.encode(body)
    answer = httpcore.request("GET" if body is None else "POST", where.url + path, headers=JSON, content=content)
    assert answer.status == 200, answer.content
    return msgspec.json.decode(answer.content)


def test_both_nodes_answer_and_each_fetched_the_policy_once(deployed: Deployed, registry: MlflowServer):
    from ray.util.state import list_actors

    actors = list_actors(deployed.cluster.address)  # else Ray asks the newest cluster of this machine
    replicas = [actor for actor in actors if "policy:policy" in actor.class_name and actor.state == "ALIVE"]
    assert len({actor.node_id for actor in replicas}) == 2
    for cache in deployed.caches:
        [fetched] = (cache / "artifacts").iterdir()
        assert open_artifact(fetched).digest == open_artifact(EXAMPLE).digest
    assert downloads(registry) - deployed.downloads_before == 2


def test_more_callers_bring_more_replicas_which_go_when_they_go(deployed: Deployed):
    from ray import serve

    from serve.ray_app import policy

    def replicas() -> int:
        return serve.status().applications["small"].deployments["policy"].replica_states.get("RUNNING", 0)

    def wait_for(count: int) -> float:
        began = time.monotonic()
        while replicas() != count:
            assert time.monotonic() < began + PATIENCE_S, f"{replicas()} replicas"
            time.sleep(0.5)
        return time.monotonic() - began

    arguments = {"model": str(EXAMPLE), "max_replicas": 2, "upscale_delay_s": 1, "downscale_delay_s": 2}
    serve.run(policy(arguments), name="small", route_prefix="/small")
    small = Deployed(deployed.cluster, deployed.nodes, f"{deployed.url}/small", deployed.caches)
    assert replicas() == 1
    with Load(small, callers=40) as load:
        up_s = wait_for(2)
        time.sleep(1)
    print(f"autoscaling: a second replica after {up_s:.0f} s, gone {wait_for(1):.0f} s after the load")
    assert load.failed == 0
    serve.delete("small")


def test_a_promotion_under_load_fails_no_request_and_reaches_every_replica(deployed: Deployed, moved: Any):
    with Load(deployed) as load:
        load.wait_for_answers(20)
        moved("0.2.0")
        ends = time.monotonic() + PATIENCE_S
        while [deployed.ask({"observations": rows(1)})[1]["version"] for _ in range(20)] != ["0.2.0"] * 20:
            assert time.monotonic() < ends
            time.sleep(0.2)
        load.wait_for_answers(20)
    assert load.failed == 0
    assert load.outcomes["0.1.0"] >= 20
    assert load.outcomes["0.2.0"] >= 20


def test_a_killed_node_costs_only_what_it_held_and_the_other_goes_on(deployed: Deployed):
    with Load(deployed) as load:
        load.wait_for_answers(20)
        killed_at = time.monotonic()
        deployed.cluster.remove_node(deployed.nodes[1], allow_graceful=False)
        time.sleep(20)
        failed = load.failed
        load.wait_for_answers(20)  # from the other node
        assert load.failed == failed
    recovered_s = max([at - killed_at for at in load.failed_at], default=0.0)
    print(f"killed node: {load.outcomes}, the last failure {recovered_s:.1f} s after")
    assert load.failed <= 8 + 4  # what four callers had there, and what they asked before Ray noticed
