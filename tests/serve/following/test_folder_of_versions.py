"""A car without a registry: its server follows a folder of artifacts, without mlflow and as safely as a registry."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from following_support import again, metric, of_other_contract, out_of_parity, served, until, workers
from tests_support import EXAMPLE, Server, example_as, own_cache, run_command

from benchmarks.policies.two_policies import Questions, small_policy
from benchmarks.support.steady_load import SteadyLoad
from carla_mlflow import Artifact, write_artifact
from serve.__main__ import _warn
from serve.settings import Settings

Start = Callable[..., Server]
POISON = "import os, sys; open({file!r}, 'a').write(' '.join(sys.argv)); raise ImportError('mlflow was imported')"


@pytest.fixture(scope="module")
def artifacts() -> list[Artifact]:
    return [small_policy("1.0.0", 1), small_policy("1.1.0", 2)]


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once a process of this test has imported mlflow, which fails."""
    package = tmp_path / "poisoned" / "mlflow"
    package.mkdir(parents=True)
    file = tmp_path / "imported"
    (package / "__init__.py").write_text(POISON.format(file=str(file)))
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return file


@pytest.fixture
def policies(tmp_path: Path, artifacts, imported: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that holds 1.0.0; whatever the test does with it, nothing imports mlflow."""
    own_cache(monkeypatch, tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")  # which nobody asks
    folder = tmp_path / "policies"
    put(folder, artifacts[0])
    yield folder
    assert not imported.exists(), imported.read_text()


def put(folder: Path, artifact: Artifact) -> Path:
    """Adds a version to the folder."""
    return write_artifact(folder / f"v{artifact.card.version}", artifact).path


def start(start_server: Start, policies: Path, selector: str = "^1", *flags: str) -> Server:
    patience = ("--fetch-timeout-s", "1") if "--fetch-timeout-s" not in flags else ()
    server = start_server("--model", f"{policies}/@{selector}", "--poll-s", "0.2", *patience, *flags)
    server.wait_alive()
    return server


def warnings(server: Server) -> str:
    """All but the one about PINS; none of them shows a path."""
    answer = server.get("/readyz")
    assert answer.status == 200, answer.body
    assert b"/policies" not in answer.body
    return "; ".join(text for text in answer.json["warnings"] if not text.startswith("unpinned"))


def test_a_new_subfolder_reaches_every_worker_and_no_request_fails(start_server: Start, policies: Path, artifacts):
    server = start(start_server, policies, "^1", "--workers", "2")
    server.wait_ready()
    with SteadyLoad(server.url, Questions(artifacts), 8, 0.01) as record:
        until(lambda: len(record.answers) > 50, server)
        shutil.copytree(put(policies.parent / "elsewhere", artifacts[1]), policies / "follow-me-1.1.0")
        until(lambda: served(server) == {"1.1.0"}, server)
        count = len(record.answers)
        until(lambda: len(record.answers) > count + 50, server)
    assert (record.failed, record.wrong) == ([], [])
    assert {version for *_, version in record.answers} == {"1.0.0", "1.1.0"}
    metadata = server.get("/metadata").json
    assert (metadata["following"], metadata["registry"], metadata["stage"]) == ("policies/@^1", "ok", None)
    assert metadata["served"][0]["following"] == "policies/@^1"
    until(lambda: warnings(server) == "", server)
    assert metric(server, "policy_registry_up") == 1
    for worker in workers(server):  # a new worker begins with what the others serve
        worker.kill()
        worker.wait()
    server.pool.close()
    server.wait_ready()
    assert server.get("/metadata").json["version"] == "1.1.0"


def test_a_change_of_version_between_two_actions_of_an_episode_is_a_change(
    start_server: Start, policies: Path, artifacts
):
    server = start(start_server, policies)
    server.wait_ready()
    row = Questions(artifacts).bodies[0]
    server.post("/predict", row, **{"X-Episode-Id": "car"})
    put(policies, artifacts[1])
    until(lambda: served(server) == {"1.1.0"}, server)
    server.post("/predict", row, **{"X-Episode-Id": "car"})
    assert metric(server, "policy_action_change_count", dimension="steer") == 1
    assert (metric(server, "policy_action_change_sum", dimension="steer") or 0) > 0


def test_an_incomplete_subfolder_is_waited_for_then_refused_then_taken(start_server: Start, policies: Path, artifacts):
    server = start(start_server, policies, "^1", "--fetch-timeout-s", "3")
    server.wait_ready()
    whole = put(policies.parent / "elsewhere", artifacts[1])
    (policies / "v1.1.0").mkdir()
    shutil.copy(whole / "model_card.yaml", policies / "v1.1.0")
    until(lambda: "policies/@^1: v1.1.0 is waited for: " in warnings(server), server)
    until(lambda: "policies/@^1: v1.1.0 is refused: " in warnings(server), server)
    [refused] = server.get("/metadata").json["refused"]
    assert (refused["version"], refused["kind"], "is missing" in refused["reason"]) == ("1.1.0", "integrity", True)
    until(lambda: metric(server, "policy_refusals_total", reason="integrity") == 1, server)
    for file in whole.iterdir():
        shutil.copy(file, policies / "v1.1.0")
    until(lambda: served(server) == {"1.1.0"}, server)
    until(lambda: warnings(server) == "", server)
    assert server.get("/metadata").json["refused"] == []


def test_a_server_waits_for_its_first_version(start_server: Start, policies: Path, artifacts):
    model = policies / "v1.0.0" / "model.onnx"
    whole = model.read_bytes()
    model.unlink()
    server = start(start_server, policies)
    until(lambda: "v1.0.0 is refused: model.onnx: is missing" in server.get("/readyz").json["error"]["message"], server)
    model.write_bytes(whole)
    server.wait_ready()


@pytest.mark.parametrize(("make", "kind"), [(out_of_parity, "parity"), (of_other_contract, "contract")])
def test_a_version_that_may_not_drive_is_refused_as_one_of_a_registry(
    start_server: Start, policies: Path, artifacts, make, kind: str
):
    server = start(start_server, policies)
    server.wait_ready()
    put(policies, make(artifacts[0], "1.2.0"))
    until(lambda: f"1.2.0 is refused ({kind})" in warnings(server), server)
    assert served(server) == {"1.0.0"}
    put(policies, again(artifacts[1], "1.3.0"))
    until(lambda: served(server) == {"1.3.0"}, server)


def test_what_vanishes_goes_on_driving_and_is_said(start_server: Start, policies: Path, artifacts):
    put(policies, artifacts[1])
    server = start(start_server, policies)
    server.wait_ready()
    shutil.rmtree(policies / "v1.1.0")
    until(lambda: "1.1.0 is no longer there as it was; to go back to 1.0.0, name it in" in warnings(server), server)
    policies.rename(policies.with_name("away"))
    until(lambda: "the folder can't be read; serving the last verified version" in warnings(server), server)
    assert metric(server, "policy_registry_up") == 0
    assert server.get("/metadata").json["version"] == "1.1.0"
    assert server.stop() == 0
    again_started = start(start_server, policies)  # still away: what was served last is in the cache
    again_started.wait_ready()
    assert again_started.get("/metadata").json["version"] == "1.1.0"
    policies.with_name("away").rename(policies)
    put(policies, again(artifacts[1], "1.2.0"))
    until(lambda: served(again_started) == {"1.2.0"}, again_started)


def test_pins_decide_what_drives(start_server: Start, policies: Path, artifacts):
    first, second = artifacts
    put(policies, second)
    pins = policies / "PINS"
    pins.write_text(f"1.0.0 {first.digest}\n")
    server = start(start_server, policies)
    server.wait_ready()
    metadata = server.get("/metadata").json
    assert (metadata["version"], metadata["pin"]) == ("1.0.0", "pinned")
    assert "v1.1.0 is refused: PINS has no line for 1.1.0" in warnings(server)
    pins.write_text(f"1.0.0 {first.digest}\n1.1.0 {second.digest}\n")
    until(lambda: served(server) == {"1.1.0"}, server)
    until(lambda: warnings(server) == "", server)
    pins.write_text(f"1.0.0 {first.digest}\n1.1.0 {first.digest}\n")
    text = f"v1.1.0 is refused: it is {second.digest}, but PINS says {first.digest}"
    until(lambda: text in warnings(server), server)
    pins.write_text("nonsense\n")
    until(lambda: "PINS: line 1: " in warnings(server), server)
    assert served(server) == {"1.1.0"}
    pins.write_text(f"1.0.0 {first.digest}\n")  # 1.1.0 is taken back
    until(lambda: served(server) == {"1.0.0"}, server)
    assert "unpinned" not in server.log.read_text()


def test_other_bytes_under_the_version_that_drives_are_refused(start_server: Start, policies: Path, artifacts):
    server = start(start_server, policies, "1.0.0")
    server.wait_ready()
    assert server.get("/readyz").json["warnings"] == ["unpinned: the folder of artifacts has no file PINS"]
    assert server.get("/metadata").json["pin"] == "unpinned"
    changed = again(artifacts[1], "1.0.0")
    shutil.rmtree(policies / "v1.0.0")
    put(policies, changed)
    text = f"its bytes have changed: it was {artifacts[0].digest}, and is {changed.digest}"
    until(lambda: text in warnings(server), server)
    assert server.get("/metadata").json["digest"] == artifacts[0].digest
    assert server.stop() == 0
    after = start(start_server, policies, "1.0.0")
    after.wait_ready()
    until(lambda: after.get("/metadata").json["digest"] == changed.digest, after)
    assert "its subfolder was changed" in warnings(after)


def test_two_policies_in_the_folder_stop_what_is_new_and_not_what_drives(
    start_server: Start, policies: Path, artifacts, tmp_path: Path
):
    server = start(start_server, policies)
    server.wait_ready()
    other = example_as(tmp_path / "other", "1.5.0")
    shutil.move(other, policies / "v1.5.0")
    until(lambda: "more than one policy: follow-me (v1.0.0), racetrack-policy (v1.5.0)" in warnings(server), server)
    assert served(server) == {"1.0.0"}


def test_a_digest_pins_one_artifact_of_the_folder(start_server: Start, policies: Path, artifacts):
    put(policies, artifacts[1])
    server = start(start_server, policies, "^1", "--digest", artifacts[0].digest)
    until(lambda: "was pinned" in server.get("/readyz").json["error"]["message"], server)
    assert server.stop() == 0
    exact = start(start_server, policies, "1.0.0", "--digest", artifacts[0].digest)
    exact.wait_ready()
    assert exact.get("/metadata").json["pin"] == "pinned"


def test_more_versions_of_the_folder_are_served_beside(start_server: Start, policies: Path, artifacts):
    put(policies, artifacts[1])
    server = start(start_server, policies, "^1", "--also", f"{policies}/@1.0.0,{policies}/@>=0.1,<1.1")
    server.wait_ready()
    questions = Questions(artifacts)
    for version in ("1.0.0", "1.1.0"):
        answer = server.post(f"/predict?version={version}", questions.bodies[0])
        assert answer.json["version"] == version
        assert questions.is_right(0, answer.json)
    assert [each["version"] for each in server.get("/metadata").json["served"]] == ["1.1.0", "1.0.0", "1.0.0"]


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("production", "a folder has no stages and no aliases, only versions; {}/ has 1.0.0"),
        ("^^", "'^^' is neither a version nor a range such as ^1.4"),
    ],
)
def test_a_reference_that_means_nothing_there_ends_the_server_with_one_line(policies: Path, selector: str, said: str):
    done = run_command("carla-serve", "--model", f"{policies}/@{selector}", "--port", "0", "--log-level", "error")
    assert done.code == 1
    [line] = [line for line in done.err.splitlines() if line.startswith("carla-serve: ") and "unpinned" not in line]
    assert said.format(policies) in line
    assert "Traceback" not in done.err


@pytest.mark.parametrize("selector", ["^1.1", "1.1.0"])
def test_a_version_that_is_not_there_yet_is_waited_for(start_server: Start, policies: Path, artifacts, selector: str):
    server = start(start_server, policies, selector)
    until(lambda: f"the folder has no policies/@{selector}" in server.get("/readyz").body.decode(), server)
    assert (server.get("/readyz").status, server.get("/healthz").status) == (503, 200)
    put(policies, artifacts[1])
    server.wait_ready()


def test_a_folder_that_was_never_there_is_said(policies: Path):
    done = run_command("carla-serve", "--model", f"{policies}/none/@^1", "--port", "0")
    assert (done.code, done.err) == (1, f"carla-serve: {policies}/none/: there is no such folder\n")


@pytest.mark.parametrize("model", ["policies/@", "policies/@!", "policies/@a b"])
def test_what_is_no_reference_is_a_usage_error(model: str):
    done = run_command("carla-serve", "--model", model)
    assert (done.code, "or folder/@^1.4 for a folder of artifacts" in done.err) == (2, True)


def test_a_folder_that_was_meant_by_a_name_is_said(policies: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(policies.parent)
    _warn(Settings(model="policies@^1"))
    assert capsys.readouterr().err.endswith("for a version in the folder here write policies/@^1\n")
    _warn(Settings(model="mine@^1"))
    assert capsys.readouterr().err == ""


def test_another_policy_or_folder_beside_is_a_usage_error(policies: Path):
    for also, named in (("mine@1.0.0", "mine"), ("elsewhere/@1.0.0", "elsewhere/")):
        [problem] = Settings(model=f"{policies}/@^1", also=also).problems()
        assert problem == f"also: {named} is another folder than {policies}/"


def test_logged_drives_are_scored_by_a_version_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own_cache(monkeypatch, tmp_path)
    shutil.copytree(EXAMPLE, tmp_path / "policies" / "racetrack-policy-0.1.0")
    drives, actions = tmp_path / "drives.parquet", tmp_path / "actions.parquet"
    pq.write_table(pa.table({"speed": np.ones(8), "steering": np.zeros(8), "sensors": [[1.0] * 12] * 8}), drives)
    model = f"{tmp_path}/policies/@^0.1"
    arguments = ["--model", model, "--input", str(drives), "--output", str(actions)]
    done = run_command("python", "-m", "serve", "score", *arguments)
    assert (done.code, "8 rows by racetrack-policy 0.1.0" in done.out) == (0, True), done.err


def test_of_a_thousand_versions_only_the_one_that_is_meant_is_fetched(start_server: Start, policies: Path, artifacts):
    card = (policies / "v1.0.0" / "model_card.yaml").read_bytes()
    for number in range(1000):
        (policies / f"v0.{number}.0").mkdir()
        (policies / f"v0.{number}.0" / "model_card.yaml").write_bytes(card)
    server = start(start_server, policies, ">=0")
    server.wait_ready()
    assert server.get("/metadata").json["refused"] == []
    assert os.listdir(policies.parent / "cache" / "carla-mlflow" / "artifacts") == [artifacts[0].digest[7:]]
