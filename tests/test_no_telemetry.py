"""Watched by strace, none of our processes speaks to another host or leaves a file in the user's home."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from following_support import until_true
from tests_support import EXAMPLE, ROOT, Server, missing

from benchmarks.support.connection import ask
from benchmarks.support.free_port import free_port
from benchmarks.support.requests import get_request
from registry.checks.machine_health import TELEMETRY

BIN = Path(sys.executable).parent
ACT = """
import sys, time
from carla_mlflow import Engine
for backend in ("onnx", "openvino", "torchscript"):
    Engine.open(sys.argv[1], device="cpu", backend=backend).warm_up(8)
time.sleep(1)  # a report is sent by a thread of its own
"""
PYFUNC = """
import sys, time
import carla_mlflow
import mlflow
policy = mlflow.pyfunc.load_model(sys.argv[1])
policy.predict(policy.input_example)
time.sleep(1)
"""
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
DOCKERFILES = {"mlflow": "deploy/mlflow/Dockerfile", "policy": "Dockerfile"}
REPORTS = {
    "mlflow": {"MLFLOW_DISABLE_TELEMETRY": "true"},
    "policy": {"MLFLOW_DISABLE_TELEMETRY": "true"},
    "grafana": {
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_SECURITY_DISABLE_GRAVATAR": "true",
    },
}
"""A service of compose.yaml that speaks to its maker by itself → the variables with which it does not."""


class Watched:
    """Commands run with an empty home, each under strace; what they asked of the network and of the home."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("strace") is None:
            missing("strace", "strace")
        self.home, self.traces, self.folder = folder / "home", folder / "traces", folder
        self.home.mkdir()
        self.traces.mkdir()
        # Without what a user has not set; these libraries keep silent where they believe themselves in CI or in a test.
        hidden = re.compile(r"CI|GITHUB_ACTIONS|PYTEST_.*|POLICY_.*|XDG_.*|DO_NOT_TRACK|.*TELEMETRY.*|RAY_USAGE.*")
        self.environment = {name: value for name, value in os.environ.items() if not hidden.fullmatch(name)}
        self.environment |= {"HOME": str(self.home), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        calls = "trace=connect,sendto,sendmsg,sendmmsg"
        trace = self.traces / str(len(list(self.traces.iterdir())))
        strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace), "-e", calls]
        return subprocess.Popen([*strace, *command], env=self.environment, cwd=self.folder)

    def run(self, *command: str) -> None:
        assert self.start(*command).wait() == 0

    def other_hosts(self) -> set[str]:
        """Addresses that were asked for and are not this machine; a name server counts."""
        found = set()
        for trace in self.traces.iterdir():
            for address in re.findall(r'(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"', trace.read_text()):
                if not ipaddress.ip_address(address).is_loopback and not ipaddress.ip_address(address).is_unspecified:
                    found.add(address)
        return found

    def in_home(self) -> set[str]:
        return {str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file()}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_an_engine_speaks_to_nobody_and_leaves_nothing_in_the_home(watched: Watched):
    watched.run(sys.executable, "-c", ACT, str(EXAMPLE))
    assert watched.other_hosts() == set()
    assert watched.in_home() == set()


def test_strace_sees_a_process_that_asks_for_another_host(watched: Watched):
    ask = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 9))"
    watched.start(sys.executable, "-c", ask).wait()
    assert watched.other_hosts() == {"192.0.2.1"}


def test_a_server_on_a_socket_that_follows_a_folder_uses_no_network_at_all(watched: Watched, short_folder: Path):
    shutil.copytree(EXAMPLE, watched.folder / "policies" / "v0.1.0")
    path = short_folder / "policy.sock"
    process = watched.start(str(BIN / "carla-serve"), "--model", "policies/@^0.1", "--host", f"unix:{path}")
    try:
        until_true(lambda: is_ready(path))
    finally:
        [served] = psutil.Process(process.pid).children()
        served.send_signal(signal.SIGTERM)
        process.wait()
    assert "AF_INET" not in "".join(trace.read_text() for trace in watched.traces.iterdir())


def is_ready(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return ask(path, get_request("/readyz")).status == 200
    return False


def test_rays_usage_statistics_are_off_before_ray_is_imported(watched: Watched):
    code = "import serve.ray_app\nfrom ray._common.usage import usage_lib\nassert not usage_lib.usage_stats_enabled()"
    alone = code.replace("import serve.ray_app\n", "")  # by itself Ray would send them
    for text, is_off in ((code, True), (alone, False)):
        done = subprocess.run([sys.executable, "-c", text], env=watched.environment, cwd=ROOT, capture_output=True)
        assert (done.returncode == 0, b"AssertionError" in done.stderr) == (is_off, not is_off), done.stderr


def test_every_service_of_compose_is_told_to_report_nothing():
    assert set(COMPOSE) == {"postgres", "prometheus", *REPORTS}  # two never report; another has to be looked into
    for name, settings in REPORTS.items():
        image = (ROOT / DOCKERFILES[name]).read_text() if name in DOCKERFILES else ""
        told = {**dict(re.findall(r"(\w+)=(\S+)", image)), **COMPOSE[name]["environment"]}
        assert told.items() >= settings.items(), name


def test_the_docs_name_every_variable_that_keeps_somebody_silent():
    page = (ROOT / "docs" / "explanation" / "guarantees.md").read_text()
    for name in {*TELEMETRY, *(name for settings in REPORTS.values() for name in settings)}:
        assert f"`{name}`" in page


@pytest.mark.slow
def test_training_exporting_judging_and_promoting_speak_to_nobody(watched: Watched):
    train = [sys.executable, "-m", "training_export"]
    watched.run(*train, "train", "--total-timesteps", "256", "--output", "checkpoint")
    watched.run(str(BIN / "carla-export"), "checkpoint", "--name", "quiet", "--output", "policy", "--episodes", "0")
    watched.run(sys.executable, "-m", "carla_mlflow.testing", "policy")
    watched.run(str(BIN / "carla-registry"), "register", "policy")
    watched.run(*train, "evaluate", "quiet@0.1.0", "--episodes", "1", "--duration", "1", "--log")
    forced = ["--force", "--reason", "it is the network that is watched"]
    watched.run(str(BIN / "carla-registry"), "promote", "quiet@0.1.0", "--to", "production", *forced)
    assert watched.other_hosts() == set()
    assert {name for name in watched.in_home() if not name.startswith(".cache/carla-mlflow/")} == set()


@pytest.mark.slow
def test_registering_serving_and_mlflows_own_loading_speak_to_nobody(watched: Watched):
    watched.run(str(BIN / "carla-registry"), "register", str(EXAMPLE), "--name", "quiet")
    watched.run(str(BIN / "carla-registry"), "list", "quiet")
    watched.run(sys.executable, "-c", PYFUNC, "models:/quiet/1")
    port = free_port()
    process = watched.start(str(BIN / "carla-serve"), "--model", "quiet@0.1.0", "--port", str(port))
    server = Server(process, f"http://127.0.0.1:{port}", watched.folder / "log")
    server.log.write_text("did not become ready")
    try:
        server.wait_ready()
        time.sleep(1)
    finally:
        server.pool.close()
        [served] = psutil.Process(process.pid).children()  # strace itself is deaf to signals
        served.send_signal(signal.SIGTERM)
        process.wait()
    assert watched.other_hosts() == set()
    assert {name for name in watched.in_home() if not name.startswith(".cache/carla-mlflow/")} == set()
