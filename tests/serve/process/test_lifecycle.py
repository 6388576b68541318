"""What a server does when the policy is damaged, the registry away, and when it is told to stop."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpcore
import msgspec
import pytest
from following_support import Registry, until
from patience import PATIENCE_S
from registry_policies import NAME, moved, registered
from registry_proxy import RegistryProxy
from tests_support import Server, run_command

from benchmarks.policies.bad_policies import crashing, publish
from benchmarks.policies.two_policies import small_policy, write
from benchmarks.support.free_port import free_port
from benchmarks.support.requests import http_request
from carla_mlflow import open_artifact
from registry.store.cache import default_cache
from registry.store.store import Store

Start = Callable[..., Server]

ROW = {"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}


def flip_byte(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def wait_for_reason(server: Server, reason: str, limit_s: float = PATIENCE_S) -> None:
    ends = time.monotonic() + limit_s
    while reason not in server.get("/readyz").json["error"]["message"]:
        assert time.monotonic() < ends, server.get("/readyz").body
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["model.pt", "model_card.yaml", "golden.npz"])
def test_a_flipped_byte_keeps_the_server_alive_and_not_ready(
    start_server: Start, example: Path, tmp_path: Path, name: str
):
    damaged = Path(shutil.copytree(example, tmp_path / "damaged"))
    flip_byte(damaged / name, (damaged / name).stat().st_size // 2)
    server = start_server("--model", str(damaged), "--digest", open_artifact(example).digest)
    server.wait_alive()
    wait_for_reason(server, name)
    answer = server.get("/readyz")
    assert answer.status == 503
    assert answer.json["error"]["code"] == "not_ready"
    assert str(tmp_path).encode() not in answer.body
    answer = server.post("/predict", {"observations": [ROW]})
    assert answer.status == 503
    assert "retry-after" in answer.headers
    assert server.get("/ping").status == 503
    assert server.get("/healthz").status == 200
    assert server.stop() == 0


def test_a_wrong_pin_is_never_served(start_server: Start, example: Path):
    server = start_server("--model", str(example), "--digest", "sha256:" + "0" * 64)
    server.wait_alive()
    wait_for_reason(server, "was pinned")
    assert server.post("/predict", {"observations": [ROW]}).status == 503


def test_a_server_says_what_it_serves(server: Server, example: Path):
    metadata = server.get("/metadata").json
    artifact = open_artifact(example)
    assert metadata["digest"] == artifact.digest
    assert metadata["version"] == "0.1.0"
    assert metadata["card"]["name"] == NAME
    assert metadata["device"]["name"] == "cpu"
    assert metadata["pin"] == "unpinned"
    assert server.get("/readyz").json == {"ready": True, "warnings": ["unpinned: no digest was given for this folder"]}
    assert server.get("/healthz").json["status"] == "alive"
    assert set(server.post("/warmup", b"").json["timings_ms"]) == {"1", "8", "32", "256"}


def test_term_under_load_drops_nothing_while_it_drains_and_exits_0(start_server: Start, example: Path):
    server = start_server("--model", str(example), "--drain-s", "2", "--body-timeout-s", "200")
    server.wait_ready()
    stop, answered, failed = threading.Event(), [], []
    body = msgspec.json.encode({"observations": [ROW]})
    headers = {"Host": "localhost", "Content-Type": "application/json"}

    def load() -> None:
        with httpcore.ConnectionPool(max_connections=1) as pool:
            while not stop.is_set():
                try:
                    answered.append(pool.request("POST", f"{server.url}/predict", headers=headers, content=body).status)
                except (httpcore.NetworkError, httpcore.ProtocolError) as error:
                    failed.append(repr(error))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: len(answered) > 50, server)
    before = len(answered)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert server.get("/readyz").json["error"]["message"] == "stopping"  # load balancers look away
    time.sleep(0.7)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(answered) > before + 8  # more than were under way
    assert set(answered) == {200}
    assert failed == []
    # A connection that was answered is not waited for until --body-timeout-s.
    assert server.process.wait(PATIENCE_S) == 0


def test_a_new_connection_is_answered_or_refused_until_the_end_of_a_stop(start_server: Start, example: Path):
    server = start_server("--model", str(example), "--drain-s", "1")
    server.wait_ready()
    request = http_request("/predict", msgspec.json.encode({"observations": [ROW]}), "application/json")
    address, outcomes, stop = ("127.0.0.1", int(server.url.rpartition(":")[2])), Counter[str](), threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                raw = socket.create_connection(address, timeout=PATIENCE_S)
            except OSError:
                outcomes["refused"] += 1
                time.sleep(0.01)
                continue
            with raw:
                try:
                    raw.sendall(request)
                    outcomes[raw.recv(65536)[:15].decode()] += 1
                except OSError as error:
                    outcomes[repr(error)] += 1

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: outcomes["HTTP/1.1 200 OK"] > 50, server)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE_S) == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert set(outcomes) <= {"HTTP/1.1 200 OK", "refused"}


@pytest.mark.parametrize("kind", ["loop", "gthread"])
def test_a_first_request_that_comes_late_in_a_stop_is_answered(start_server: Start, example: Path, kind: str):
    server = start_server("--model", str(example), "--worker-class", kind, "--drain-s", "0")
    server.wait_ready()
    request = http_request("/predict", msgspec.json.encode({"observations": [ROW]}), "application/json")
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=PATIENCE_S) as raw:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.6)  # idle connections are closed by then
        raw.sendall(request)
        assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(PATIENCE_S) == 0


def test_a_body_that_began_before_the_stop_is_read_to_its_end(start_server: Start, example: Path):
    server = start_server("--model", str(example), "--drain-s", "0.2")
    server.wait_ready()
    request = http_request("/predict", msgspec.json.encode({"observations": [ROW]}), "application/json")
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=PATIENCE_S) as raw:
        raw.sendall(request[:-5])
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(3)
        raw.sendall(request[-5:])
        assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert server.process.wait(PATIENCE_S) == 0


def read_answer(raw: socket.socket) -> bytes:
    """One whole JSON answer."""
    answer = b""
    while not answer.rstrip().endswith(b"}"):
        part = raw.recv(65536)
        assert part, answer
        answer += part
    return answer


def test_a_refused_body_does_not_swallow_the_next_request(start_server: Start, example: Path):
    server = start_server("--model", str(example), "--digest", "sha256:" + "0" * 64)
    server.wait_alive()
    body = b'{"observations":[]}'
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=PATIENCE_S) as raw:
        for _ in range(20):
            raw.sendall(head % len(body))
            time.sleep(0.02)  # the server could refuse by now
            raw.sendall(body)
            assert read_answer(raw).startswith(b"HTTP/1.1 503 ")
            raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(raw).startswith(b"HTTP/1.1 200 ")


@pytest.mark.filterwarnings("ignore")  # MLflow's own
@pytest.mark.xdist_group("following")  # which has a registry already
def test_a_reference_is_resolved_fetched_and_served(
    start_server: Start, registry: Registry, example: Path, monkeypatch: pytest.MonkeyPatch
):
    publish(open_artifact(example), registry.server.home)
    moved(Store(), "0.1.0")
    shutil.rmtree(default_cache(), ignore_errors=True)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # an outage is seen at once
    with RegistryProxy(registry.server.uri) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        check_that_production_is_served(start_server)
        # The registry goes away: the last verified answer for the reference serves, and says so.
        proxy.mood = "500"
        again = start_server("--model", f"{NAME}@production")
        again.wait_ready()
        assert again.get("/metadata").json["registry"] == "unreachable"
        assert "does not answer" in again.get("/readyz").json["warnings"][0]
        # Also where a semantic version is meant, which may not have been served here before.
        exact = start_server("--model", f"{NAME}@0.1.0", "--poll-s", "0.5")
        exact.wait_alive()
        wait_for_reason(exact, "does not answer")  # it has not been served here under this name before
        # But never another policy than the one that is pinned, and never a damaged copy.
        pinned = start_server("--model", f"{NAME}@production", "--digest", "sha256:" + "0" * 64)
        [cached] = (default_cache() / "artifacts").iterdir()
        pinned.wait_alive()
        wait_for_reason(pinned, "does not answer")
        flip_byte(cached / "model.pt", 100)
        damaged = start_server("--model", f"{NAME}@production", "--poll-s", "0.5")
        damaged.wait_alive()
        wait_for_reason(damaged, "does not answer")
        # The registry comes back, and with it a whole copy.
        proxy.mood = "pass"
        damaged.wait_ready()
        exact.wait_ready()
        assert pinned.get("/readyz").status == 503
        assert exact.stop() == 0
        proxy.mood = "500"
        exact = start_server("--model", f"{NAME}@0.1.0", "--poll-s", "0.5")
        exact.wait_ready()  # at once, and it says that nobody could be asked whether it still means the same
        assert exact.get("/metadata").json["digest"] == open_artifact(example).digest
        wait_for_warning(exact, "does not answer; serving the last verified version")


def check_that_production_is_served(start_server: Start) -> None:
    server = start_server("--model", f"{NAME}@production")
    server.wait_ready()
    metadata = server.get("/metadata").json
    told = (metadata["following"], metadata["stage"], metadata["registry"], metadata["pin"])
    assert told == (f"{NAME}@production", "production", "ok", "pinned")
    assert server.get("/readyz").json["warnings"] == []
    assert server.post("/predict", {"observations": [ROW]}).status == 200
    assert server.stop() == 0


def wait_for_warning(server: Server, warning: str, limit_s: float = PATIENCE_S) -> None:
    ends = time.monotonic() + limit_s
    while not any(warning in said for said in server.get("/readyz").json["warnings"]):
        assert time.monotonic() < ends, server.get("/readyz").body
        time.sleep(0.05)


def reason_of(server: Server) -> str:
    try:
        return str(server.get("/readyz").json["error"]["message"])
    except (httpcore.NetworkError, httpcore.ProtocolError):  # its worker has just died
        return ""


def test_a_folder_whose_policy_kills_its_worker_costs_one_and_is_told(start_server: Start, tmp_path: Path):
    bad = write(crashing(small_policy("1.0.0", 1), "2.0.0"), tmp_path)
    server = start_server("--model", str(bad))
    server.wait_alive()
    until(lambda: "the process that loaded it was killed (SIGSEGV)" in reason_of(server), server)
    assert server.log.read_text().count("was sent SIGSEGV") == 1  # the second was no worker
    assert server.get("/healthz").status == 200
    assert server.stop() == 0


def test_a_registry_that_is_away_at_the_start_is_waited_for(start_server: Start, mlflow_home: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    server = start_server("--model", f"{NAME}@production", "--poll-s", "0.5")
    server.wait_alive()
    wait_for_reason(server, "does not answer")
    assert server.get("/readyz").status == 503
    assert server.process.poll() is None
    assert server.stop() == 0


@pytest.mark.filterwarnings("ignore")  # MLflow's own
@pytest.mark.parametrize("reference", ["nobody@production", f"{NAME}@staging", f"{NAME}@9.9.9"])
def test_what_the_registry_does_not_know_ends_the_server_with_one_line(
    mlflow_home: Path, tmp_path: Path, reference: str
):
    registered(Store(), tmp_path, "0.1.0")
    done = run_command("carla-serve", "--model", reference, "--port", str(free_port()), "--log-level", "error")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert [line for line in done.err.splitlines() if line.startswith("carla-serve: ")] != []


def test_a_port_in_use_is_said(example: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_command("carla-serve", "--model", str(example), "--port", port)
    assert done.code == 1
    assert done.err == (
        f"carla-serve: can't listen on 127.0.0.1:{port}: Address already in use; "
        "choose another --port, or a --host of this machine\n"
    )


def test_a_certificate_that_is_not_there_is_named(example: Path):
    done = run_command("carla-serve", "--model", str(example), "--certfile", "c.pm", "--keyfile", "k.pem")
    assert done.code == 2
    assert "certfile: 'c.pm': there is no such file" in done.err


def test_the_log_says_what_is_served_from_a_folder(example: Path, start_server: Callable[..., Server]):
    server = start_server("--model", str(example))
    server.wait_ready()
    until(lambda: "serving racetrack-policy 0.1.0 (sha256:" in server.log.read_text(), server)


def test_a_certificate_and_a_key_that_are_swapped_are_refused_before_a_worker_starts(
    example: Path, certificate: tuple[Path, Path]
):
    chain, key = map(str, certificate)
    done = run_command("carla-serve", "--model", str(example), "--certfile", key, "--keyfile", chain, "--port", "0")
    assert done.code == 1
    assert done.err.startswith(f"carla-serve: --certfile {key} and --keyfile {chain}: expected a certificate and its")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ([], "say what to serve"),
        (["--model", "x@y", "--workers", "0"], "workers: 0 is outside"),
        (["--model", "x@y", "--port", "99999"], "port: 99999"),
        (["--model", "x@y", "--port", "http"], "invalid int value"),
        (["--model", "x@y", "--log-level", "loud"], "log_level: 'loud'"),
    ],
)
def test_settings_that_can_not_be_are_usage_errors(flags: list[str], complaint: str):
    done = run_command("carla-serve", *flags)
    assert done.code == 2
    assert complaint in done.err


def test_a_folder_that_is_not_there_is_said():
    done = run_command("carla-serve", "--model", "./nowhere")
    assert (done.code, done.err) == (1, "carla-serve: ./nowhere: there is no such folder\n")
