from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests_support import Server

from benchmarks.free_port import free_port
from carla_mlflow import Engine, PolicyClient
from carla_mlflow.errors import ServerError, SpecError, UnreachableError


def test_the_remote_policy_answers_as_the_local_one(server: Server, example: Path):
    engine = Engine.open(example, device="cpu")
    golden = engine.golden.observations
    with PolicyClient(server.url) as client:
        for how in ({}, {"deterministic": False, "seed": 11}):
            local, remote = engine.act(golden, **how), client.act(golden, **how)
            assert remote.control.tobytes() == local.control.tobytes()
            assert remote.raw.tobytes() == local.raw.tobytes()
            assert remote.seed == local.seed
            for name, values in local.distribution.items():
                assert remote.distribution[name].tobytes() == values.tobytes()
        assert (client.version, client.digest) == ("0.1.0", engine.digest)


def test_what_does_not_fit_the_card_is_refused_before_it_is_sent(server: Server):
    with PolicyClient(server.url) as client, pytest.raises(SpecError, match=r"speed: 99 is outside \[0, 60\]"):
        client.act([{"speed": 99.0, "steering": 0.0, "sensors": [0.5] * 12}])


def test_a_refusal_carries_the_servers_code(server: Server):
    with PolicyClient(server.url) as client:
        row = {"speed": np.zeros(1025), "steering": np.zeros(1025), "sensors": np.zeros((1025, 12))}
        with pytest.raises(ServerError, match="at most 1024") as caught:
            client.act(row)
        assert caught.value.code == "bad_request"


def test_no_server_is_unreachable():
    with pytest.raises(UnreachableError, match="no answer"):
        PolicyClient(f"http://127.0.0.1:{free_port()}")


def test_a_url_without_a_scheme_is_refused():
    with pytest.raises(ServerError, match="expected a URL"):
        PolicyClient("localhost:8080")
