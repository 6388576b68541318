"""A server on a Unix socket: it lives as one on a port does, and never takes the place of another."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from following_support import until, until_true, workers
from patience import PATIENCE_S
from slow_policies import HANGS_AT, laborious, predict_bytes
from tests_support import EXAMPLE, ROOT, Server, command_here, run_command

from benchmarks.support.connection import Connection
from benchmarks.support.requests import get_request, http_request
from carla_mlflow.client.unix_address import MAX_PATH_BYTES
from carla_mlflow.errors import RefusedError
from serve.process.unix_listener import UnixListener

Start = Callable[..., Server]
KINDS = pytest.mark.parametrize("kind", ["loop", "gthread"])
BODY = b'{"observations":[{"speed":6,"steering":0,"sensors":[1,1,1,1,1,1,1,1,1,1,1,1]}]}'
PREDICT = http_request("/predict", BODY, "application/json")


@pytest.fixture
def path(short_folder: Path) -> Path:
    return short_folder / "policy.sock"


def serve(*flags: str, **variables: str) -> tuple[int, str]:
    """Exit code and errors of a server that does not start."""
    done = run_command("carla-serve", "--model", str(EXAMPLE), *flags, env=variables)
    assert "Traceback" not in done.err
    return done.code, done.err


@KINDS
def test_a_server_on_a_socket_is_drained_and_takes_its_path_away(start_on_socket: Start, path: Path, kind: str):
    server = start_on_socket(path, "--model", str(EXAMPLE), "--workers", "2", "--worker-class", kind, "--drain-s", "1")
    server.wait_ready()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert server.get("/metadata").json["version"] == "0.1.0"
    assert f"unix:{path}" in server.log.read_text()
    found: list[int | str] = []

    def load() -> None:
        while not found or isinstance(found[-1], int):
            with Connection(path, 20) as connection:
                try:
                    connection.open()
                except OSError as error:  # the server is gone; what it accepted it answered
                    found.append(type(error).__name__)
                    return
                found.append(connection.ask(PREDICT).status)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(found) > 50, server)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.get("/readyz").json.get("error", {}).get("message") == "stopping", server)
    before = len(found)
    until(lambda: len(found) > before + 4, server)  # more than were under way: new connections are still accepted
    for thread in threads:
        thread.join()
    assert server.process.wait(PATIENCE_S) == 0
    assert not path.exists()
    assert set(found) <= {200, "ConnectionRefusedError", "FileNotFoundError"}


@KINDS
def test_a_stopping_server_refuses_clients_although_one_worker_still_holds_the_socket(
    start_on_socket: Start, path: Path, kind: str
):
    server = start_on_socket(path, "--model", str(EXAMPLE), "--workers", "2", "--worker-class", kind, "--drain-s", "0")
    server.wait_ready()
    slow = workers(server)[0]
    slow.suspend()
    server.process.send_signal(signal.SIGTERM)

    def is_refused() -> bool:  # else it waits in the queue of the suspended worker, to be reset at its end
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except ConnectionRefusedError:
                return True
        return False

    until(is_refused, server)
    assert slow.status() == psutil.STATUS_STOPPED, "gunicorn has killed the worker, and so closed the socket"
    assert path.exists()
    slow.resume()
    assert server.process.wait(PATIENCE_S) == 0


@KINDS
def test_workers_are_replaced_on_the_same_socket(start_on_socket: Start, path: Path, kind: str):
    server = start_on_socket(path, "--model", str(EXAMPLE), "--workers", "2", "--worker-class", kind)
    server.wait_ready()
    made, first = path.stat().st_ino, {worker.pid for worker in workers(server)}
    for worker in workers(server):
        worker.kill()
        worker.wait()
    server.wait_ready()
    server.process.send_signal(signal.SIGHUP)
    until(lambda: len(now := {worker.pid for worker in workers(server)}) == 2 and not now & first, server)
    server.wait_ready()
    assert server.post("/predict", BODY).status == 200
    assert path.stat().st_ino == made


def test_a_worker_whose_forward_hangs_is_replaced_on_the_same_socket(
    start_on_socket: Start, path: Path, tmp_path: Path
):
    policy = laborious(tmp_path / "policy", 1)
    server = start_on_socket(path, "--model", str(policy), "--forward-timeout-s", "0.5")
    server.wait_ready()
    [before] = workers(server)
    with Connection(path) as connection:
        assert connection.ask(predict_bytes(HANGS_AT)).status == 500
    before.wait(PATIENCE_S)
    server.wait_ready()
    with Connection(path) as connection:
        assert connection.ask(predict_bytes(0.5)).status == 200


def test_a_socket_that_nobody_answers_is_replaced_and_one_in_use_is_not(start_on_socket: Start, path: Path):
    first = start_on_socket(path, "--model", str(EXAMPLE))
    first.wait_ready()
    code, said = serve("--host", f"unix:{path}")
    assert (code, said) == (
        1,
        f"carla-serve: can't listen on unix:{path}: another server listens there; stop it, or choose another path\n",
    )
    first.process.send_signal(signal.SIGSTOP)  # one that hangs still has its socket
    assert serve("--host", f"unix:{path}")[0] == 1
    first.process.send_signal(signal.SIGCONT)
    assert first.get("/readyz").status == 200
    for process in [first.process, *workers(first)]:
        process.kill()
        process.wait()
    first.pool.close()
    assert path.exists()
    second = start_on_socket(path, "--model", str(EXAMPLE))
    second.wait_ready()
    assert second.stop() == 0
    assert not path.exists()


def test_what_is_no_socket_is_left_as_it_is(path: Path, short_folder: Path):
    path.write_text("mine")
    (short_folder / "link").symlink_to(path)
    for name in (path.name, "link"):
        code, said = serve("--host", f"unix:{short_folder / name}")
        assert (code, "what is there is no socket" in said) == (1, True)
    assert path.read_text() == "mine"
    assert (short_folder / "link").is_symlink()


def test_of_servers_that_start_at_once_one_gets_the_path(path: Path):
    for _ in range(20):
        barrier = threading.Barrier(8)

        def start(_: int, barrier: threading.Barrier = barrier) -> UnixListener | str:
            barrier.wait()
            try:
                return UnixListener(path, 0o660, 16)
            except RefusedError as error:
                return str(error)

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(start, range(8)))
        [listener] = [each for each in found if isinstance(each, UnixListener)]
        refused = [each for each in found if isinstance(each, str)]
        assert len(refused) == 7
        assert all("another server listens there" in text for text in refused)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        os.close(listener.detach())  # as if it were killed: the path is left for the next


def test_a_path_that_another_server_has_taken_is_not_removed(path: Path):
    first = UnixListener(path, 0o660, 16)
    path.unlink()
    second = UnixListener(path, 0o660, 16)
    first.remove()
    assert path.exists()
    second.remove()
    assert not path.exists()


@pytest.mark.parametrize(("mode", "wanted"), [("0666", 0o666), ("600", 0o600), ("0o640", 0o640)])
def test_the_mode_of_the_socket_is_the_one_asked_for_whatever_the_umask(
    start_on_socket: Start, path: Path, mode: str, wanted: int
):
    before = os.umask(0o077)
    try:
        server = start_on_socket(path, "--model", str(EXAMPLE), "--socket-mode", mode)
    finally:
        os.umask(before)
    server.wait_alive()
    assert stat.S_IMODE(path.stat().st_mode) == wanted


@pytest.mark.parametrize(
    ("flags", "variables", "said"),
    [
        (["--host", "unix:p.sock", "--port", "80"], {}, "port: a Unix socket has no port"),
        (["--port", "80"], {"POLICY_HOST": "unix:p.sock"}, "port: a Unix socket has no port"),
        (["--host", "unix:p.sock", "--allowed-hosts", "car"], {}, "allowed_hosts: on a Unix socket no Host is checked"),
        (["--host", "unix:p.sock"], {"POLICY_CERTFILE": "/a", "POLICY_KEYFILE": "/b"}, "takes no TLS"),
        (["--host", "unix:p.sock", "--socket-mode", "0888"], {}, "socket_mode: '0888': expected three octal digits"),
        (["--host", "unix:p.sock", "--socket-mode", "0440"], {}, "socket_mode: '0440': its owner could not connect"),
        (["--host", "unix://car/p.sock"], {}, "a Unix socket is on no host; write unix:/car/p.sock"),
        (["--socket-mode", "0600"], {}, "socket_mode: 127.0.0.1 is no Unix socket"),
        (["--host", "unix:"], {}, "host: 'unix:': expected the path of a socket"),
        (["--host", "unix:/run/"], {}, "expected the path of a socket"),
        (["--host", "unix:@policy"], {}, "abstract sockets are not supported"),
        (["--host", f"unix:/{'x' * MAX_PATH_BYTES}"], {}, "has 108 bytes, and the path of a socket at most 107"),
    ],
)
def test_settings_that_do_not_go_with_a_socket_are_usage_errors(flags: list[str], variables: dict[str, str], said: str):
    code, text = serve(*flags, **variables)
    assert code == 2
    assert said in text


def test_the_longest_path_and_a_relative_one_are_served(
    start_on_socket: Start, short_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    longest = short_folder / ("s" * (MAX_PATH_BYTES - len(str(short_folder)) - 1))
    server = start_on_socket(longest, "--model", str(EXAMPLE))
    server.wait_ready()
    monkeypatch.chdir(short_folder)
    relative = start_on_socket(Path("near.sock"), "--model", str(EXAMPLE))
    relative.wait_ready()
    assert (short_folder / "near.sock").is_socket()


def test_a_variable_that_an_image_sets_for_ports_is_said_and_not_used(
    start_on_socket: Start, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLICY_PORT", "8080")
    server = start_on_socket(path, "--model", str(EXAMPLE))
    server.wait_ready()
    assert f"not used, as the server listens on unix:{path}: POLICY_PORT" in server.log.read_text()


@KINDS
def test_any_host_is_heard_on_a_socket(start_on_socket: Start, path: Path, kind: str):
    server = start_on_socket(path, "--model", str(EXAMPLE), "--worker-class", kind)
    server.wait_ready()
    for host in ("car-7", "evil.example", "localhost:1"):
        assert server.send("GET", "/metadata", headers={"Host": host}).status == 200


def test_a_folder_that_can_not_be_used_is_said(short_folder: Path):
    code, said = serve("--host", f"unix:{short_folder}/none/p.sock")
    assert code == 1
    assert said.endswith(f"there is no folder {short_folder}/none; create it, or choose another path\n")
    (short_folder / "file").touch()
    assert "there is no folder" in serve("--host", f"unix:{short_folder}/file/p.sock")[1]


LISTEN = """
import os, sys
from pathlib import Path
from carla_mlflow.errors import RefusedError
from serve.process.unix_listener import UnixListener
if os.geteuid() == 0:  # who may write everywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    UnixListener(Path(sys.argv[1]), 0o660, 16)
except RefusedError as error:
    print(error)
