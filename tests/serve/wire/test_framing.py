"""HTTP by the standard, and nothing that has two readings: raw bytes against both kinds of server."""

from __future__ import annotations

import contextlib
import gzip
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from patience import PATIENCE_S
from tests_support import Server

from benchmarks.hostile import framing
from benchmarks.hostile.framing import bare, chunk, chunked, smuggling
from serve.limits import REST_S
from serve.settings import Settings

BODY = b'{"observations":[{"speed":6,"steering":0,"sensors":[1,1,1,1,1,1,1,1,1,1,1,1]}]}'
JSON = b"Content-Type: application/json\r\n"
KINDS = ("loop", "gthread")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, example: Path) -> Iterator[dict[str, Server]]:
    from conftest import servers

    with servers(tmp_path_factory) as start:
        flags = ("--model", str(example), "--max-body-bytes", "100000", "--body-timeout-s", "1")
        flags += ("--allowed-hosts", "localhost,evil.example")
        running = {kind: start(*flags, "--worker-class", kind, "--header-timeout-s", "1") for kind in KINDS}
        for server in running.values():
            server.wait_ready()
        yield running


@pytest.fixture(params=KINDS)
def any_server(request: pytest.FixtureRequest, both: dict[str, Server]) -> Server:
    return both[request.param]


@pytest.fixture
def loop_server(both: dict[str, Server]) -> Server:
    return both["loop"]


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=PATIENCE_S)


def read_all(raw: socket.socket) -> bytes:
    """Until the server closes."""
    found = b""
    try:
        while part := raw.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def say(server: Server, *parts: bytes) -> bytes:
    """What a connection gets that says so much, and then no more."""
    with connect(server) as raw:
        for part in parts:
            raw.sendall(part)
        raw.shutdown(socket.SHUT_WR)
        return read_all(raw)


def post(*headers: bytes, body: bytes = BODY, length: bytes | None = None) -> bytes:
    return framing.post(body, *headers, length=length)


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

SMUGGLING, BARE = smuggling(BODY), bare()


@pytest.mark.parametrize("name", SMUGGLING)
def test_what_has_two_readings_is_refused_and_the_connection_ends(any_server: Server, name: str):
    answer = say(any_server, SMUGGLING[name] + GET)
    assert len(statuses(answer)) == 1, answer
    assert statuses(answer)[0] in (400, 413, 431, 505)
    assert b"alive" not in answer


@pytest.mark.parametrize("name", BARE)
def test_the_loop_is_stricter_still(loop_server: Server, name: str):
    answer = say(loop_server, BARE[name] + GET)
    assert statuses(answer) == [400]


def test_a_body_shorter_than_its_length_is_no_request(any_server: Server):
    answer = say(any_server, post(length=b"%d" % (len(BODY) + 5)))
    assert statuses(answer) in ([400], [])
    assert b"throttle" not in answer


def test_requests_in_one_packet_are_answered_in_order(any_server: Server):
    answer = say(any_server, post(b"X-Request-Id: a\r\n") + GET.replace(b"Host", b"X-Request-Id: b\r\nHost"))
    assert statuses(answer) == [200, 200]
    assert answer.index(b"X-Request-Id: a") < answer.index(b"X-Request-Id: b")


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(("empty", "expected"), [(1, [200, 200]), (2, [400])])
def test_one_empty_line_before_a_request_is_ignored_in_whatever_pieces_it_comes(
    loop_server: Server, size: int, empty: int, expected: list[int]
):
    asked = (b"\r\n" * empty + GET) * 2
    with connect(loop_server) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # it has ended the connection
            for start in range(0, len(asked), size):
                raw.sendall(asked[start : start + size])
            raw.shutdown(socket.SHUT_WR)
        assert statuses(read_all(raw)) == expected


def test_an_empty_line_between_requests_whose_heads_are_known_is_ignored_too(loop_server: Server):
    with connect(loop_server) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(4):
            raw.sendall(post())
            assert b" 200 " in raw.recv(65536)
            raw.sendall(b"\r\n")
            time.sleep(0.02)  # so that it comes by itself; were it not to, the answer would be the same


def test_a_hundred_pipelined_predictions_are_answered_in_order(loop_server: Server):
    asked = [post(b"X-Request-Id: n%03d\r\n" % number) for number in range(100)]
    answer = say(loop_server, b"".join(asked))
    assert statuses(answer) == [200] * 100
    assert re.findall(rb"X-Request-Id: n(\d{3})", answer) == [b"%03d" % number for number in range(100)]


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_bytes_may_come_in_pieces_of_any_size(loop_server: Server, size: int):
    whole = post() + chunked(chunk(BODY[:10]), chunk(BODY[10:], b";x=y"), b"0\r\nX-Trailer: 1\r\n\r\n") + GET
    with connect(loop_server) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(whole), size):
            raw.sendall(whole[start : start + size])
        raw.shutdown(socket.SHUT_WR)
        assert statuses(read_all(raw)) == [200, 200, 200]


