"""What the processes of a server leave behind: nothing, however they end; and what outlives each of them."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from following_support import metric, until, until_true, workers
from prometheus_client.mmap_dict import MmapedDict
from tests_support import Server

from serve.cluster.node import meeting_folder
from serve.folder_lock import remove_unused
from serve.following.last_served import agree, read_good
from serve.run_folder import MASTER, METRICS, RUN_FOLDER, Status
from serve.settings import Settings
from serve.shared_memory import SHARED_MEMORY, temporary_folder
from serve.telemetry.dead_counters import add_up

Start = Callable[..., Server]


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this test's processes."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    for name in ("TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.parametrize("worker_class", ["loop", "gthread"])
def test_a_server_whose_master_is_killed_leaves_no_folder(start_server: Start, example: Path, tmp: Path, worker_class):
    server = start_server("--model", str(example), "--workers", "2", "--worker-class", worker_class)
    server.wait_ready()
    server.process.kill()
    until_true(lambda: not list(tmp.glob("carla-serve-*")))


def test_a_folder_that_was_left_by_killed_processes_is_removed_at_the_next_start(
    start_server: Start, example: Path, tmp: Path
):
    server = start_server("--model", str(example))
    server.wait_ready()
    [left] = tmp.glob("carla-serve-*")
    for process in [psutil.Process(server.process.pid), *workers(server)]:
        process.kill()
    other = start_server("--model", str(example))
    other.wait_ready()
    assert not left.exists()
    remove_unused(next(tmp.glob("carla-serve-*")))  # its processes live
    assert other.get("/readyz").status == 200
    assert len(list(tmp.glob("carla-serve-*"))) == 1


def test_where_no_temporary_folder_is_named_the_run_folder_lies_in_memory_while_the_server_runs(
    start_server: Start, example: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    server = start_server("--model", str(example))
    server.wait_ready()
    masters = {path.parent: path.read_text() for path in SHARED_MEMORY.glob(f"{RUN_FOLDER}*/{MASTER}")}
    [folder] = [folder for folder, pid in masters.items() if pid == str(server.process.pid)]
    assert list((folder / METRICS).glob("*.db"))
    server.process.terminate()
    until_true(lambda: not folder.exists())


def test_a_run_folder_lies_where_the_environment_says_and_where_memory_has_no_room_in_the_temporary_folder(
    tmp: Path, monkeypatch: pytest.MonkeyPatch
):
    assert temporary_folder() == tmp
    monkeypatch.delenv("TMPDIR")
    assert temporary_folder() == SHARED_MEMORY
    assert temporary_folder(other_bytes=1 << 60) == tmp  # tempfile goes on with the folder that it knows


def test_counters_outlive_a_worker_in_one_file(start_server: Start, example: Path, tmp: Path):
    server = start_server("--model", str(example), "--workers", "2")
    server.wait_ready()
    bad = b"{}"
    for number in range(1, 4):
        assert server.post("/predict", bad).status == 400
        until(lambda number=number: requests(server) == number, server)
        for worker in workers(server):
            worker.kill()
            worker.wait()
        server.pool.close()
        server.wait_ready()
        until(lambda number=number: requests(server) == number, server)
    [folder] = tmp.glob("carla-serve-*/metrics")
    pids = {path.stem.rpartition("_")[2] for path in folder.glob("*.db")}
    assert pids <= {"ended", str(server.process.pid), *(str(worker.pid) for worker in workers(server))}


def requests(server: Server) -> float:
    return metric(server, "policy_requests_total", route="/predict", code="400") or 0


MEETING = """
import sys, time
from serve.cluster.node import meeting_folder
from serve.settings import Settings
print(meeting_folder(Settings(model="mine@production"), "node", "first"), flush=True)
time.sleep(60)
"""


def test_counters_that_can_not_be_added_up_stay_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for pid, number in ((1, 2.0), (2, 3.0)):
        counters = MmapedDict(str(tmp_path / f"counter_{pid}.db"))
        counters.write_value("requests", number, 0.0)
        counters.close()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.posix_fallocate", full)
        add_up(tmp_path, 1)
    assert (tmp_path / "counter_1.db").exists()
    add_up(tmp_path, 1)
    add_up(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["counter_ended.db"]
    [(_, total, *_)] = MmapedDict.read_all_values_from_file(str(tmp_path / "counter_ended.db"))
    assert total == 5.0


def test_on_a_node_a_contract_outlives_processes_until_the_next_deployment(tmp: Path):
    first = subprocess.Popen([sys.executable, "-c", MEETING], stdout=subprocess.PIPE, text=True)
    folder = Path(first.stdout.readline().strip())
    assert agree(folder, 0, Status(digest="one"), "a contract")
    assert (folder / METRICS).is_dir()
    first.kill()
    first.wait()
    replacing = subprocess.Popen([sys.executable, "-c", MEETING], stdout=subprocess.PIPE, text=True)
    assert Path(replacing.stdout.readline().strip()) == folder
    assert read_good(folder, 0).contract == "a contract"
    other = meeting_folder(Settings(model="mine@production"), "node", "second")
    assert other != folder
    assert read_good(folder, 0).contract == "a contract"  # its process is still there
    assert agree(other, 0, Status(digest="two"), "another contract")
    replacing.send_signal(signal.SIGTERM)
    replacing.wait()
    meeting_folder(Settings(model="mine@production"), "node", "third")
    assert not folder.exists()
    assert other.exists()
    for process in (first, replacing):
        process.stdout.close()
