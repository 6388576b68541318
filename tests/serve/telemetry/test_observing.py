"""What a server tells of single requests: lines of its log, spans of OpenTelemetry."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from following_support import until
from otlp_collector import collecting
from tests_support import Server, run_command

from benchmarks.support.free_port import free_port

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
ROW = {"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}
KINDS = pytest.mark.parametrize("kind", ["loop", "gthread"])


def started(start: Callable[..., Server], example: Path, *flags: str) -> Server:
    server = start("--model", str(example), "--drain-s", "0.1", *flags)
    server.wait_ready()
    return server


def lines(server: Server, logger: str) -> list[dict[str, Any]]:
    """Of a log whose every line has to be an object."""
    found = [msgspec.json.decode(line) for line in server.log.read_bytes().splitlines() if line.startswith(b"{")]
    return [line for line in found if line["logger"] == logger]


@KINDS
def test_a_log_of_json_has_an_object_a_line_with_the_requests_id(start_server, example: Path, kind: str):
    server = started(start_server, example, "--log-format", "json", "--log-requests", "refused", "--worker-class", kind)
    assert server.post("/predict", {"observations": [ROW]}).status == 200
    assert server.post("/predict", {"observations": []}, traceparent=TRACEPARENT).status == 400
    assert server.get("/nothing").status == 404

    def found() -> list[dict[str, Any]]:
        return [line for line in lines(server, "serve.request") if line["route"] != "/readyz"]

    until(lambda: len(found()) == 2, server)  # a line is written after its answer
    predicted, missing = found()
    assert (predicted["route"], predicted["status"]) == ("/predict", 400)
    assert predicted["request_id"] == TRACE
    assert (predicted["method"], predicted["version"], predicted["level"]) == ("POST", "0.1.0", "INFO")
    assert predicted["total_ms"] > 0
    assert (missing["route"], missing["status"]) == ("other", 404)
    assert server.stop() == 0
    text = server.log.read_text().splitlines()
    assert [line for line in text if not line.startswith("{")] == [text[0]]  # that it is unpinned, for people
    assert lines(server, "gunicorn.error")


def test_every_request_has_a_line_if_that_is_wanted(start_server, example: Path):
    server = started(start_server, example, "--log-format", "json", "--log-requests", "all")
    answer = server.post("/predict", {"observations": [ROW] * 3})

    def found() -> list[dict[str, Any]]:
        return [line for line in lines(server, "serve.request") if line["route"] == "/predict"]

    until(found, server)  # a line is written after its answer
    [line] = found()
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["status"], line["rows"]) == (200, 3)
    assert 0 < line["inference_ms"] < line["total_ms"]


def test_by_default_the_log_has_no_lines_of_requests(start_server, example: Path):
    server = started(start_server, example)
    server.post("/predict", {"observations": []})
    assert "/predict" not in server.log.read_text()


@KINDS
def test_spans_belong_to_the_callers_trace(start_server, example: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")  # so that only its end can have sent them
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        server = started(start_server, example, "--worker-class", kind)
        before = time.time_ns()
        server.post("/predict", {"observations": [ROW] * 2}, traceparent=TRACEPARENT)
        server.post("/predict", {"observations": []}, traceparent=TRACEPARENT.replace("-01", "-00"))
        assert server.stop() == 0
        spans = {span.name: span for span in collector.wait_for(2)}
    request = spans["POST /predict"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    told = {a.key: a.value.int_value or a.value.string_value for a in request.attributes}
    assert (told["http.response.status_code"], told["policy.version"]) == (200, "0.1.0")
    assert before < request.start_time_unix_nano < request.end_time_unix_nano < time.time_ns()
    assert collector.services == {"carla-serve"}
    forward = spans["forward"]
    assert told["policy.rows"] == 2
    assert forward.parent_span_id == request.span_id
    times = [request.start_time_unix_nano, forward.start_time_unix_nano, forward.end_time_unix_nano]
    assert times == sorted(times)
    assert forward.end_time_unix_nano <= request.end_time_unix_nano


def test_spans_that_nobody_takes_hold_up_nothing(start_server, example: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    server = started(start_server, example)
    for _ in range(300):
        assert server.post("/predict", {"observations": [ROW], "budget_ms": 5000}).status == 200
    assert server.stop() == 0


def test_a_log_format_that_does_not_exist_is_refused():
    done = run_command("carla-serve", "--model", "x@production", "--log-format", "xml")
    assert done.code == 2
    assert "log_format: 'xml': expected text or json" in done.err
