"""The id of an episode: which are taken, and where they come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import servers
from following_support import until
from otlp_collector import collecting
from tests_support import Answer, Server

ROW = {"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}
INFER = "/v2/models/racetrack-policy/infer"
INPUTS = [
    {"name": "speed", "shape": [1], "datatype": "FP32", "data": [6.0]},
    {"name": "steering", "shape": [1], "datatype": "FP32", "data": [0.1]},
    {"name": "sensors", "shape": [1, 12], "datatype": "FP32", "data": [0.5] * 12},
]
BODIES: dict[str, dict[str, Any]] = {
    "/predict": {"observations": [ROW]},
    "/invocations": {"inputs": [ROW]},
    INFER: {"inputs": INPUTS},
}
NO_IDS = ("", "a b", "a,b", "x" * 65, "route/1", "a:b")


@pytest.fixture(scope="module", params=["loop", "gthread"])
def any_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, example: Path
) -> Iterator[Server]:
    with servers(tmp_path_factory) as start:
        running = start(
            "--model", str(example), "--worker-class", request.param,
            "--log-format", "json", "--log-requests", "all", "--cors-origins", "https://cars.example",
        )  # fmt: skip
        running.wait_ready()
        yield running


def text_of(answer: Answer) -> str:
    """The message of an error in any of the three protocols."""
    error = answer.json.get("error", answer.json.get("message"))
    return f"{error.get('field')}: {error['message']}" if isinstance(error, dict) else error


@pytest.mark.parametrize("path", BODIES)
def test_the_header_comes_back_with_every_answer(any_server: Server, path: str):
    for name in ("a", "Town05_long-7.route", "x" * 64):
        given = {"X-Episode-Id": name}
        good = any_server.post(path, BODIES[path], **given)
        bad = any_server.post(path, b"{", **given)
        late = any_server.post(path, BODIES[path], **given, **{"X-Request-Budget-Ms": "0"})
        unread = any_server.post(path, BODIES[path], "text/xml", **given)
        assert [answer.status for answer in (good, bad, late, unread)] == [200, 400, 504, 415]
        assert {answer.headers["x-episode-id"] for answer in (good, bad, late, unread)} == {name}
    assert "x-episode-id" not in any_server.post(path, BODIES[path]).headers


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("given", NO_IDS)
def test_a_header_that_is_no_id_is_refused_and_does_not_come_back(any_server: Server, path: str, given: str):
    answer = any_server.post(path, BODIES[path], **{"X-Episode-Id": given})
    assert (answer.status, "x-episode-id" in answer.headers) == (400, False)
    assert text_of(answer).startswith("X-Episode-Id: expected 1 to 64 characters")
    assert b"bad_request" in answer.body
    assert any_server.post(path, BODIES[path]).status == 200


def test_two_headers_are_no_id(any_server: Server):
    body = msgspec.json.encode(BODIES["/predict"])
    pairs = [("Host", "localhost"), ("Content-Type", "application/json"), ("X-Episode-Id", "a"), ("X-Episode-Id", "b")]
    answer = any_server.pool.request("POST", any_server.url + "/predict", headers=pairs, content=body)
    assert answer.status == 400


def test_what_is_no_prediction_has_no_episode(any_server: Server):
    for given in ("a", "a b"):
        answer = any_server.send("GET", "/readyz", None, {"X-Episode-Id": given})
        assert (answer.status, "x-episode-id" in answer.headers) == (200, False)


def infer(server: Server, episode_id: Any, *, inputs: Any = INPUTS, **headers: str) -> Answer:
    return server.post(INFER, {"parameters": {"episode_id": episode_id}, "inputs": inputs}, **headers)


def test_the_parameter_comes_back_as_parameter_and_header(any_server: Server):
    answer = infer(any_server, "route-7")
    assert answer.status == 200
    assert (answer.json["parameters"]["episode_id"], answer.headers["x-episode-id"]) == ("route-7", "route-7")
    by_header = any_server.post(INFER, {"inputs": INPUTS}, **{"X-Episode-Id": "route-7"})
    assert "episode_id" not in by_header.json["parameters"]
    assert "x-episode-id" not in infer(any_server, None).headers


def test_an_error_after_the_parameter_was_read_carries_it(any_server: Server):
    outside = [INPUTS[0] | {"data": [99.0]}, *INPUTS[1:]]
    refused = infer(any_server, "route-7", inputs=outside)
    late = infer(any_server, "route-7", **{"X-Request-Budget-Ms": "0"})
    assert [refused.status, late.status] == [422, 504]
    assert [answer.headers["x-episode-id"] for answer in (refused, late)] == ["route-7"] * 2


@pytest.mark.parametrize("given", [*NO_IDS, " ", "ä", "a\n", 7, True, ["a"]])
def test_a_parameter_that_is_no_id_is_refused(any_server: Server, given: Any):
    answer = infer(any_server, given)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert answer.json["error"].startswith("parameters.episode_id: expected 1 to 64 characters")


def test_header_and_parameter_may_agree_but_not_differ(any_server: Server):
    alike = infer(any_server, "a", **{"X-Episode-Id": "a"})
    assert (alike.status, alike.headers["x-episode-id"]) == (200, "a")
    unlike = infer(any_server, "b", **{"X-Episode-Id": "a"})
    assert (unlike.status, unlike.json["code"]) == (400, "bad_request")
    assert unlike.json["error"] == "parameters.episode_id: names another episode than the header X-Episode-Id"
    assert unlike.headers["x-episode-id"] == "a"


def test_pages_of_a_configured_origin_may_send_and_read_it(any_server: Server):
    origin = {"Origin": "https://cars.example"}
    preflight = any_server.send("OPTIONS", "/predict", None, origin | {"X-Episode-Id": "a"})
    assert preflight.status == 204
    assert "X-Episode-Id" in preflight.headers["access-control-allow-headers"]
    answer = any_server.post("/predict", BODIES["/predict"], **origin, **{"X-Episode-Id": "a"})
    assert "X-Episode-Id" in answer.headers["access-control-expose-headers"]
    assert answer.headers["x-episode-id"] == "a"


def test_lines_of_requests_have_the_episode(any_server: Server):
    ids = {"X-Request-Id": "lines-of-requests"}
    any_server.post("/predict", BODIES["/predict"], **ids, **{"X-Episode-Id": "in-the-header"})
    any_server.post("/predict", {"observations": []}, **ids, **{"X-Episode-Id": "refused"})
    infer(any_server, "in-the-body", **ids)
    infer(any_server, "late", **ids, **{"X-Request-Budget-Ms": "0"})
    any_server.post("/predict", BODIES["/predict"], **ids)

    def found() -> list[dict[str, Any]]:
        lines = [msgspec.json.decode(line) for line in any_server.log.read_bytes().splitlines() if b"{" in line]
        return [line for line in lines if line.get("request_id") == ids["X-Request-Id"]]

    until(lambda: len(found()) == 5, any_server)  # a line is written after its answer
    assert [line["episode_id"] for line in found()] == ["in-the-header", "refused", "in-the-body", "late", None]
    assert found()[0]["message"].endswith("request lines-of-requests, episode in-the-header")


@pytest.mark.parametrize("kind", ["loop", "gthread"])
def test_spans_have_the_episode_and_metrics_never(
    start_server: Callable[..., Server], example: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")  # so that only its end can have sent them
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        server = start_server("--model", str(example), "--drain-s", "0.1", "--worker-class", kind)
        server.wait_ready()
        traced = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        server.post("/predict", BODIES["/predict"], **traced, **{"X-Episode-Id": "town05-7"})
        server.post("/invocations", BODIES["/invocations"], **traced)
        assert b"town05-7" not in server.get("/metrics").body
        assert server.stop() == 0
        spans = {span.name: span for span in collector.wait_for(4)}
    attributes = {
        name: {a.key: a.value.string_value for a in spans[name].attributes}
        for name in ("POST /predict", "POST /invocations")
    }
    assert attributes["POST /predict"]["policy.episode_id"] == "town05-7"
    assert "policy.episode_id" not in attributes["POST /invocations"]


def test_the_document_has_the_header_and_the_parameter(any_server: Server):
    document = any_server.get("/openapi.json").json
    for path in BODIES:
        described = {entry["name"]: entry for entry in document["paths"][path]["post"]["parameters"]}
        assert described["X-Episode-Id"]["schema"]["pattern"] == "^[A-Za-z0-9._-]{1,64}$"
        assert "X-Episode-Id" in document["paths"][path]["post"]["responses"]["200"]["headers"]
    parameters = document["components"]["schemas"]["InferRequest"]["properties"]["parameters"]["properties"]
    assert parameters["episode_id"]["pattern"] == "^[A-Za-z0-9._-]{1,64}$"
