"""Episodes over workers, restarts and promotions: each is one rollout of one version, whoever answers."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpcore
import numpy as np
import psutil
import pytest
from following_support import again, metric, served, until, workers
from remembering_policies import local, observed, remote
from tests_support import Server, own_cache

from benchmarks.policies.two_policies import small_policy
from benchmarks.support.encoding import rows_of
from carla_mlflow import Artifact, Engine, write_artifact
from carla_mlflow.contract.control import CONTROL_NAMES

pytestmark = pytest.mark.xdist_group("states")
Start = Callable[..., Server]
EPISODES, PROMOTIONS, STEPS = 6, 20, 15
PAUSE_S = 0.02
MB = 1e6
VERSION_MB = 6.0
"""What one more loaded version costs two workers, measured."""


@contextlib.contextmanager
def connections(server: Server, count: int) -> Iterator[list[Server]]:
    """The server by so many connections of its own."""
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(httpcore.ConnectionPool(max_connections=1)) for _ in range(count)]
        yield [Server(server.process, server.url, server.log, pool) for pool in pools]


def predict(server: Server, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = server.post("/predict", {"observations": rows})
    assert answer.status == 200, answer.body
    return answer.json["actions"]


def test_a_rollout_has_the_same_bits_over_two_workers_at_random_and_after_a_restart(
    start_server: Start, remembering: Artifact, tmp_path: Path
):
    folder, engine = write_artifact(tmp_path / "policy", remembering).path, Engine(remembering, "cpu")
    steps, chosen = observed(engine.specs, 4, 30), random.Random(3)

    def start() -> Server:
        server = start_server("--model", str(folder), "--workers", "2")
        server.wait_ready()
        return server

    server = start()
    answered: list[np.ndarray] = []
    with contextlib.ExitStack() as stack:
        ways = stack.enter_context(connections(server, 8))

        def ask(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            nonlocal ways
            if len(answered) == 15:
                assert all(any(c.status == "ESTABLISHED" for c in w.net_connections()) for w in workers(server))
                server.stop()
                ways = stack.enter_context(connections(start(), 8))
            answered.append(np.empty(0))
            order = chosen.sample(range(len(rows)), len(rows))  # each row by itself, by a connection of its own
            actions = {row: predict(chosen.choice(ways), [rows[row]])[0] for row in order}
            return [actions[row] for row in range(len(rows))]

        over_workers = remote(ask, steps, CONTROL_NAMES)
    assert over_workers.tobytes() == local(engine, steps).tobytes()


@dataclass
class Driven:
    """What the cars saw.

    Attributes:
        episodes: the digests of the answers of each episode that is over.
        refused: the answers that were no actions.
        over: how many episodes of each car are over.
    """

    episodes: list[set[str]] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    over: Counter[int] = field(default_factory=Counter)

    def each_car_is_further(self, episodes: int) -> Callable[[], bool]:
        """Whether each car has, from now on, ended so many more."""
        before = Counter(self.over)
        return lambda: all(self.over[number] >= before[number] + episodes for number in range(EPISODES))


@contextlib.contextmanager
def cars(server: Server, row: dict[str, Any], count: int) -> Iterator[Driven]:
    """Cars that drive one episode after the other, each step by a connection at random."""
    driven, stop = Driven(), threading.Event()

    def drive(number: int) -> None:
        chosen = random.Random(number)
        with connections(server, 4) as ways:
            while not stop.is_set():
                driven.episodes.append(episode(chosen, ways))
                driven.over[number] += 1

    def episode(chosen: random.Random, ways: list[Server]) -> set[str]:
        digests: set[str] = set()
        state, headers = {}, {}
        for _ in range(STEPS):
            answer = chosen.choice(ways).post("/predict", {"observations": [row | state]}, **headers)
            if answer.status != 200:
                driven.refused.append(answer.body)
                break
            digest, [action] = answer.json["digest"], answer.json["actions"]
            digests.add(digest)
            state = {"state": action["state"]} if "state" in action else {}
            headers = {} if state else {"X-Episode-Digest": digest}
            time.sleep(PAUSE_S)
        return digests

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield driven
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def resident(server: Server) -> float:
    """Megabytes of the workers' memory."""
    return sum(psutil.Process(worker.pid).memory_info().rss for worker in workers(server)) / MB


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["with memory", "without memory"])
def test_each_of_many_episodes_has_one_version_over_twenty_promotions_and_memory_is_given_back(
    start_server: Start, remembering: Artifact, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    own_cache(monkeypatch, tmp_path)
    base = remembering if kind == "with memory" else small_policy("1.0.0", 1)
    versions = [again(base, f"1.{number}.0") for number in range(PROMOTIONS + 1)]
    policies = tmp_path / "policies"

    def put(artifact: Artifact) -> None:
        write_artifact(policies / f"v{artifact.card.version}", artifact)

    put(versions[0])
    server = start_server(
        "--model", f"{policies}/@^1", "--workers", "2", "--poll-s", "0.2", "--fetch-timeout-s", "1",
        "--episode-hold-s", "20",
    )  # fmt: skip
    server.wait_ready()
    specs = base.card.observation_spec
    [row] = rows_of({spec.name: spec.generate_value()[None] for spec in specs})
    memory: list[float] = []
    with cars(server, row, EPISODES) as driven:
        for artifact in versions[1:]:
            until(driven.each_car_is_further(1), server)  # so none drives through more promotions than are held
            memory.append(resident(server))
            put(artifact)
            until(lambda version=artifact.card.version: served(server) == {version}, server)
        until(driven.each_car_is_further(2), server)
    assert driven.refused == []
    assert {len(digests) for digests in driven.episodes} == {1}
    assert set.union(*driven.episodes) == {artifact.digest for artifact in versions}
    until(lambda: metric(server, "policy_held_versions") == 0, server)
    # From the fourth on as many are held as ever will be. A version that stayed would cost both workers VERSION_MB or
    # more; what malloc does not give back, and the metrics of each version, are a fraction of that.
    assert (memory[-1] - memory[4]) / (len(memory) - 5) < VERSION_MB / 2, memory
