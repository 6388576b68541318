"""What the benchmarks measure with is right itself."""

from __future__ import annotations

import argparse
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from patience import PATIENCE_S
from tests_support import EXAMPLE, ROOT, missing

from benchmarks.hostile.rows import ROWS
from benchmarks.policies.networks import small_view
from benchmarks.speed.baseline import LESS, MORE, Figure, add_baseline, conclude
from benchmarks.speed.peers import peers
from benchmarks.speed.ratios import ratios
from benchmarks.speed.rows import Row
from benchmarks.speed.systems import already_running
from benchmarks.speed.wrk import Found
from benchmarks.support.connection import Connection, ask
from benchmarks.support.encoding import from_v2, to_v2
from benchmarks.support.free_port import free_port
from benchmarks.support.good_load import GoodLoad
from benchmarks.support.our_server import OurServer
from benchmarks.support.percentiles import median, p99
from benchmarks.support.requests import get_request, http_request
from benchmarks.support.responses import ResponseReader
from benchmarks.support.server import Server
from benchmarks.support.table import Column, Table
from carla_mlflow import write_artifact
from training_export.export.export import export_policy


def test_the_floor_answers_every_request_however_it_is_cut(tmp_path: Path):
    compiler = shutil.which("cc") or missing("a C compiler", "gcc")
    program, port = tmp_path / "floor", free_port()
    subprocess.run([compiler, "-Wall", "-Werror", "-o", program, ROOT / "benchmarks" / "speed" / "floor.c"], check=True)
    request = http_request("/predict", b"x" * 20, "application/json")
    with Server([str(program), str(port)], port, request), socket.create_connection(("127.0.0.1", port)) as client:
        answer = ask(port, request).body
        stream = request * 3 + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for place in range(0, len(stream), 7):
            client.sendall(stream[place : place + 7])
        client.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == received.count(answer) == 4


def row(per_second: float, p50_ms: float) -> Row:
    found = Found(requests=int(per_second), seconds=1.0, p50_ms=p50_ms, p99_ms=2 * p50_ms, failed=0)
    return Row({load: [found] for load in ("c1", "c16", "c64", "b256")}, [100.0], [80.0], [0.5])


def test_ours_is_held_against_the_best_peer_of_each_column_and_never_against_the_floor():
    rows = {"floor: empty C server": row(90_000, 0.01), "carla-serve, JSON": row(1_000, 0.3)}
    rows |= {"quick alone": row(10, 0.6), "quick together": row(100, 6.0)}
    found = {ratio.what: ratio for ratio in ratios("mlp", rows, {1: {1: [1.0]}})}
    alone, together = found["mlp: 1 connection, p50 ms"], found["mlp: 16 connections, requests/s"]
    assert (alone.ratio, alone.verdict) == (0.5, "met")
    assert (together.ratio, together.verdict) == (10, "met")
    assert found["mlp: 256 a request in /v2 binary, observations/s"].verdict == "not measured"
    assert found["mlp: 16 connections, requests/s, mlflow's"].verdict == "not measured"


def test_a_binary_answer_is_read_in_the_order_that_it_names():
    body, header = to_v2({"brake": np.float32([1, 2]), "steer": np.float32([3, 4]), "throttle": np.float32([5, 6])})
    written = (
        body[:header]
        .replace(b'"inputs"', b'"outputs"', 1)
        .replace(b'"outputs":[{"name":"throttle"', b'"x":[{"name":"t"')
    )
    assert from_v2(written + body[header:], len(written)).tolist() == [[5, 1, 3], [6, 2, 4]]


def test_a_server_that_runs_is_asked_for_images_in_binary_and_for_numbers_in_json_too(tmp_path: Path):
    images = write_artifact(tmp_path / "viewer", export_policy(small_view(), "viewer", "1.0.0", "").artifact).path
    found = {}
    for policy in (images, EXAMPLE):
        with OurServer("--model", str(policy), "--workers", "1") as server:
            systems = already_running(server.port)
            for system in systems:
                with system.running() as running:
                    assert system.problem(running) is None
            found[policy] = [(system.name, system.kind) for system in systems]
    json, binary = "running, JSON", "running, /v2 binary"
    assert found == {images: [(binary, "image")], EXAMPLE: [(json, "mlp"), (binary, "mlp")]}


def test_a_folder_without_peers_is_refused_in_words(tmp_path: Path):
    with pytest.raises(RuntimeError, match="expected a folder laid out"):
        peers(tmp_path, "mlp", [])


