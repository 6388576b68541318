"""Under Ray, a replica whose forward hangs comes to an end, and Ray starts another."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import pytest
from patience import PATIENCE_S
from ray_cluster import Cluster
from slow_policies import HANGS_AT, laborious

pytest.importorskip("ray")
mark = pytest.mark
pytestmark = [mark.filterwarnings("ignore"), mark.cluster, mark.slow, mark.xdist_group("ray")]
JSON = {"Host": "localhost", "Content-Type": "application/json"}


def ask(url: str, value: float, **fields: Any) -> tuple[int, bytes]:
    body = msgspec.json.encode({"observations": [{"state": [value, *[0.5] * 15]}], **fields})
    answer = httpcore.request("POST", f"{url}/predict", headers=JSON, content=body)
    return answer.status, answer.content


@pytest.mark.parametrize("rounds", [0, 1], ids=["on the loop", "off the loop"])
def test_a_replica_whose_forward_hangs_is_replaced(cluster: Cluster, tmp_path: Path, rounds: int):
    from ray import serve

    from serve.ray_app import policy

    folder, name = laborious(tmp_path, rounds), f"hangs-{rounds}"
    url = f"{cluster.url}/{name}"
    arguments = {"model": str(folder), "forward_timeout_s": 2, "min_replicas": 1, "max_replicas": 1, "num_cpus": 0.5}
    serve.run(policy(arguments), name=name, route_prefix=f"/{name}")
    try:
        status, before = ask(url, 0.5)
        assert status == 200
        assert ask(url, HANGS_AT)[0] >= 500
        ends = time.monotonic() + PATIENCE_S
        while (found := ask(url, 0.5))[0] != 200:
            assert time.monotonic() < ends, found
            time.sleep(0.2)
        assert msgspec.json.decode(found[1])["actions"] == msgspec.json.decode(before)["actions"]
    finally:
        serve.delete(name)
