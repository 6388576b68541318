"""What the workers of a server agree on, where one of them is killed while it tells the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from patience import PATIENCE_S
from tests_support import EXAMPLE

from carla_mlflow import open_artifact
from serve.policy.agreed_backend import Choice, load_agreed
from serve.run_folder import read_file, write_file
from serve.settings import Settings

SPAWN = multiprocessing.get_context("spawn")
AUTO = Settings(model=str(EXAMPLE), backend="auto", device="cpu")
ROUNDS = 300


def agree(folder: Path) -> tuple[str, dict[str, Any]]:
    """What a worker runs that meets the others in that folder, and the figures that it was chosen by."""
    engine, figures = load_agreed(open_artifact(EXAMPLE), AUTO, folder)
    return engine.backend, figures


def told(folder: Path) -> list[Path]:
    """What every worker reads."""
    return list(folder.glob("backend-*.json"))


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def agree_and_die_at(step: str, folder: Path) -> None:
    """A worker that is killed where it calls that function of `os`."""
    setattr(os, step, die)
    agree(folder)


def write_half_and_die(folder: Path) -> None:
    """A worker that is killed when half of its bytes are written."""
    whole: Callable[[Path, bytes], int] = Path.write_bytes

    def half(path: Path, data: bytes) -> None:
        whole(path, data[: len(data) // 2])
        die()

    Path.write_bytes = half  # type: ignore[method-assign, assignment]
    agree(folder)


@pytest.mark.parametrize(
    "killed", [(write_half_and_die,), (agree_and_die_at, "replace")], ids=["in the middle", "before the renaming"]
)
def test_a_worker_that_is_killed_while_it_tells_its_choice_leaves_no_half_of_it(
    killed: tuple[Any, ...], tmp_path: Path
):
    act, *arguments = killed
    process = SPAWN.Process(target=act, args=(*arguments, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert told(tmp_path) == []
    first = agree(tmp_path)  # which measures, since nobody told
    assert set(first[1]) == {"torchscript", "onnx"}
    assert agree(tmp_path) == first
    [choice] = told(tmp_path)
    assert read_file(choice, Choice) == Choice(*first)


def test_half_a_choice_is_none_and_is_replaced(tmp_path: Path):
    first = agree(tmp_path)
    [choice] = told(tmp_path)
    choice.write_bytes(choice.read_bytes()[:-5])
    assert agree(tmp_path)[0] in {"torchscript", "onnx"}
    assert read_file(choice, Choice) is not None
    assert set(first[1]) == {"torchscript", "onnx"}


def write_often(path: Path, began: Event) -> None:
    for number in range(ROUNDS):
        write_file(path, Choice("onnx" if number % 2 else "torchscript", {"rows": list(range(20_000 + number))}))
        began.set()


def test_who_reads_what_is_being_written_anew_reads_one_of_the_two_whole(tmp_path: Path):
    path, began = tmp_path / "choice.json", SPAWN.Event()
    writer = SPAWN.Process(target=write_often, args=(path, began))
    writer.start()
    assert began.wait(PATIENCE_S)
    seen = set()
    while writer.is_alive():
        choice = msgspec.json.decode(path.read_bytes(), type=Choice)
        seen.add(len(choice.figures["rows"]))
    writer.join()
    assert writer.exitcode == 0
    assert len(seen) > 1
    assert list(tmp_path.iterdir()) == [path]
