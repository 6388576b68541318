"""Replaying a recording: the same bits, what another version would have done, and what is damaged or differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_recordings import driven, write
from tests_support import EXAMPLE, Finished

from carla_mlflow import Engine


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.open(EXAMPLE, device="cpu")


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Finished:
    from serve.replay.command import main

    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    told = capsys.readouterr()
    return Finished(code, told.out, told.err)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a registry, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POLICY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def test_what_drove_gives_the_same_bits_again(engine: Engine, nowhere: Path, capsys: pytest.CaptureFixture[str]):
    folder = write(nowhere / "rec", [(engine, driven(engine, late=[3]))])
    done = replayed(capsys, str(folder), "--artifacts", str(EXAMPLE), "--json")
    assert done.code == 0, done.err
    [again] = json.loads(done.out)["again"]
    assert (again["rows"], again["equal"], again["differing"], again["fallbacks"]) == (39, 39, 0, 1)
