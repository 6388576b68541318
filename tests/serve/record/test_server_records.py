"""carla-serve --record: what drove is in the files, whatever happens to the writer, the disk and the workers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from following_support import metric, until
from patience import PATIENCE_S
from recording_support import numbers, table_of
from slow_policies import HANGS_AT, laborious
from tests_support import Server, run_command

from serve.record.files import Recordings, open_recordings
from serve.record.ring_reader import RingReader
from serve.record.start import rings_folder
from serve.run_folder import RUN_FOLDER

KINDS = pytest.mark.parametrize("kind", ["loop", "gthread"])
KEY = "the-secret-of-the-fleet"
ROW: dict[str, Any] = {"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}


def started(start: Callable[..., Server], policy: Path, records: Path, *flags: str) -> Server:
    server = start("--model", str(policy), "--drain-s", "0.1", "--record", str(records), *flags)
    server.wait_ready()
    return server


def writer_of(server: Server) -> psutil.Process | None:
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):
            if "serve.record.writer_process" in child.cmdline():
                return child
    return None


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own folder of run folders, after which those of the rings are named."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def rings_of(temporary: Path) -> Path:
    """The rings' folder of the only server that runs; it may not be there."""
    [run_folder] = temporary.glob(f"{RUN_FOLDER}*")
    return rings_folder(run_folder)


def rows_of(records: Path) -> Recordings:
    found = open_recordings(records)
    assert found.verify() == []
    return found


@KINDS
def test_answers_and_errors_of_a_server_are_in_the_files(
    start_server, example: Path, tmp_path: Path, temporary: Path, kind: str
):
    server = started(start_server, example, tmp_path / "records", "--worker-class", kind)
    rings, actions = rings_of(temporary), []
    assert rings.is_dir()
    for step in range(20):
        rows = [{**ROW, "speed": float(step)}]
        answer = server.post(
            "/predict", {"observations": rows}, **{"X-Episode-Id": "drive", "X-Request-Id": f"r{step}"}
        )
        actions += [[action[name] for name in ("throttle", "brake", "steer")] for action in answer.json["actions"]]
    assert server.post("/predict", {"observations": [{**ROW, "speed": -1e9}]}).status == 422
    assert server.post("/predict", {"observations": []}).status == 400
    assert server.post("/predict", {"observations": [ROW], "budget_ms": 0}).status == 504
    assert server.post("/nothing", {}).status == 404
    assert metric(server, "policy_actions_total") == 20  # it counts as one that does not record
    assert server.stop() == 0
    found = rows_of(tmp_path / "records")
    table = table_of(found)
    assert table["outcome"].to_pylist() == ["policy"] * 20 + ["refused", "refused", "fallback"]
    assert table["status"].to_pylist()[20:] == [422, 400, 504]
    drove = table_of(found, episode="drive")
    assert np.array_equal(numbers(drove, "action"), np.array(actions, np.float32))
    assert drove["request_id"].to_pylist() == [f"r{step}" for step in range(20)]
    assert drove["frame_index"].to_pylist() == list(range(20))
    assert drove["observation.speed"].to_pylist() == [float(step) for step in range(20)]
    assert found.lost == 0
    assert not rings.exists()


