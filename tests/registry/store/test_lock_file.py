"""The file by which one user's processes take turns where MLflow makes its tables, on a machine of several users."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from tests_support import run_command

from carla_mlflow.errors import RegistryError
from registry.store.calls import one_at_a_time

URI = "sqlite:////somewhere/mlflow.db"
ANN, BEN = 54321, 54322
WAIT_S = 60
FORK = multiprocessing.get_context("fork")
"""Another user could not read the code where it lies; what was forked has read it."""
as_others = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that everyone may write, as /tmp is."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o1777)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def locks(folder: Path) -> list[Path]:
    return sorted(folder.glob("carla-mlflow-*.lock"))


def as_user(user: int, act: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """Does it in a process of that user."""

    def run() -> None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        act(*arguments)

    process = FORK.Process(target=run)
    process.start()
    return process


def meet(mine: Event, other: Event) -> None:
    """Holds the lock until another holds one too."""
    with one_at_a_time(URI):
        mine.set()
        assert other.wait(WAIT_S)


@as_others
def test_two_users_of_one_machine_never_wait_for_each_other(shared: Path):
    ann, ben = FORK.Event(), FORK.Event()
    processes = [as_user(ANN, meet, ann, ben), as_user(BEN, meet, ben, ann)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert {lock.stat().st_uid for lock in locks(shared)} == {ANN, BEN}
    assert len(locks(shared)) == 2
    assert {lock.stat().st_mode & 0o777 for lock in locks(shared)} == {0o600}


def hold(began: Event, ends: Event) -> None:
    with one_at_a_time(URI):
        began.set()
        assert ends.wait(WAIT_S)


def take(began: Event) -> None:
    with one_at_a_time(URI):
        began.set()


def test_two_processes_of_one_user_do_wait_for_each_other(shared: Path):
    held, ends, taken = FORK.Event(), FORK.Event(), FORK.Event()
    holder, taker = FORK.Process(target=hold, args=(held, ends)), FORK.Process(target=take, args=(taken,))
    holder.start()
    assert held.wait(WAIT_S)
    taker.start()
    assert not taken.wait(0.5)
    ends.set()
    assert taken.wait(WAIT_S)
    for process in (holder, taker):
        process.join()
    assert len(locks(shared)) == 1


def refused() -> None:
    with pytest.raises(RegistryError, match=r"\.lock: .*; have it removed, or let TMPDIR name another folder"):
        one_at_a_time(URI).__enter__()


def put_by_another(shared: Path, make: Callable[[Path], None]) -> None:
    """Somebody else's thing lies where this user's lock would."""
    with one_at_a_time(URI):
        pass
    [lock] = locks(shared)
    lock.unlink()
    make(lock)
    os.chown(lock, ANN, ANN, follow_symlinks=False)


@as_others
@pytest.mark.parametrize(
    "make", [Path.touch, os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path.with_name("there"))]
)
def test_what_another_user_put_where_the_lock_would_be_is_told_and_never_opened(
    shared: Path, make: Callable[[Path], None]
):
    put_by_another(shared, make)
    refused()
    assert not (shared / "there").exists()


@as_others
def test_a_lock_that_may_not_be_opened_is_told_in_words(shared: Path):
    as_user(BEN, take, FORK.Event()).join()
    [lock] = locks(shared)
    os.chown(lock, ANN, ANN)
    process = as_user(BEN, refused)
    process.join()
    assert process.exitcode == 0


@as_others
def test_a_command_says_in_a_line_that_the_lock_is_another_users(shared: Path, mlflow_home: Path):
    assert run_command("carla-registry", "list").code == 0
    [lock] = locks(shared)
    os.chown(lock, ANN, ANN)
    done = run_command("carla-registry", "list")
    assert (done.code, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert f"{lock}: belongs to another user; have it removed" in line