def test_chunks_and_gzip_give_the_action_of_the_plain_body(any_server: Server):
    plain = any_server.post("/predict", BODY).json["actions"]
    zipped = gzip.compress(BODY)
    for request in (
        chunked(chunk(BODY[:33]), chunk(BODY[33:]), b"0\r\n\r\n"),
        post(b"Content-Encoding: gzip\r\n", body=zipped),
    ):
        answer = say(any_server, request)
        assert statuses(answer) == [200], answer
        assert msgspec.json.decode(b"{" + answer.split(b"\r\n\r\n{")[1].rstrip(b"\r\n0"))["actions"] == plain


def test_bodies_over_the_limit_are_413_whole_in_chunks_and_unzipped(any_server: Server):
    bomb = gzip.compress(b" " * 50_000_000)
    assert statuses(say(any_server, post(length=b"200000", body=b""))) == [413]
    assert statuses(say(any_server, chunked(*[chunk(b" " * 10_000)] * 11, b"0\r\n\r\n"))) == [413]
    assert len(bomb) < 100_000
    assert statuses(say(any_server, post(b"Content-Encoding: gzip\r\n", body=bomb))) == [413]


@pytest.mark.parametrize(
    ("coding", "status"), [(b"br", 415), (b"gzip, gzip", 415), (b"gzip", 400), (b"GZIP", 400), (b"identity", 200)]
)
def test_only_gzip_is_unpacked_and_only_once(any_server: Server, coding: bytes, status: int):
    assert statuses(say(any_server, post(b"Content-Encoding: %b\r\n" % coding))) == [status]


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ('Application/JSON;charset="UTF-8"', 200),
        ("application/json; charset=latin-1", 415),
        ("application/jsonx", 415),
        ("text/json", 415),
        ("", 415),
    ],
)
def test_media_types_are_compared_as_the_standard_says(any_server: Server, media_type: str, status: int):
    assert any_server.send("POST", "/predict", BODY, {"Content-Type": media_type}).status == status


def test_a_client_that_waits_to_send_is_told_to_go_on(any_server: Server):
    with connect(any_server) as raw:
        raw.sendall(post(b"Expect: 100-continue\r\n", body=b"", length=b"%d" % len(BODY)))
        assert raw.recv(1000).startswith(b"HTTP/1.1 100 ")
        raw.sendall(BODY)
        raw.shutdown(socket.SHUT_WR)
        assert statuses(read_all(raw)) == [200]


def test_head_has_the_length_and_no_body(any_server: Server):
    answer = say(any_server, GET.replace(b"GET", b"HEAD"))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert statuses(answer) == [200]
    assert rest == b""
    assert int(re.search(rb"Content-Length: (\d+)", head)[1]) > 0


def test_http_1_0_is_answered_and_closed(any_server: Server):
    with connect(any_server) as raw:
        raw.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert statuses(read_all(raw)) == [200]