def test_neither_keys_nor_headers_are_recorded(start_server, example: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("POLICY_API_KEY", KEY)
    server = started(start_server, example, tmp_path / "records")
    server.post("/predict", {"observations": [ROW]}, **{"Authorization": f"Bearer {KEY}", "X-Car": "the-name-of-a-car"})
    assert server.post("/predict", {"observations": [ROW]}, Authorization="Bearer wrong-key").status == 401
    assert server.stop() == 0
    table = table_of(rows_of(tmp_path / "records"))
    assert set(table["status"].to_pylist()) <= {200, 503}
    text = repr(table.to_pydict()).encode() + b"".join(
        path.read_bytes() for path in (tmp_path / "records").rglob("*") if path.is_file()
    )
    for secret in (KEY, "wrong-key", "the-name-of-a-car", "Bearer"):
        assert secret.encode() not in text


def test_nothing_is_recorded_unless_it_is_asked_for(start_server, example: Path, temporary: Path):
    server = start_server("--model", str(example), "--drain-s", "0.1")
    server.wait_ready()
    assert server.post("/predict", {"observations": [ROW]}).status == 200
    assert writer_of(server) is None
    assert not rings_of(temporary).exists()
    worker = psutil.Process(server.process.pid).children()[0]
    assert not [each.path for each in worker.memory_maps() if "arrow" in each.path]
    assert server.stop() == 0


def test_a_writer_that_died_just_before_the_server_stops_costs_nothing(start_server, example: Path, tmp_path: Path):
    server = started(start_server, example, tmp_path / "records")
    for _ in range(50):
        assert server.post("/predict", {"observations": [ROW]}).status == 200
    writer = writer_of(server)
    assert writer is not None
    writer.kill()
    assert server.stop() == 0
    assert rows_of(tmp_path / "records").rows == 50


def test_a_killed_writer_is_replaced_and_goes_on_where_its_files_end(start_server, example: Path, tmp_path: Path):
    server = started(start_server, example, tmp_path / "records")
    asked = 0
    for _ in range(3):
        before = writer_of(server)
        assert before is not None
        for _ in range(50):
            assert server.post("/predict", {"observations": [ROW]}).status == 200
            asked += 1
        before.kill()
        until(lambda before=before: (now := writer_of(server)) is not None and now.pid != before.pid, server)
    assert server.stop() == 0
    found = rows_of(tmp_path / "records")
    assert table_of(found)["sequence"].to_pylist() == list(range(asked))
    assert found.lost == 0


@contextlib.contextmanager
def asking(server: Server) -> Iterator[list[int]]:
    """Large requests without a pause; the number of rows that were answered, each answer 200."""
    stop, rows = threading.Event(), [0]
    body = msgspec.json.encode({"observations": [ROW] * 1000})
    asker = Server(server.process, server.url, server.log)

    def ask() -> None:
        while not stop.is_set():
            assert asker.post("/predict", body).status == 200
            rows[0] += 1000

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield rows
    finally:
        stop.set()
        thread.join()
        asker.pool.close()


def test_a_writer_that_stands_still_costs_rows_but_no_answer(start_server, example: Path, tmp_path: Path):
    server = started(start_server, example, tmp_path / "records", "--workers", "1")
    writer = writer_of(server)
    assert writer is not None
    with asking(server) as rows:
        until(lambda: rows[0] > 2000, server)
        writer.suspend()
        until(lambda: rows[0] > 1_000_000, server)
        writer.resume()
        until(lambda: rows[0] > 1_010_000, server)
    assert server.stop() == 0
    found = rows_of(tmp_path / "records")
    [head] = found.heads.values()
    assert set(head.lost) == {"ring_full"}
    assert found.lost > 0
    assert found.rows + found.lost == rows[0]


def test_a_full_disk_costs_rows_but_no_answer(start_server, example: Path, tmp_path: Path):
    if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    records = tmp_path / "records"
    records.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(records)], check=True)
    try:
        server = started(start_server, example, records, "--workers", "1")
        ballast = records / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        with asking(server) as rows:
            until(lambda: "recordings can't be written" in server.log.read_text(), server)
            until(lambda: rows[0] > 1_000_000, server)
            ballast.unlink()
            subprocess.run(["mount", "-o", "remount,size=500m", str(records)], check=True)
            until(lambda: b'policy_record_dropped_total{reason="disk_full"}' in server.get("/metrics").body, server)
        assert server.stop() == 0
        found = rows_of(records)
        [head] = found.heads.values()
        assert "disk_full" in head.lost
        assert found.rows + found.lost == rows[0]
    finally:
        subprocess.run(["umount", "-l", str(records)], check=True)


def test_what_the_workers_left_is_written_when_the_server_is_killed(
    start_server, example: Path, tmp_path: Path, temporary: Path
):
    server = started(start_server, example, tmp_path / "records")
    rings = rings_of(temporary)
    for _ in range(30):
        assert server.post("/predict", {"observations": [ROW]}).status == 200
    writer = writer_of(server)
    assert writer is not None
    server.process.kill()
    assert psutil.wait_procs([writer], timeout=PATIENCE_S)[1] == []
    assert rows_of(tmp_path / "records").rows == 30
    assert not rings.exists()


