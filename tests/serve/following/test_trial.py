"""A version that crashes, hangs or is too large is found out in a process of its own, and remembered."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from following_support import hanging, until_true

from benchmarks.policies.bad_policies import crashing, too_large
from benchmarks.policies.two_policies import small_policy, write
from carla_mlflow import Artifact
from serve.following.attempts import Attempts, Record
from serve.following.memory_left import memory_left
from serve.following.startup import fill_from_folder
from serve.following.trial import find_failure, load_carefully
from serve.policy.loading import Failure, Load
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.run_folder import WorkerState, worker_file, write_file
from serve.settings import Settings


def good() -> Artifact:
    return small_policy("1.0.0", 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(model="follow-me@production", cache_dir=str(tmp_path / "cache"), device="cpu")


def test_a_version_that_crashes_is_remembered_and_its_waits_grow(settings: Settings, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("serve.following.attempts.FIRST_WAIT_S", 30.0)  # longer than a loaded machine stands still
    bad = crashing(good(), "2.0.0")
    path = write(bad, tmp_path)
    failure = find_failure(path, bad.digest, settings, tmp_path)
    assert (failure.kind, failure.reason) == ("crash", "the process that loaded it was killed (SIGSEGV)")
    again = load_carefully(path, bad.digest, settings, tmp_path)  # would kill this process
    assert isinstance(again, Failure)
    assert again.kind == "crash"
    assert 0 < again.wait_s <= 30.0
    attempts = Attempts.of(settings, tmp_path / "another-server", bad.digest)
    write_file(attempts._file, Record(1, time.monotonic() - 31.0, failure.reason))
    assert attempts.read().wait_s == 0
    again = load_carefully(path, bad.digest, settings, tmp_path)
    assert again.reason == failure.reason
    assert 30.0 < again.wait_s <= 120.0


def test_a_load_that_ends_in_any_error_is_told_and_never_silent():
    def fails(_: Any) -> Serving | Failure:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/secret")

    load = Load(fails, 60.0)
    until_true(lambda: load.is_over)
    assert load.outcome == Failure("it could not be loaded: No space left on device", "other")


def test_a_child_is_heard_where_many_files_are_open(settings: Settings, tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        with contextlib.ExitStack() as files:
            for _ in range(1100):
                files.enter_context(open(os.devnull))
            assert find_failure(write(good(), tmp_path), good().digest, settings, tmp_path) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_good_version_is_tried_once_and_known_at_the_next_start(settings: Settings, tmp_path: Path):
    path = write(good(), tmp_path)
    assert find_failure(path, good().digest, settings, tmp_path) is None
    known = Attempts.of(settings, tmp_path, good().digest).read()
    assert known.loads
    assert known.needs > 0
    os.rename(path / "model.onnx", path / "away")  # a second trial would miss it
    assert find_failure(path, good().digest, settings, tmp_path / "another-server") is None


def test_a_version_that_hangs_is_ended(settings: Settings, tmp_path: Path):
    bad = hanging(good(), "2.0.0")
    short = Settings(**{**vars_of(settings), "load_timeout_s": 1.0})
    before = psutil.Process().children()  # of other tests in this process
    failure = find_failure(write(bad, tmp_path), bad.digest, short, tmp_path)
    assert failure == Failure("loading and warming up took longer than --load-timeout-s (1 s)", "timeout")
    assert [child for child in psutil.Process().children() if child not in before] == []
    assert not list((tmp_path / "cache" / "attempts").glob("*.try-*"))


def vars_of(settings: Settings) -> dict:
    return {name: getattr(settings, name) for name in Settings.__dataclass_fields__}


def test_a_version_that_does_not_fit_into_the_memory_of_all_workers_is_refused(settings: Settings, tmp_path: Path):
    large = too_large(good(), "2.0.0")
    path = write(large, tmp_path)
    many = Settings(**{**vars_of(settings), "workers": 2 + memory_left() // (1 << 27)})
    failure = find_failure(path, large.digest, many, tmp_path)
    assert failure.kind == "memory"
    assert f"needs {many.workers} × " in failure.reason
    assert "MB of memory are left" in failure.reason


def test_those_that_a_cluster_started_on_this_machine_are_counted_as_workers(settings: Settings, tmp_path: Path):
    large = too_large(good(), "2.0.0")
    path = write(large, tmp_path)
    count = 2 + memory_left() // (1 << 27)
    for pid in range(count):
        write_file(worker_file(tmp_path, pid), WorkerState())
    failure = find_failure(path, large.digest, settings, tmp_path)
    assert failure.kind == "memory"
    assert f"needs {count} × " in failure.reason


LOADER = """
import sys, time
from pathlib import Path
from serve.following.attempts import Attempts, withdraw
import signal
signal.signal(signal.SIGTERM, lambda *_: (withdraw(), sys.exit(0)))
with Attempts(Path(sys.argv[1]), "digest").trying():
    print("loading", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("number", "deaths"), [(signal.SIGKILL, 1), (signal.SIGSEGV, 1), (signal.SIGTERM, 0)])