def test_http_1_0_can_not_wish_for_more(loop_server: Server):
    with connect(loop_server) as raw:
        raw.sendall(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert statuses(read_all(raw)) == [200]


def test_heads_that_are_too_large_are_431(loop_server: Server):
    for head in (b"X-A: " + b"a" * 40_000 + b"\r\n", b"".join(b"X-%d: 1\r\n" % number for number in range(200))):
        assert statuses(say(loop_server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n")) == [431]


def test_neither_host_nor_what_a_proxy_may_add_is_ever_echoed(any_server: Server):
    forged = b"X-Forwarded-For: evil.example\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: evil\r\n"
    for path in (b"/healthz", b"/nowhere", b"/predict", b"/metadata", b"/v2"):
        answer = say(any_server, b"GET %b HTTP/1.1\r\nHost: evil.example\r\n%b\r\n" % (path, forged))
        assert len(statuses(answer)) == 1
        assert b"evil" not in answer


REBOUND = {"Host": "evil.example:8080", "Content-Type": "application/json"}


@pytest.mark.parametrize("kind", KINDS)
def test_on_loopback_a_page_from_elsewhere_can_not_point_its_own_name_here(
    start_server: Callable[..., Server], example: Path, kind: str
):
    server = start_server("--model", str(example), "--worker-class", kind)
    server.wait_ready()
    for method, path in (("POST", "/predict"), ("GET", "/metadata"), ("OPTIONS", "/predict"), ("GET", "/nowhere")):
        answer = server.send(method, path, BODY if method == "POST" else None, REBOUND)
        assert (answer.status, answer.json["error"]["code"]) == (421, "host_not_allowed")
    assert server.send("GET", "/healthz", None, REBOUND).status == 200
    for host in ("localhost", "LOCALHOST:8080", "localhost.", "127.0.0.1:1", "[::1]:8080"):
        assert server.send("GET", "/metadata", None, {"Host": host}).status == 200
    assert statuses(say(server, b"GET /metadata HTTP/1.0\r\n\r\n")) == [200]  # names none: no browser


@pytest.mark.parametrize("kind", KINDS)
def test_the_hosts_that_are_named_are_heard_on_every_route_and_no_others(
    start_server: Callable[..., Server], example: Path, kind: str
):
    server = start_server("--model", str(example), "--worker-class", kind, "--allowed-hosts", "cars.example, 10.0.0.7")
    server.wait_ready()
    for host, status in (("cars.example", 200), ("10.0.0.7:80", 200), ("localhost", 421), ("cars.example.evil", 421)):
        for path in ("/metadata", "/docs", "/openapi.json"):
            assert server.send("GET", path, None, {"Host": host}).status == status
        sent = server.send("POST", "/predict", BODY, {"Host": host, "Content-Type": "application/json"})
        assert sent.status == status


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        (Settings(), {"localhost", "127.0.0.1", "[::1]"}),
        (Settings(host="::1"), {"localhost", "127.0.0.1", "[::1]"}),
        (Settings(host="127.0.1.1"), {"localhost", "127.0.0.1", "[::1]", "127.0.1.1"}),
        (Settings(host="0.0.0.0"), None),
        (Settings(host="::"), None),
        (Settings(host="10.0.0.7"), None),
        (Settings(allowed_hosts="*"), None),
        (Settings(host="0.0.0.0", allowed_hosts="Cars.example,"), {"cars.example"}),
    ],
)
def test_by_itself_only_loopback_is_particular_about_names(settings: Settings, hosts: set[str] | None):
    assert settings.hosts == hosts


def test_a_host_with_a_port_is_a_usage_error():
    assert "allowed_hosts: 'cars.example:80'" in "; ".join(Settings(allowed_hosts="cars.example:80").problems())


def test_slow_heads_and_bodies_are_ended_and_idle_clients_kept(loop_server: Server):
    with connect(loop_server) as head, connect(loop_server) as body, connect(loop_server) as idle:
        head.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        body.sendall(post(body=BODY[:10], length=b"%d" % len(BODY)))
        assert statuses(read_all(head)) == [408]
        assert statuses(read_all(body)) == [408]
        idle.sendall(GET)
        assert statuses(idle.recv(1000)) == [200]


def test_a_client_that_never_reads_is_cut_and_others_are_answered(loop_server: Server):
    with connect(loop_server) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(0.5)
        many = post() * 2000
        with contextlib.suppress(OSError):  # full buffers here, full buffers there
            for _ in range(200):
                deaf.sendall(many)
        assert loop_server.post("/predict", BODY).status == 200
        deaf.settimeout(10)  # a server that waited for it would not end the connection at all
        read_all(deaf)


def test_a_key_is_asked_of_everyone_but_probes(start_server: Callable[..., Server], example: Path, monkeypatch):
    monkeypatch.setenv("POLICY_API_KEY", "s3cret")
    for kind in KINDS:
        server = start_server("--model", str(example), "--worker-class", kind)
        server.wait_ready()
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
            answer = server.send("POST", "/predict", BODY, {"Content-Type": "application/json", **headers})
            assert (answer.status, answer.json["error"]["code"]) == (401, "unauthorized")
            assert server.send("GET", "/metadata", None, headers).status == 401
        key = {"Authorization": "Bearer s3cret"}
        assert server.send("POST", "/predict", BODY, {"Content-Type": "application/json", **key}).status == 200
        assert server.send("GET", "/metadata", None, key).status == 200
        assert server.get("/healthz").status == 200


SENT_BY_PAGES = {
    "inference-header-content-length",
    "traceparent",
    "content-encoding",
    "x-request-budget-ms",
    "x-episode-id",
}


def test_pages_of_a_configured_origin_may_ask_and_no_others(start_server: Callable[..., Server], example: Path):
    for kind in KINDS:
        server = start_server("--model", str(example), "--worker-class", kind, "--cors-origins", "https://cars.example")
        server.wait_ready()
        for origin, allowed in (("https://cars.example", "https://cars.example"), ("https://evil.example", None)):
            headers = {"Content-Type": "application/json", "Origin": origin}
            assert server.send("POST", "/predict", BODY, headers).headers.get("access-control-allow-origin") == allowed
            preflight = server.send("OPTIONS", "/predict", None, {"Origin": origin})
            assert preflight.headers.get("access-control-allow-origin") == allowed
            listed = {
                name.strip().lower() for name in preflight.headers.get("access-control-allow-headers", "").split(",")
            }
            assert (listed >= SENT_BY_PAGES) == (allowed is not None)
        assert "access-control-allow-origin" not in server.post("/predict", BODY).headers


def test_pipelined_requests_are_answered_while_the_server_drains(start_server: Callable[..., Server], example: Path):
    server = start_server("--model", str(example), "--drain-s", "2")
    server.wait_ready()
    with connect(server) as raw:
        raw.sendall(GET)
        assert statuses(raw.recv(1000)) == [200]
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        raw.sendall(post() * 50)
        answer = read_all(raw)
    assert statuses(answer) == [200] * 50
    assert answer.count(b"Connection: close") == 1
    assert server.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("line", [b"Content-Encoding: br\r\n", b"X-A: 1\r\n"])
def test_an_answer_to_head_has_no_body_whatever_it_says(any_server: Server, line: bytes):
    path = b"/nowhere" if line.startswith(b"X") else b"/healthz"
    asked = b"HEAD " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n"
    answer = say(any_server, asked + GET)
    first, _, rest = answer.partition(b"\r\n\r\n")
    assert statuses(first)[0] in (404, 415)
    assert rest.startswith(b"HTTP/1.1 200 ")


def test_an_offer_to_speak_otherwise_is_ignored(any_server: Server):
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    assert statuses(say(any_server, GET.replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n"))) == [200]
    assert statuses(say(any_server, post(offer))) == [200]


@pytest.mark.parametrize("path", ["/predict", "/invocations", "/v2/models/racetrack-policy/infer"])
def test_no_header_lifts_the_limit_of_what_a_policy_can_need(
    start_server: Callable[..., Server], example: Path, path: str
):
    for kind in KINDS:
        server = start_server("--model", str(example), "--worker-class", kind)
        server.wait_ready()
        bomb = gzip.compress(b"[" * 30_000_000)
        for headers in ({}, {"Inference-Header-Content-Length": "5"}, {"Inference-Header-Content-Length": "29000000"}):
            answer = server.post(path, bomb, "application/json", **{"Content-Encoding": "gzip"}, **headers)
            assert answer.status == 413, answer.body


def test_bodies_that_are_not_whole_yet_share_what_memory_there_is(loop_server: Server):
    opened = [connect(loop_server) for _ in range(12)]  # of 100,000 bytes at most each, four of which are held
    for raw in opened:
        raw.sendall(post(body=b" " * 50_000, length=b"60000"))
    answers = [read_all(raw) for raw in opened]
    for raw in opened:
        raw.close()
    found = sorted(statuses(answer)[0] for answer in answers)
    assert found.count(429) >= 3
    assert set(found) == {408, 429}
    assert loop_server.post("/predict", BODY).status == 200


def test_probes_are_answered_while_predictions_are_too_many(start_server: Callable[..., Server], example: Path):
    server = start_server("--model", str(example), "--max-inflight", "1")
    server.wait_ready()
    answer = say(server, post() * 2 + GET + GET.replace(b"/healthz", b"/metrics"))
    assert statuses(answer) == [200, 429, 200, 200]


def test_who_pipelines_into_a_full_server_is_refused_at_once_and_then_waits(
    start_server: Callable[..., Server], example: Path
):
    server = start_server("--model", str(example), "--max-inflight", "1")
    server.wait_ready()
    with connect(server) as raw:
        began = time.monotonic()
        raw.sendall(post() * 8 + post(b"Connection: close\r\n"))
        answer = b""
        while len(statuses(answer)) < 2:
            answer += raw.recv(65536)
        took, answer = time.monotonic() - began, answer + read_all(raw)
    assert statuses(answer) == [200, 429] * 4 + [200]
    assert took < time.monotonic() - began - 2 * REST_S  # four rests of half of it at least


@pytest.mark.parametrize("path", ["/nothing", "/v2/nothing", "/%76%32/nothing", "/invocations/x", "//a", "/%ff"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_what_is_not_there_is_not_found_in_the_shape_of_its_protocol(both: dict[str, Server], path: str, method: str):
    sent = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\r\nConnection: close\r\n\r\n".encode()
    found = [say(server, sent) for server in both.values()]
    assert [statuses(answer) for answer in found] == [[404], [404]]
    assert len({answer.partition(b"\r\n\r\n")[2].strip() for answer in found}) == 1
    assert (b'"error":"not found"' in found[0]) == (path.startswith(("/v2", "/%76")) and method != "HEAD")


UNTYPED = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize("refused", [UNTYPED, chunked(b"nonsense\r\n")], ids=["head", "body"])
def test_the_same_refusal_over_and_over_takes_no_memory(loop_server: Server, refused: bytes):
    [worker] = psutil.Process(loop_server.process.pid).children()

    def take(times: int) -> int:
        for _ in range(times):
            assert statuses(say(loop_server, refused)) in ([400], [415])
        return worker.memory_info().rss

    before = take(500)
    assert take(4000) - before < 1_500_000