def test_rows_of_a_killed_worker_are_kept_and_so_are_those_of_the_next(
    start_server, example: Path, tmp_path: Path, temporary: Path
):
    server = started(start_server, example, tmp_path / "records", "--workers", "1")
    workers = set[int]()
    for _ in range(2):
        for _ in range(10):
            assert server.post("/predict", {"observations": [ROW]}).status == 200
        until(lambda: b"policy_model_info" in server.get("/metrics").body, server)
        [worker] = [
            each for each in psutil.Process(server.process.pid).children() if "writer" not in str(each.cmdline())
        ]
        workers.add(worker.pid)
        [ring] = rings_of(temporary).glob(f"{worker.pid}-*.ring")
        reader = RingReader(ring)  # what is younger than a tenth of a second would be lost with its worker
        until(lambda reader=reader: reader.missing == 10, server)
        reader.close()
        os.kill(worker.pid, signal.SIGKILL)
        server.pool.close()
        until(
            lambda old=worker.pid: all(each.pid != old for each in psutil.Process(server.process.pid).children()),
            server,
        )
        server.wait_ready()
    assert server.stop() == 0
    table = table_of(rows_of(tmp_path / "records"))
    assert set(table["worker"].to_pylist()) == workers
    assert table["sequence"].to_pylist() == [*range(10), *range(10)]


def test_the_metrics_say_what_was_recorded(start_server, example: Path, tmp_path: Path):
    server = started(start_server, example, tmp_path / "records", "--workers", "1")
    for _ in range(5):
        server.post("/predict", {"observations": [ROW]})
    os.kill(writer_of(server).pid, signal.SIGTERM)  # ends it in order; another one starts
    until(lambda: b"policy_recorded_rows_total 5.0" in server.get("/metrics").body, server)
    assert server.stop() == 0


def test_a_second_server_of_a_machine_records_beside_the_first(start_server, example: Path, tmp_path: Path):
    servers = [started(start_server, example, tmp_path / "records") for _ in range(2)]
    for server in servers:
        assert server.post("/predict", {"observations": [ROW]}).status == 200
    assert [server.stop() for server in servers] == [0, 0]
    found = rows_of(tmp_path / "records")
    assert (len(found.nodes), found.rows) == (2, 2)


def test_a_folder_that_can_not_be_written_is_refused_at_the_start(example: Path):
    done = run_command("carla-serve", "--model", str(example), "--record", "/dev/null/records")
    assert (done.code, done.err.count("\n")) == (1, 1), done.err
    assert "--record /dev/null/records: Not a directory; name a folder that this user may write" in done.err


def test_invalid_settings_of_recording_are_refused(example: Path):
    flags = ["--record-share", "2", "--record-max-gb", "0", "--record-images", "all"]
    done = run_command("carla-serve", "--model", str(example), *flags)
    assert done.code == 2
    for name in ("record_share: 2.0 is outside 0 to 1", "record_max_gb: 0.0 is outside", "record_images: 'all'"):
        assert name in done.err


@pytest.mark.parametrize(
    "rounds", [pytest.param(0, id="on the loop"), pytest.param(1, id="off the loop", marks=pytest.mark.slow)]
)
def test_an_observation_at_which_the_forward_hung_is_recorded_with_what_the_car_got(
    start_server, tmp_path: Path, rounds: int
):
    records = tmp_path / "records"
    server = started(start_server, laborious(tmp_path, rounds), records, "--forward-timeout-s", "1")
    answer = server.post("/predict", {"observations": [{"state": [HANGS_AT, *[0.5] * 15]}]})
    assert answer.status == 500
    until(lambda: server.get("/readyz").status == 200, server)  # another worker
    assert server.stop() == 0
    table = table_of(rows_of(records))
    assert table["status"].to_pylist() == [500]
    assert table["outcome"].to_pylist() == ["refused"]
    assert numbers(table, "observation.state")[0, 0] == np.float32(HANGS_AT)
