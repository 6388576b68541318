"""Every query of the dashboard and of the alerts, asked of a real Prometheus that scraped real traffic."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import pytest
import yaml
from patience import PATIENCE_S
from tests_support import ROOT, Server, missing

from benchmarks.support.free_port import free_port

pytestmark = pytest.mark.slow

DEPLOY = ROOT / "deploy"
DASHBOARD = msgspec.json.decode((DEPLOY / "grafana" / "policy-dashboard.json").read_bytes())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$job": "policy", "$instance": ".*", "$__rate_interval": "10s"}
EMPTY = ("Registry", "Registry answers", "Choices")
"""Panels that have nothing to show for a policy that is served from a folder."""
FIRES = {"FallbacksDriven"}
ROW = {"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}


class Prometheus:
    """A running one."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def wait_ready(self) -> None:
        """Return once it answers queries: it listens before it has read its storage, and answers 503 until then."""
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            with contextlib.suppress(httpcore.NetworkError):
                if httpcore.request("GET", f"{self._url}/-/ready").status == 200:
                    return
            time.sleep(0.1)
        raise AssertionError("Prometheus did not become ready")

    def ask(self, query: str) -> list[Any]:
        """An instant query's result; fails when Prometheus does not take it."""
        answer = httpcore.request("GET", f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        document = msgspec.json.decode(answer.content)
        assert document["status"] == "success", (query, document)
        return document["data"]["result"]


@contextlib.contextmanager
def scraping(server: Server, folder: Path) -> Iterator[Prometheus]:
    """Debian's Prometheus, with our configuration but for the target and a shorter interval."""
    program = shutil.which("prometheus") or missing("Prometheus", "prometheus")
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    for before, after in (("localhost:8080", server.url.removeprefix("http://")), (": 5s", ": 1s")):
        assert before in text
        text = text.replace(before, after)
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", folder)
    port = free_port()
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        prometheus = Prometheus(port)
        prometheus.wait_ready()
        yield prometheus
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def scraped(prometheus: Prometheus, query: str, enough: Callable[[list[Any]], bool]) -> list[Any]:
    """A query's result, once it is enough."""
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        found = prometheus.ask(query)
        if enough(found):
            return found
        time.sleep(0.3)
    raise AssertionError(f"{query}: {found}")


def traffic(server: Server) -> Counter[int]:
    """One round of every kind; how often each status came."""
    tensors = {"speed": [1], "steering": [1], "sensors": [1, 12]}
    inputs = [
        {"name": name, "shape": shape, "datatype": "FP32", "data": ROW[name] if len(shape) > 1 else [ROW[name]]}
        for name, shape in tensors.items()
    ]
    found = [
        server.post("/predict", {"observations": [ROW, ROW | {"speed": 59.99}]}, **{"X-Episode-Id": "two-cars"}),
        server.post("/predict", {"observations": [ROW] * 5, "deterministic": False}),
        server.post("/predict", {"observations": []}),
        server.post("/predict", {"observations": [ROW | {"speed": 99.0}]}),
        server.post("/predict", {"observations": [ROW], "budget_ms": 0}),
        server.post("/invocations", {"inputs": [ROW]}),
        server.post("/v2/models/racetrack-policy/infer", {"inputs": inputs}),
        server.get("/nowhere"),
    ]
    return Counter(answer.status for answer in found)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, example: Path) -> Iterator[tuple[Prometheus, Counter[int]]]:
    from conftest import servers

    with servers(tmp_path_factory) as start:
        server = start("--model", str(example), "--workers", "2", "--result-cache", "10")
        server.wait_ready()
        with scraping(server, tmp_path_factory.mktemp("prometheus")) as prometheus:
            sent = traffic(server)  # what has never been counted can not rise
            scraped(prometheus, 'policy_requests_total{code="504"}', bool)
            ends = time.monotonic() + 6
            while time.monotonic() < ends:
                sent += traffic(server)
                time.sleep(0.1)
            last = 'sum(policy_requests_total{code="422"})'
            scraped(prometheus, last, lambda found: bool(found) and float(found[0]["value"][1]) == sent[422])
            yield prometheus, sent


def asked(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_every_panel_shows_what_was_scraped(watched, panel: dict[str, Any]):
    prometheus, _ = watched
    assert panel["description"].endswith(".")
    found = [series for target in panel["targets"] for series in prometheus.ask(asked(target["expr"]))]
    values = [float(series["value"][1]) for series in found]
    assert all(value >= 0 for value in values)  # no NaN either
    assert bool(values) is (panel["title"] not in EMPTY)


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_every_alert_is_asked_and_fires_for_a_reason_alone(watched, rule: dict[str, Any]):
    prometheus, _ = watched
    assert bool(prometheus.ask(rule["expr"])) is (rule["alert"] in FIRES)
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    for series in prometheus.ask(rule["expr"]):
        assert named <= set(series["metric"])


def test_prometheus_counts_what_was_sent(watched):
    prometheus, sent = watched
    counted = prometheus.ask('sum by (code) (policy_requests_total{route!~"/readyz|/metrics"})')
    assert Counter({int(series["metric"]["code"]): int(series["value"][1]) for series in counted}) == sent
    [actions] = prometheus.ask("sum(policy_actions_total)")
    assert int(actions["value"][1]) == sent[400] * 9  # 2 + 5 + 1 + 1 in each round
    [dimension] = prometheus.ask('sum(policy_action_count{dimension="steer"})')
    assert dimension["value"][1] == actions["value"][1]
    [fallbacks] = prometheus.ask('policy_fallbacks_total{reason="deadline_exceeded"}')
    assert int(fallbacks["value"][1]) == sent[504]
    [info] = prometheus.ask("policy_model_info")
    assert (info["metric"]["name"], info["metric"]["backend"]) == ("racetrack-policy", "onnx")


def test_every_metric_of_the_server_is_on_the_dashboard(watched):
    prometheus, _ = watched
    names = {series["metric"]["__name__"] for series in prometheus.ask('{__name__=~"policy_.*",job="policy"}')}
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in names}
    text = str(DASHBOARD)
    assert {name for name in families if name not in text} == set()