def test_a_short_soak_finds_its_own_count_in_the_metrics():
    command = [sys.executable, "-m", "benchmarks.soak", str(EXAMPLE), "--requests", "600", "--clients", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "equal the clients' own" in done.stdout, done.stdout + done.stderr
    assert "UNEXPECTED" not in done.stdout


def test_the_readme_lists_every_command_and_nothing_else():
    folder = ROOT / "benchmarks"
    programs = [*folder.glob("*.py"), *folder.glob("*/__main__.py")]
    there = {path.parent.name if path.stem == "__main__" else path.stem for path in programs if path.stem != "__init__"}
    listed = re.findall(r"^\| `(\w+)` \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(there)


FIRST = b"HTTP/1.1 200 OK\r\nX-Name: Value\r\nContent-Length: 5\r\n\r\nfirst"
SECOND = b"HTTP/1.1 503 Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def test_responses_are_read_however_they_are_cut():
    sent = b"HTTP/1.1 100 Continue\r\n\r\n" + FIRST + FIRST.replace(b"first", b"other") + SECOND
    for size in (1, 7, len(sent)):
        reader = ResponseReader()
        for place in range(0, len(sent), size):
            reader.feed(sent[place : place + size])
        reader.end()
        found = [(each.status, each.body, each.closes) for each in reader.found]
        assert found == [(200, b"first", False), (200, b"other", False), (503, b"", True)]
        assert reader.found[1].headers == {"x-name": "Value", "content-length": "5"}


@pytest.mark.parametrize("cut", [1, 20, len(FIRST) - 1])
def test_a_response_that_ends_early_is_an_error(cut: int):
    reader = ResponseReader()
    reader.feed(FIRST[:cut])
    with pytest.raises(ConnectionError):
        reader.end()


def test_what_is_no_http_is_an_error():
    with pytest.raises(ValueError, match="no HTTP response"):
        ResponseReader().feed(b"SSH-2.0-OpenSSH_9.2\r\n")


def test_a_connection_is_opened_again_after_the_server_has_closed_it():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            for response in (SECOND, FIRST):
                with listening.accept()[0] as accepted:
                    accepted.recv(65536)
                    accepted.sendall(response)

        threading.Thread(target=answer, daemon=True).start()
        with Connection(listening.getsockname()[1], timeout_s=10) as connection:
            assert [connection.ask(get_request("/")).status for _ in range(2)] == [503, 200]
            with pytest.raises(ConnectionError):
                connection.receive()


def test_a_server_that_ends_before_it_answers_is_not_waited_for():
    port = free_port()
    with pytest.raises(RuntimeError, match="ended with exit code 3"):
        Server(["sh", "-c", "exit 3"], port, get_request("/")).start()


def test_a_server_is_stopped_with_the_processes_that_it_started(tmp_path: Path):
    port, child = free_port(), tmp_path / "child"
    script = f"sleep 1000 & echo $! > {child}; exec {sys.executable} -m http.server {port} --bind 127.0.0.1"
    with Server(["sh", "-c", script], port, get_request("/")) as server:
        assert server.first.status == 200
        assert 0 < server.started_s < 60
        started = psutil.Process(int(child.read_text()))
    assert server.process.returncode is not None
    started.wait(PATIENCE_S)


def test_a_benchmark_that_is_ended_stops_its_server():
    command = [sys.executable, "-u", "-m", "benchmarks.soak", str(EXAMPLE), "--requests", "1000000"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as soak:
        assert soak.stdout is not None
        assert b"resident" in soak.stdout.readline()
        [server] = [each for each in psutil.Process(soak.pid).children() if "carla-serve" in " ".join(each.cmdline())]
        soak.terminate()
        assert soak.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert not server.is_running()


def test_a_table_is_aligned_and_leaves_out_what_is_not_there(capsys):
    table = Table("name", 6, (Column("rows", 7, ","), Column("ms", 8, ".1f")))
    table.print_heading(note="   why")
    table.print_row("one", 12345, 1.25)
    table.print_row("two", "-", math.nan, note="   note")
    table.print_row("three", note="left out")
    assert capsys.readouterr().out.splitlines() == [
        "name     rows      ms   why",
        "one    12,345     1.2",
        "two         -       –   note",
        "three left out",
    ]


def test_a_percentile_of_nothing_is_not_a_number():
    assert (median([1.0, 2.0, 3.0]), p99([float(n) for n in range(101)])) == (2.0, 99.0)
    assert math.isnan(p99([]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["loop", "gthread"])
def test_nothing_hostile_is_mishandled(kind: str):
    rows = [name for name in ROWS if name not in ("large", "slow", "overload")]  # benchmarks.hostile tries them all
    only = [word for name in rows for word in ("--only", name)]
    command = [sys.executable, "-m", "benchmarks.hostile", "--quick", "--mutations", "400", "--worker-class", kind]
    done = subprocess.run([*command, *only], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    title, *found, last = done.stdout.splitlines()
    assert title.startswith("row")
    assert len(found) == len(rows)
    assert last.startswith("p99 of good requests before the rows")


def test_figures_are_held_against_those_of_an_earlier_run(tmp_path: Path, capsys):
    parser = argparse.ArgumentParser()
    add_baseline(parser)
    before = {"p50 ms": Figure(1.0, LESS), "a second": Figure(100.0, MORE), "gone": Figure(1.0, LESS)}
    file = str(tmp_path / "before.json")
    assert conclude(before, parser.parse_args(["--json", file])) == 0
    against = ["--baseline", file, "--worse-by", "5%"]
    better = {"p50 ms": Figure(0.5, LESS), "a second": Figure(96.0, MORE), "new": Figure(9.0, LESS)}
    assert conclude(better, parser.parse_args(against)) == 0
    assert "2 figures beside" in capsys.readouterr().out
    worse = {"p50 ms": Figure(1.06, LESS), "a second": Figure(90.0, MORE)}
    assert conclude(worse, parser.parse_args(against)) == 1
    assert capsys.readouterr().err == "worse: p50 ms: 1 → 1.06\nworse: a second: 100 → 90\n"
    assert conclude({"new": Figure(1.0, LESS)}, parser.parse_args(against)) == 1  # nothing was compared
    with pytest.raises(SystemExit):
        parser.parse_args(["--worse-by", "ten"])


def test_a_good_load_whose_process_dies_says_so_instead_of_waiting_for_it(tmp_path: Path):
    load = GoodLoad(free_port(), [tmp_path / "nothing"], connections=1, pause_s=0.0)
    with pytest.raises(RuntimeError, match="the good load ended with exit code 1"):
        load.__enter__()
