"""Under Ray, an application keeps its contract until it is deployed anew; what crashes never drives."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import psutil
import pytest
from following_support import Registry, of_other_contract, until_true
from ray_cluster import Cluster

from benchmarks.policies.bad_policies import crashing
from benchmarks.policies.two_policies import NAME
from serve.run_folder import ready_workers, worker_states

pytest.importorskip("ray")
mark = pytest.mark
pytestmark = [mark.filterwarnings("ignore"), mark.cluster, mark.slow, mark.xdist_group("ray")]
JSON = {"Host": "localhost", "Content-Type": "application/json"}
REPLICAS, ASKED = 2, 20
"""Requests enough for each replica to get some."""


class Application:
    """One that follows an alias of its own, on this machine alone."""

    def __init__(self, url: str, name: str, num_cpus: float, replicas: int = REPLICAS) -> None:
        self.url, self.name, self.num_cpus, self.count = f"{url}/{name}", name, num_cpus, replicas

    def deploy(self) -> None:
        """As `serve run` does, beside what runs under this name."""
        from ray import serve

        from serve.ray_app import policy

        arguments = {
            "model": f"{NAME}@{self.name}",
            "poll_s": 0.5,
            "min_replicas": self.count,
            "max_replicas": self.count,
        }
        serve.run(policy({**arguments, "num_cpus": self.num_cpus}), name=self.name, route_prefix=f"/{self.name}")

    def kill(self) -> None:
        """Its replicas, all at once; Ray starts others."""
        processes = self.replicas()
        assert len(processes) == self.count
        for process in processes:
            process.send_signal(signal.SIGKILL)

    def replicas(self) -> list[psutil.Process]:
        """Those processes of this user that Ray named after the application."""
        named = f"ray::ServeReplica:{self.name}:policy"
        found = [(each, each.info["cmdline"] or [""]) for each in psutil.process_iter(["cmdline"])]
        return [process for process, command in found if command[0].startswith(named)]

    def versions(self) -> set[str]:
        """That answer now."""
        return {self.ask() for _ in range(ASKED)}

    def ask(self) -> str:
        body = msgspec.json.encode({"observations": [{"state": [0.1] * 16}]})
        answer = httpcore.request("POST", f"{self.url}/predict", headers=JSON, content=body)
        return str(msgspec.json.decode(answer.content)["version"] if answer.status == 200 else answer.status)

    def warns(self, text: str) -> bool:
        return text in httpcore.request("GET", f"{self.url}/readyz").content.decode()


@pytest.fixture
def started(cluster: Cluster, registry: Registry) -> Iterator[Callable[[str], Application]]:
    """Starts an application under a name, which is its alias too; it serves 1.0.0."""
    from ray import serve

    running: list[Application] = []

    def start(name: str, num_cpus: float = 0.5, replicas: int = REPLICAS) -> Application:
        registry.point(name, "1")
        application = Application(cluster.url, name, num_cpus, replicas)
        application.deploy()
        running.append(application)
        assert application.versions() == {"1.0.0"}
        return application

    yield start
    for application in running:
        serve.delete(application.name)


def test_an_application_keeps_its_contract_whatever_crashes_until_it_is_deployed_anew(
    started: Any, registry: Registry, cluster: Cluster
):
    others = cluster.folders()
    application = started("kept")
    [folder] = cluster.folders() - others
    before = {process.pid for process in application.replicas()}

    registry.point("kept", registry.publish(crashing(registry.artifacts[1], "9.8.0")))
    until_true(lambda: application.warns("the process that loaded it was killed (SIGSEGV)"))
    assert application.versions() == {"1.0.0"}
    assert {process.pid for process in application.replicas()} == before

    registry.point("kept", registry.publish(of_other_contract(registry.artifacts[1], "9.6.0")))
    until_true(lambda: application.warns("another contract"))
    assert application.versions() == {"1.0.0"}

    application.kill()
    until_true(lambda: len({process.pid for process in application.replicas()} - before) == REPLICAS)
    until_true(lambda: application.versions() == {"1.0.0"})
    until_true(lambda: ready_workers(folder) == len(worker_states(folder)) == REPLICAS)

    application.deploy()
    until_true(lambda: application.versions() == {"9.6.0"})


def test_an_application_that_comes_after_another_takes_a_new_contract(started: Any, registry: Registry):
    from ray import serve

    application = started("after", replicas=1)
    for version, is_killed in (("9.5.0", False), ("9.5.1", True)):
        if is_killed:
            application.kill()
        serve.delete("after")
        registry.point("after", registry.publish(of_other_contract(registry.artifacts[1], version)))
        application.deploy()
        assert application.versions() == {version}


def test_a_node_that_comes_later_serves_no_other_contract(started: Any, registry: Registry, cluster: Cluster):
    other = cluster.add_node()
    application = started("wide", num_cpus=1)
    registry.point("wide", registry.publish(of_other_contract(registry.artifacts[1], "9.9.0")))
    until_true(lambda: application.warns("another contract"))
    before = cluster.folders()
    cluster.nodes.remove_node(other)
    other = cluster.add_node()
    until_true(lambda: kinds_refused(cluster.folders() - before) == {"contract"})
    until_true(lambda: application.versions() == {"1.0.0"})
    cluster.nodes.remove_node(other)


def kinds_refused(folders: set[Path]) -> set[str]:
    """By replicas that meet there."""
    return {refused.kind for folder in folders for state in worker_states(folder) for refused in state.refused}


def test_a_policy_that_the_registry_does_not_have_is_refused_at_once(cluster: Cluster, registry: Registry):
    with pytest.raises(RuntimeError, match="failed"):
        Application(cluster.url, "nobody-set-this-alias", 0.5, replicas=1).deploy()  # each is begun three times
