"""A Ray cluster of one node with one core, for the tests of what replicas do on it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support.free_port import free_port
from serve.run_folder import RUN_FOLDER

SLOW_PROXY = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
"""Environment of a cluster on a busy machine: Ray kills a proxy that takes more than 5 s to start, and gives up."""
SLOW_CONTROLLER = {"RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5"}
"""Ray's controller looks at all replicas ten times a second, which takes a twentieth of a core when nothing happens."""
NOT_NEEDED = {"include_log_monitor": False, "no_monitor": True}
"""Arguments of a head node: processes that forward logs and start machines, neither of which the tests have."""


@dataclass
class Cluster:
    """Where Ray's proxy answers, and where replicas meet."""

    url: str
    tmp: Path
    nodes: Any

    def add_node(self) -> Any:
        return self.nodes.add_node(num_cpus=1, env_vars={"TMPDIR": str(self.tmp)})

    def folders(self) -> set[Path]:
        """In which replicas of one application and node meet."""
        return set(self.tmp.glob(f"{RUN_FOLDER}*"))


@contextlib.contextmanager
def one_node(tmp_path_factory: pytest.TempPathFactory, **environment: str) -> Iterator[Cluster]:
    """Starts a cluster whose processes have these variables, too; stops it at the end of the block."""
    import ray
    from ray import cluster_utils, serve

    before, port = dict(os.environ), free_port()
    os.environ.update(SLOW_PROXY | SLOW_CONTROLLER | environment)
    os.environ["RAY_TMPDIR"] = tempfile.gettempdir()  # a short path, since its sockets lie there
    os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("tmp"))
    nodes = cluster_utils.Cluster(True, head_node_args={"num_cpus": 1, "include_dashboard": False, **NOT_NEEDED})
    try:
        ray.init(address=nodes.address, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield Cluster(f"http://127.0.0.1:{port}", Path(os.environ["TMPDIR"]), nodes)
    finally:
        serve.shutdown()
        ray.shutdown()
        nodes.shutdown()
        os.environ.clear()
        os.environ.update(before)
