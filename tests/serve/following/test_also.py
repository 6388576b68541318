"""Several versions at once: each is reachable by its version, what is followed is the default."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from following_support import Registry, metric, served, until
from tests_support import Server, run_command

from benchmarks.policies.two_policies import NAME
from serve.flags import settings_from_environment
from serve.settings import Settings

pytestmark = [pytest.mark.xdist_group("following"), pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings


def test_a_version_beside_the_default_is_asked_by_name(start_server: Callable[..., Server], registry: Registry):
    registry.point("main", "1")
    registry.point("beside", "2")
    also = f"{NAME}@1.0.0,{NAME}@beside"
    server = start_server("--model", f"{NAME}@main", "--also", also, "--poll-s", "0.5")
    server.wait_ready()
    until(lambda: served(server) == {"1.0.0", "1.1.0"}, server)
    for version in ("1.0.0", "1.1.0"):
        answer = server.post(f"/predict?version={version}", registry.questions.bodies[1])
        assert (answer.json["version"], answer.headers["x-policy-version"]) == (version, version)
        assert registry.questions.is_right(1, answer.json)
    assert server.post("/predict", registry.questions.bodies[0]).json["version"] == "1.0.0"
    assert [v["following"] for v in server.get("/metadata").json["served"]] == [f"{NAME}@main", *also.split(",")]
    assert metric(server, "policy_actions_total", version="1.1.0") == 2
    unknown = server.post("/predict?version=7.0.0", registry.questions.bodies[0])
    assert unknown.status == 404
    assert unknown.json["error"]["code"] == "version_not_found"
    assert unknown.json["error"]["message"] == "this version is not served here; served: 1.0.0, 1.1.0"
    # Both move: the default to what lies beside it already, the other one away.
    registry.point("main", "2")
    registry.point("beside", "1")
    until(lambda: server.post("/predict", registry.questions.bodies[0]).json["version"] == "1.1.0", server)
    until(lambda: [v["version"] for v in server.get("/metadata").json["served"]] == ["1.1.0", "1.0.0", "1.0.0"], server)
    until(lambda: server.get("/readyz").json["warnings"] == [], server)


def test_a_server_is_ready_when_the_versions_beside_the_default_are(
    start_server: Callable[..., Server], registry: Registry
):
    registry.point("main", "1")
    server = start_server("--model", f"{NAME}@main", "--also", f"{NAME}@1.1.0", "--poll-s", "0.5")
    body, found = registry.questions.bodies[1], Counter[tuple[int, int]]()
    server.wait_alive()
    while not found[200, 200]:
        ready = server.get("/readyz").status
        found[ready, server.post("/predict?version=1.1.0", body).status] += 1
    assert found[200, 404] + found[200, 503] == 0
    assert found[503, 404] == 0  # what is still being loaded is no unknown version
    assert found[503, 503] > 0


def test_what_is_missing_beside_the_default_is_a_warning(start_server: Callable[..., Server], registry: Registry):
    registry.point("main", "1")
    server = start_server("--model", f"{NAME}@main", "--also", f"{NAME}@6.6.6", "--poll-s", "0.5")
    server.wait_ready()
    missing = [f"{NAME}@6.6.6: the registry has no {NAME}@6.6.6"]
    until(lambda: server.get("/readyz").json["warnings"] == missing, server)
    assert server.post("/predict?version=6.6.6", registry.questions.bodies[0]).status == 404


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--model", "a@production", "--also", "b@1.0.0"], "also: b is another policy than a"),
        (["--model", "a@production", "--also", "1.0.0"], "also: '1.0.0' is neither"),
        (["--model", "./folder", "--also", "a@1.0.0"], "also: needs a --model in the registry"),
        (["--model", "examples/v9"], "model: 'examples/v9' is neither a folder nor a reference"),
        (["--model", "mine"], "model: 'mine' is neither a folder nor a reference"),
    ],
)
def test_a_model_that_can_not_be_is_a_usage_error(flags: list[str], complaint: str):
    done = run_command("carla-serve", *flags)
    assert done.code == 2
    assert complaint in done.err


def test_a_range_with_a_comma_is_one_reference():
    settings = Settings(model="a@production", also="a@>=1.2,<2, a@1.0.0,a/7")
    assert settings.references == ("a@production", "a@>=1.2,<2", "a@1.0.0", "a/7")
    assert settings.problems() == []
    assert settings_from_environment(settings.to_environment()) == settings
