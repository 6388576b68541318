"""Under Ray, replicas follow a folder of artifacts as they follow a registry."""

from __future__ import annotations

import time
from pathlib import Path

import httpcore
import msgspec
import pytest
from patience import PATIENCE_S
from ray_cluster import Cluster
from tests_support import example_as

pytest.importorskip("ray")
mark = pytest.mark
pytestmark = [mark.filterwarnings("ignore"), mark.cluster, mark.slow, mark.xdist_group("ray")]


def test_a_new_subfolder_is_taken_by_a_replica(cluster: Cluster, tmp_path: Path):
    from ray import serve

    from serve.ray_app import policy

    policies = tmp_path / "policies"
    example_as(policies, "1.0.0").rename(policies / "v1.0.0")
    arguments = {"model": f"{policies}/@^1", "poll_s": 0.5, "min_replicas": 1, "max_replicas": 1, "num_cpus": 0.5}
    serve.run(policy(arguments), name="folder", route_prefix="/folder")
    try:
        assert version(cluster.url) == "1.0.0"
        example_as(tmp_path, "1.1.0").rename(policies / "v1.1.0")
        ends = time.monotonic() + PATIENCE_S
        while version(cluster.url) != "1.1.0":
            assert time.monotonic() < ends
            time.sleep(0.2)
    finally:
        serve.delete("folder")


def version(url: str) -> str:
    answer = httpcore.request("GET", f"{url}/folder/metadata", headers={"Host": "localhost"})
    assert answer.status == 200, answer.content
    return str(msgspec.json.decode(answer.content)["version"])