def test_a_load_that_was_not_survived_is_told_from_one_that_was_stopped(tmp_path: Path, number: int, deaths: int):
    process = subprocess.Popen([sys.executable, "-c", LOADER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"loading\n"
    attempts = Attempts(tmp_path, "digest")
    assert attempts.read().deaths == 0  # it may yet survive
    process.send_signal(number)
    process.wait()
    process.stdout.close()
    assert attempts.read().deaths == deaths
    assert attempts.read().deaths == deaths  # counted once
    attempts.loaded()
    assert attempts.read().wait_s == 0


def test_only_one_process_tries_again_what_killed_one(settings: Settings, tmp_path: Path):
    path = write(good(), tmp_path)
    attempts = Attempts.of(settings, tmp_path, good().digest)
    attempts.died("a worker was killed")
    until_true(lambda: attempts.read().wait_s == 0)
    with attempts.alone() as mine:
        assert mine
        refused = load_carefully(path, good().digest, settings, tmp_path)
    assert refused == Failure("a worker was killed", "crash", 1.0)
    assert isinstance(load_carefully(path, good().digest, settings, tmp_path), Serving)
    assert attempts.read().deaths == 0


def test_memory_that_is_left_is_the_least_of_the_machine_and_its_control_groups(tmp_path: Path):
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    (proc / "self" / "cgroup").write_text("4:memory:/pod/box\n1:cpu:/\n0::/inner\n")
    assert memory_left(groups, proc) == 8000 * 1024

    def group(path: str, names: tuple[str, str], most: str, used: int, stat: str) -> None:
        folder = groups / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names[0]).write_text(f"{most}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(stat)

    new, old = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    group("inner", new, "max", 5_000_000, "inactive_file 1\n")
    assert memory_left(groups, proc) == 8000 * 1024
    group("inner", new, "7000000", 5_000_000, "active_file 1000\ninactive_file 500\n")
    assert memory_left(groups, proc) == 2_001_500
    group("memory/pod", old, "3000000", 2_000_000, "total_active_file 0\ntotal_inactive_file 7\n")
    assert memory_left(groups, proc) == 1_000_007
    group("memory/pod", old, "3000000", 4_000_000, "total_active_file 0\n")
    assert memory_left(groups, proc) == 0


def test_where_nothing_says_how_much_memory_is_left_there_is_no_limit(tmp_path: Path):
    assert memory_left(tmp_path, tmp_path) == sys.maxsize


def test_loads_that_end_well_while_others_look_are_no_deaths(tmp_path: Path):
    attempts = Attempts(tmp_path, "one")
    over = threading.Event()
    looking = threading.Thread(target=lambda: any(attempts.read().deaths for _ in iter(over.is_set, True)))
    looking.start()
    for _ in range(3000):
        with attempts.trying():
            pass
    over.set()
    looking.join()
    assert attempts.read() == Record()


def test_a_folder_that_can_not_be_loaded_yet_is_tried_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("serve.following.startup.FIRST_WAIT_S", 0.05)
    run_folder = tmp_path / "run"  # not there yet, so that nothing can be written
    slot = Slot(run_folder)
    settings = Settings(model=str(write(good(), tmp_path)), device="cpu")
    thread = threading.Thread(target=fill_from_folder, args=(slot, settings, run_folder))
    thread.start()
    until_true(lambda: slot.reason == "it could not be loaded: No such file or directory")
    run_folder.mkdir()
    thread.join()
    assert slot.ready
