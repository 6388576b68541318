"""A promotion in mid-episode: the version that began an episode goes on with it for a while, or says that it can't."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from following_support import following_folder, metric, of_other_contract, promote, put, served, until
from tests_support import Server, own_cache

from benchmarks.policies.two_policies import Questions, small_policy
from carla_mlflow import Artifact

Start = Callable[..., Server]
VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")


@pytest.fixture(scope="module")
def artifacts() -> list[Artifact]:
    """Four versions of one contract."""
    return [small_policy(version, seed) for seed, version in enumerate(VERSIONS)]


@pytest.fixture(scope="module")
def questions(artifacts) -> Questions:
    return Questions(artifacts)


@pytest.fixture
def policies(tmp_path: Path, artifacts, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds 1.0.0."""
    own_cache(monkeypatch, tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    put(tmp_path / "policies", artifacts[0])
    return tmp_path / "policies"


def held(server: Server) -> list[str]:
    return [each["version"] for each in server.get("/metadata").json["held"]]


def ask(server: Server, questions: Questions, artifact: Artifact | None, path: str = "/predict") -> tuple[int, str]:
    """Sends the header of an episode that a version began; the answer's status, and the version that its header names.

    The actions are those of that version.
    """
    headers = {} if artifact is None else {"X-Episode-Digest": artifact.digest}
    answer = server.post(path, questions.bodies[3], **headers)
    if answer.status == 200:
        assert answer.json["digest"] == answer.headers["x-policy-digest"]
        assert questions.is_right(3, answer.json)
    return answer.status, answer.headers["x-policy-version"]


@pytest.mark.parametrize("flags", [("--workers", "2"), ("--worker-class", "gthread")])
def test_an_episode_ends_with_the_version_that_began_it_and_new_ones_begin_with_the_new(
    start_server: Start, policies: Path, artifacts, questions, flags
):
    server = following_folder(start_server, policies, *flags)
    assert ask(server, questions, artifacts[0]) == (200, "1.0.0")
    assert held(server) == []
    promote(server, policies, artifacts[1])
    assert ask(server, questions, None) == (200, "1.1.0")
    assert ask(server, questions, artifacts[0]) == (200, "1.0.0")
    assert ask(server, questions, artifacts[1]) == (200, "1.1.0")
    assert held(server) == ["1.0.0"]
    described = server.get("/openapi.json").json["paths"]["/metadata"]["get"]["responses"]["200"]["content"]
    schema = described["application/json"]["schema"]["properties"]["held"]["items"]
    assert server.get("/metadata").json["held"][0].keys() == set(schema["required"]) == schema["properties"].keys()
    assert metric(server, "policy_held_versions") == 1
    assert metric(server, "policy_requests_total", version="1.0.0", code="200", route="/predict") >= 2


def test_each_protocol_goes_on_with_the_episode_and_refuses_it_in_its_own_form(
    start_server: Start, policies: Path, artifacts, questions
):
    server = following_folder(start_server, policies, "--episode-hold-s", "3600")
    promote(server, policies, artifacts[1])
    digest, gone = artifacts[0].digest, artifacts[3].digest
    data = [0.5] * 16
    tensor = {"name": "state", "shape": [1, 16], "datatype": "FP32", "data": data}

    def infer(path: str, **parameters: str):
        return server.post(path, {"inputs": [tensor], "parameters": parameters})

    answer = infer("/v2/models/follow-me/infer", episode_digest=digest)
    assert (answer.json["model_version"], answer.json["parameters"]["digest"]) == ("1.0.0", digest)
    assert answer.headers["x-policy-version"] == "1.0.0"
    by_header = server.post("/v2/models/follow-me/infer", {"inputs": [tensor]}, **{"X-Episode-Digest": digest})
    assert by_header.json["outputs"] == answer.json["outputs"]
    scored = server.post("/invocations", {"inputs": [{"state": data}]}, **{"X-Episode-Digest": digest})
    assert scored.headers["x-policy-digest"] == digest

    refused = infer("/v2/models/follow-me/infer", episode_digest=gone)
    assert (refused.status, refused.json["code"]) == (409, "episode_of_another_version")
    assert "begin the episode anew" in refused.json["error"]
    refused = server.post("/invocations", {"inputs": [{"state": data}]}, **{"X-Episode-Digest": gone})
    assert (refused.status, refused.json["error_code"]) == (409, "RESOURCE_CONFLICT")
    refused = server.post("/predict", {"observations": [{"state": data}]}, **{"X-Episode-Digest": gone})
    assert refused.status == 409
    assert refused.json["error"]["code"] == "episode_of_another_version"
    assert refused.json["error"]["field"] == "X-Episode-Digest"
    assert refused.headers["x-policy-version"] == "1.1.0"
    assert metric(server, "policy_requests_total", code="409", route="/predict", version="1.1.0") == 1

    contradicting = server.post(
        "/v2/models/follow-me/infer",
        {"inputs": [tensor], "parameters": {"episode_digest": digest}},
        **{"X-Episode-Digest": artifacts[1].digest},
    )
    assert (contradicting.status, contradicting.json["code"]) == (400, "bad_request")
    assert server.post("/predict", b"{}", **{"X-Episode-Digest": "1.0.0"}).json["error"]["field"] == "X-Episode-Digest"
    assert infer("/v2/models/follow-me/infer", episode_digest="1.0.0").status == 400


def test_of_three_older_versions_the_oldest_is_given_up_at_once(
    start_server: Start, policies: Path, artifacts, questions
):
    server = following_folder(start_server, policies)
    for artifact in artifacts[1:]:
        promote(server, policies, artifact)
    assert held(server) == ["1.2.0", "1.1.0"]
    assert ask(server, questions, artifacts[0])[0] == 409
    assert ask(server, questions, artifacts[1]) == (200, "1.1.0")


def test_a_version_is_given_up_after_its_time(start_server: Start, policies: Path, artifacts, questions):
    server = following_folder(start_server, policies, "--episode-hold-s", "2")
    promote(server, policies, artifacts[1])
    until(lambda: held(server) == [], server)
    assert ask(server, questions, artifacts[0])[0] == 409
    assert ask(server, questions, artifacts[1]) == (200, "1.1.0")
    assert metric(server, "policy_held_versions") == 0


def test_nothing_is_held_where_the_time_is_zero_nor_after_a_restart(
    start_server: Start, policies: Path, artifacts, questions
):
    server = following_folder(start_server, policies)
    promote(server, policies, artifacts[1])
    assert ask(server, questions, artifacts[0]) == (200, "1.0.0")
    server.stop()
    server = following_folder(start_server, policies, "--episode-hold-s", "0")
    assert ask(server, questions, artifacts[0])[0] == 409
    promote(server, policies, artifacts[2])
    assert ask(server, questions, artifacts[1])[0] == 409


def test_what_is_removed_from_the_folder_or_taken_out_of_its_pins_is_not_held(
    start_server: Start, policies: Path, artifacts, questions
):
    for artifact in artifacts[1:]:
        put(policies, artifact)
    pins = {artifact.card.version: artifact.digest for artifact in artifacts}

    def pin(*versions: str) -> None:
        lines = "".join(f"{version} {pins[version]}\n" for version in versions)
        (policies / "PINS.new").write_text(lines)
        (policies / "PINS.new").rename(policies / "PINS")

    pin("1.0.0")
    server = following_folder(start_server, policies)
    pin("1.0.0", "1.1.0", "1.2.0")
    until(lambda: served(server) == {"1.2.0"}, server)
    assert ask(server, questions, artifacts[0]) == (200, "1.0.0")
    pin("1.1.0", "1.2.0")  # 1.0.0 is taken back while it is held
    until(lambda: ask(server, questions, artifacts[0])[0] == 409, server)
    pin("1.1.0", "1.3.0")  # 1.2.0 is taken back as it is replaced
    until(lambda: served(server) == {"1.3.0"}, server)
    until(lambda: ask(server, questions, artifacts[2])[0] == 409, server)
    pin("1.1.0")  # a roll-back
    until(lambda: served(server) == {"1.1.0"}, server)
    assert ask(server, questions, artifacts[3])[0] == 409
    pin("1.1.0", "1.2.0")
    until(lambda: served(server) == {"1.2.0"}, server)
    assert ask(server, questions, artifacts[1]) == (200, "1.1.0")
    shutil.rmtree(policies / "v1.1.0")
    until(lambda: ask(server, questions, artifacts[1])[0] == 409, server)


def test_a_version_that_was_refused_is_not_held(start_server: Start, policies: Path, artifacts, questions):
    server = following_folder(start_server, policies)
    other = of_other_contract(artifacts[1], "1.1.0")
    put(policies, other)
    until(lambda: server.get("/metadata").json["refused"], server)
    assert ask(server, questions, other)[0] == 409
    promote(server, policies, artifacts[2])
    assert ask(server, questions, other)[0] == 409
    assert ask(server, questions, artifacts[0]) == (200, "1.0.0")
