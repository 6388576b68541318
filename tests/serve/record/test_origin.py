"""Where a recording's rows come from: machine, engine and references, in every file."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pytest
from recording_support import Recording, served, table_of

from serve.record.machine import ENGINE, MACHINE, REFERENCE, origin_of_server, this_machine
from serve.settings import Settings


def ask(recording: Recording) -> None:
    """One row in a minute that is then over."""
    drawn = {spec.name: spec.sample(np.random.default_rng(0), 1)[0] for spec in recording.serving.engine.specs}
    recording.predict([[drawn]], ["one"])
    recording.write()
    recording.write(1.0)


def test_every_file_names_its_machine_its_engine_and_what_was_served(tmp_path: Path, example: Path):
    serving = served(tmp_path, example)
    recording = Recording(tmp_path, serving, {})
    ask(recording)
    recording.write(60)
    for _ in range(10):
        recording.write()
    [merged] = recording.end().files
    assert json.loads(merged.origin[MACHINE]) == this_machine()
    assert json.loads(merged.origin[ENGINE + serving.digest]) == {"backend": serving.engine.backend, "device": "cpu"}
    assert merged.origin[REFERENCE] == "x"


def test_minutes_of_different_machines_do_not_become_one_file(
    tmp_path: Path, example: Path, monkeypatch: pytest.MonkeyPatch
):
    recording = Recording(tmp_path, served(tmp_path, example), {})
    for architecture in ("x86_64", "x86_64", "riscv64", "riscv64"):
        monkeypatch.setattr(platform, "machine", lambda: architecture)  # noqa: B023  # called before the next
        recording.writer._node.close()
        recording.writer = recording.new_writer()
        ask(recording)
    before = table_of(recording.read())
    recording.write(60)
    for _ in range(20):
        recording.write()
    found = recording.end()
    assert [json.loads(file.origin[MACHINE])["architecture"] for file in found.files] == ["x86_64", "riscv64"]
    assert [file.rows for file in found.files] == [2, 2]
    assert (found.verify(), table_of(found).equals(before)) == ([], True)


def test_what_a_server_follows_is_named_as_clients_may_see_it():
    followed = Settings(model="/secret/policies/@^1.2", also="")
    assert origin_of_server(followed)[REFERENCE] == "policies/@^1.2"
    several = Settings(model="mine@production", also="mine@0.2.0,mine@>=0.1,<0.3")
    assert origin_of_server(several)[REFERENCE] == "mine@production\nmine@0.2.0\nmine@>=0.1,<0.3"
    assert origin_of_server(Settings(model="/secret/policies/mine-0.2.0"))[REFERENCE] == ""