"""


def test_a_folder_that_can_not_be_written_is_said(short_folder: Path):
    short_folder.chmod(0o555)
    path = short_folder / "p.sock"
    done = subprocess.run(
        [sys.executable, "-c", LISTEN, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S
    )
    short_folder.chmod(0o700)
    assert done.stdout.startswith(f"this user may not use {path} and its folder (Permission denied)"), done.stderr


def test_a_lock_on_the_folder_keeps_no_server_from_starting(path: Path):
    opened = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)  # any user may, who can open it
    fcntl.flock(opened, fcntl.LOCK_EX)
    listener = UnixListener(path, 0o660, 16)
    assert os.listdir(path.parent) == [path.name]
    listener.remove()
    assert os.listdir(path.parent) == []
    os.close(opened)


def test_a_start_that_fails_after_it_listens_leaves_no_path(path: Path):
    command = [str(Path(sys.executable).parent / "carla-serve"), "--model", str(EXAMPLE), "--host", f"unix:{path}"]
    with open("/dev/full", "w") as full:  # nothing can be printed there
        assert subprocess.run(command, stderr=full, timeout=PATIENCE_S).returncode != 0
    assert os.listdir(path.parent) == []


def test_a_client_that_never_reads_and_one_that_sends_half_cost_others_nothing(start_on_socket: Start, path: Path):
    server = start_on_socket(path, "--model", str(EXAMPLE), "--header-timeout-s", "1", "--body-timeout-s", "1")
    server.wait_ready()
    with Connection(path) as half, Connection(path) as deaf, Connection(path) as good:
        half.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n")
        filler = threading.Thread(target=_fill, args=(deaf.open(),))
        filler.start()
        assert good.ask(PREDICT).status == 200
        assert half.receive().status == 408
        filler.join()


def _fill(never_read: socket.socket) -> None:
    """Sends requests until the server has ended the connection."""
    try:
        while True:
            never_read.sendall(get_request("/metadata") * 64)
    except OSError:
        return


@pytest.mark.parametrize("flags", [[], ["--path", "/healthz"]])
def test_the_probe_asks_the_socket(start_on_socket: Start, path: Path, flags: list[str]):
    environment = {"POLICY_HOST": f"unix:{path}", "POLICY_PORT": "8080"}
    done = run_command("python", "-m", "serve.probe", *flags, env=environment)
    assert (done.code, done.err) == (1, f"unix:{path}: [Errno 2] No such file or directory\n")
    server = start_on_socket(path, "--model", str(EXAMPLE))
    server.wait_ready()
    done = run_command("python", "-m", "serve.probe", *flags, env=environment)
    assert (done.code, done.err) == (0, "")
    bad = run_command("python", "-m", "serve.probe", env={"POLICY_HOST": "unix:@policy"})
    assert (bad.code, "abstract sockets" in bad.err, "Traceback" in bad.err) == (1, True, False)


def test_the_smoke_test_takes_a_socket(start_on_socket: Start, path: Path):
    start_on_socket(path, "--model", str(EXAMPLE)).wait_ready()
    done = command_here("testing", f"unix:{path}", "--policy", str(EXAMPLE))
    assert (done.code, "7 of 7 passed" in done.out) == (0, True), done.out + done.err


@pytest.mark.slow
def test_the_benchmark_takes_a_socket(start_on_socket: Start, path: Path):
    start_on_socket(path, "--model", str(EXAMPLE)).wait_ready()
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving",
        "--running",
        f"unix:{path}",
        "--seconds",
        "1",
        "--rounds",
        "1",
    ]
    measured = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert measured.returncode == 0, measured.stderr
    assert f"unix:{path}" in measured.stdout
    assert "running, /v2 binary" in measured.stdout


def test_a_killed_master_leaves_a_path_that_the_next_start_takes(start_on_socket: Start, path: Path):
    server = start_on_socket(path, "--model", str(EXAMPLE))
    server.wait_ready()
    [worker] = workers(server)
    server.process.kill()
    until_true(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    made = path.stat().st_mtime_ns
    again = start_on_socket(path, "--model", str(EXAMPLE))
    again.wait_ready()
    assert path.stat().st_mtime_ns > made
