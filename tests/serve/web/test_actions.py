"""Actions that are no pedals: every protocol answers what the card's policy answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import servers
from tests_support import Server
from without_pedals import KINDS, Kind

from carla_agent.thin_client import ThinClient
from carla_mlflow import ContractError, PolicyClient

Start = Callable[..., Server]


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(f"actions-{name}")) for name in KINDS]
)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def serving(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers(tmp_path_factory) as start:
        server = start("--model", str(kind.write(tmp_path_factory.mktemp("policy"))))
        server.wait_ready()
        yield server


def test_predict_answers_the_cards_names_and_labels(serving: Server, kind: Kind):
    answer = serving.post("/predict", {"observations": [{"x": row} for row in kind.rows]})
    assert answer.status == 200
    assert answer.json["actions"] == kind.answers
    one = serving.post("/predict", {"observations": [{"x": kind.rows[1]}], "details": True}).json
    assert one["actions"] == kind.answers[1:]
    assert list(one["details"][0]["raw"]) == list(kind.draft.raw or ["choice"])


def test_the_fallback_has_the_form_of_an_answer(serving: Server, kind: Kind):
    late = serving.post("/predict", {"observations": [{"x": kind.rows[0]}], "budget_ms": 0})
    assert late.status == 504
    assert late.json["fallback"] == kind.fallback


def test_invocations_answer_the_columns_of_a_table(serving: Server, kind: Kind):
    answer = serving.post("/invocations", {"inputs": {"x": kind.rows}})
    rows = [dict(zip(kind.columns, values, strict=True)) for values in zip(*kind.columns.values(), strict=True)]
    assert answer.json == {"predictions": rows}


def test_inference_answers_one_tensor_a_name(serving: Server, kind: Kind):
    entry = {"name": "x", "datatype": "FP32", "shape": [2, len(kind.rows[0])], "data": kind.rows}
    answer = serving.post("/v2/models/no-pedals/infer", {"inputs": [entry]}).json
    assert {output["name"]: output["datatype"] for output in answer["outputs"]} == dict.fromkeys(kind.names, "FP32")
    np.testing.assert_array_equal([output["data"] for output in answer["outputs"]], kind.control.T)
    described = [output["name"] for output in serving.get("/v2/models/no-pedals").json["outputs"]]
    assert described[: len(kind.names)] == kind.names


def test_the_clients_give_the_numbers_under_their_names(serving: Server, kind: Kind):
    with PolicyClient(serving.url) as client:
        actions, late = client.act(kind.observations), client.act(kind.observations, budget_ms=0)
    np.testing.assert_array_equal(actions.control, kind.control)
    assert list(actions.names) == list(late.names) == kind.names
    assert late.fallback
    with pytest.raises(ContractError, match=f"answers {', '.join(kind.names)}, not throttle, brake and steer"):
        actions.vehicle_control()
    with ThinClient(serving.url, budget_ms=20_000) as thin:
        assert list(thin.names) == kind.names
        assert thin.act({"x": kind.rows[0]}) == tuple(kind.control[0].tolist())
        assert thin.fell_back is None


def test_openapi_describes_what_is_answered(serving: Server, kind: Kind):
    schemas = serving.get("/openapi.json").json["components"]["schemas"]
    assert list(schemas["Action"]["properties"]) == list(kind.answers[0])
    for name, described in schemas["Action"]["properties"].items():
        for answer in kind.answers:
            _check(described, answer[name])
        with pytest.raises(AssertionError):
            _check(described, -9)


def _check(schema: dict, value: object) -> None:
    """Holds a value against the parts of JSON Schema that the document uses for actions."""
    if schema["type"] == "object":
        assert isinstance(value, dict)
        assert set(value) == set(schema["properties"])
        for name, part in schema["properties"].items():
            _check(part, value[name])
    elif schema["type"] == "string":
        assert value in schema["enum"]
    else:
        assert schema["type"] == "number" or type(value) is int
        assert isinstance(value, int | float)
        assert schema["minimum"] <= value <= schema["maximum"]


def test_metrics_and_the_last_minute_count_by_name(serving: Server, kind: Kind):
    page = serving.get("/metrics").body.decode()
    before = _counts(page)
    serving.post("/predict", {"observations": [{"x": row} for row in kind.rows]})
    added = {
        labels: count - before.get(labels, 0.0)
        for labels, count in _counts(serving.get("/metrics").body.decode()).items()
    }
    added = {labels: count for labels, count in added.items() if count}
    wanted = {}
    for name, values in zip(kind.names, kind.control.T.tolist(), strict=True):
        labels = kind.columns[name] if any(type(value) is not float for value in kind.columns[name]) else None
        if labels is None:
            wanted[f'policy_action_count{{dimension="{name}",version="1.0.0"}}'] = 2.0
        for label in set(labels or ()):
            counted = f'policy_choices_total{{choice="{label}",dimension="{name}",version="1.0.0"}}'
            wanted[counted] = float((labels or []).count(label))
        assert len(values) == 2
    assert added == wanted
    minute = serving.get("/metadata").json["last_minute"]
    assert list(minute) == ["latency", *kind.names]
    assert all(sum(count for _, count in minute[name]) >= 2 for name in kind.names)


def _counts(page: str) -> dict[str, float]:
    found = re.findall(r"^(policy_(?:action_count|choices_total){[^}]*}) (\S+)$", page, re.MULTILINE)
    return {labels: float(count) for labels, count in found}


def test_an_episode_counts_the_changes_of_acceleration_and_steering_alone(start_server: Start, tmp_path: Path):
    for name in ("acceleration", "steer", "values"):
        kind = KINDS[name]
        server = start_server("--model", str(kind.write(tmp_path / name)))
        server.wait_ready()
        with PolicyClient(server.url) as client:
            episode = client.start_episode()
            for row in kind.observations["x"]:
                episode.act({"x": row})
        page = server.get("/metrics").body.decode()
        sums = dict(re.findall(r'policy_action_change_sum{dimension="(\w+)",version="1.0.0"} (\S+)', page))
        changed = {key: float(value) for key, value in sums.items() if float(value)}
        assert changed == {"acceleration": {"acceleration": 1.0}, "steer": {"steer": 1.5}, "values": {}}[name]
