"""Ray's replicas record as workers of carla-serve do: each node has a writer, which ends after them."""

from __future__ import annotations

from pathlib import Path

import httpcore
import msgspec
import pytest
from following_support import until_true
from ray_cluster import Cluster
from recording_support import table_of
from tests_support import EXAMPLE

from serve.record.files import open_recordings
from serve.record.start import rings_folder

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
]
ROW = {"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}


def test_what_replicas_answered_is_in_the_files_once_they_have_ended(cluster: Cluster, tmp_path: Path):
    from ray import serve

    from serve.ray_app import policy

    serve.run(policy({"model": str(EXAMPLE), "record": str(tmp_path / "records")}))
    body = msgspec.json.encode({"observations": [ROW, ROW]})
    headers = {"Host": "localhost", "Content-Type": "application/json", "X-Episode-Id": "drive"}
    for _ in range(20):
        assert httpcore.request("POST", f"{cluster.url}/predict", headers=headers, content=body).status == 200
    rings = {ring for folder in cluster.folders() for ring in rings_folder(folder).glob("*.ring")}
    assert rings
    serve.delete("default")
    until_true(lambda: not any(ring.parent.exists() for ring in rings))
    found = open_recordings(tmp_path / "records")
    assert table_of(found, episode="drive")["frame_index"].to_pylist() == [step for step in range(20) for _ in range(2)]
    assert (found.rows, found.lost, found.verify()) == (40, 0, [])
