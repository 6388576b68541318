"""A server that follows a canary beside production: which episodes it answers, and what refuses or ends it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import mlflow
import pytest
from canary_support import Mine, begins, goes_on, is_canary, publish
from following_support import Registry, again, metric, of_other_contract, until
from tests_support import Server, run_command

from benchmarks.support.encoding import rows_of
from carla_mlflow import Artifact, PolicyClient
from registry.rules.canary import belongs

pytestmark = [pytest.mark.xdist_group("following"), pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings
Start = Callable[..., Server]
EPISODES = [f"route-{number}" for number in range(60)]


@pytest.fixture
def mine(registry: Registry) -> Mine:
    return publish(registry.server.home, *registry.artifacts, again(registry.artifacts[1], "1.2.0"))


@pytest.fixture
def body(registry: Registry) -> bytes:
    return registry.questions.bodies[0]


def canary(server: Server) -> dict[str, object] | None:
    return server.get("/metadata").json["canary"]


def an_episode(digest: str, share: float, is_canary: bool = True) -> str:
    """One that begins with the canary, or does not."""
    return next(episode for episode in EPISODES if belongs(episode, digest, share) is is_canary)


def test_every_worker_and_replica_begins_the_same_episodes_with_the_canary(
    start_server: Start, mine: Mine, body: bytes
):
    one, two, _ = mine.artifacts
    mine.promote(two, share=40.0)
    servers = [start_server(*mine.flags, "--workers", "2"), start_server(*mine.flags, "--worker-class", "gthread")]
    for server in servers:
        server.wait_ready()
    until(lambda: is_canary(two, workers=3), servers[0])
    expected = {e: "1.1.0" if belongs(e, two.digest, 40.0) else "1.0.0" for e in EPISODES}
    assert set(expected.values()) == {"1.0.0", "1.1.0"}
    for server in servers:
        assert {episode: begins(server, body, episode) for episode in EPISODES} == expected
        assert server.post("/predict", body).headers["x-policy-version"] == "1.0.0"
        theirs = an_episode(two.digest, 40.0)
        assert server.post("/predict?version=1.0.0", body, **{"X-Episode-Id": theirs}).json["version"] == "1.0.0"
        assert goes_on(server, body, theirs, one) == "1.0.0"
        assert goes_on(server, body, an_episode(two.digest, 40.0, is_canary=False), two) == "1.1.0"


def test_an_episode_that_a_body_names_begins_with_the_canary_too(start_server: Start, mine: Mine, registry: Registry):
    one, two, _ = mine.artifacts
    mine.promote(two, share=40.0)
    server = start_server(*mine.flags)
    server.wait_ready()
    until(lambda: is_canary(two), server)
    values = {spec.name: spec.generate_value()[None] for spec in one.card.observation_spec}
    inputs = [
        {"name": name, "datatype": "FP32", "shape": value.shape, "data": value.tolist()}
        for name, value in values.items()
    ]
    for is_theirs, version in ((True, "1.1.0"), (False, "1.0.0")):
        parameters = {"episode_id": an_episode(two.digest, 40.0, is_theirs)}
        answer = server.post(f"/v2/models/{one.card.name}/infer", {"inputs": inputs, "parameters": parameters})
        assert answer.status == 200, answer.body
        assert answer.headers["x-policy-version"] == answer.json["model_version"] == version
    assert canary(server)["share"] == 40.0
    assert metric(server, "policy_canary_share", version="1.1.0") == 40.0
    assert metric(server, "policy_actions_total", version="1.1.0") == 1


def test_a_larger_share_keeps_its_episodes_and_a_rollback_ends_them(start_server: Start, mine: Mine, body: bytes):
    _, two, _ = mine.artifacts
    server = start_server(*mine.flags)
    server.wait_ready()
    assert canary(server) is None
    assert server.get("/readyz").json["warnings"] == []
    mine.promote(two, share=20.0)
    until(lambda: is_canary(two), server)
    first = {episode for episode in EPISODES if begins(server, body, episode) == "1.1.0"}
    mine.promote(two, share=60.0)
    until(lambda: canary(server)["share"] == 60.0, server)
    assert first < {episode for episode in EPISODES if begins(server, body, episode) == "1.1.0"}
    mine.promote(two, share=0.0)
    until(lambda: canary(server)["share"] == 0.0, server)
    assert {begins(server, body, episode) for episode in EPISODES} == {"1.0.0"}
    assert goes_on(server, body, min(first), two) == "1.1.0"
    mine.roll_back()
    until(lambda: is_canary(None), server)
    assert goes_on(server, body, min(first), two) == 409
    assert canary(server) is None
    assert metric(server, "policy_canary_share") is None


def test_a_canary_that_goes_to_production_goes_on_with_its_episodes_and_the_champion_with_its_own(
    start_server: Start, mine: Mine, body: bytes
):
    one, two, three = mine.artifacts
    mine.promote(two, share=50.0)
    server = start_server(*mine.flags, "--workers", "2")
    server.wait_ready()
    until(lambda: is_canary(two, workers=2), server)
    mine.promote(two, "production")
    until(lambda: server.get("/metadata").json["version"] == "1.1.0" and is_canary(None, workers=2), server)
    assert goes_on(server, body, EPISODES[0], two) == "1.1.0"
    assert goes_on(server, body, EPISODES[0], one) == "1.0.0"
    mine.promote(three, share=50.0)
    until(lambda: is_canary(three, workers=2), server)
    mine.roll_back("production")
    until(lambda: server.get("/metadata").json["version"] == "1.0.0", server)
    until(lambda: goes_on(server, body, EPISODES[0], two) == 409, server)
    assert goes_on(server, body, EPISODES[0], three) == "1.2.0"


def test_an_alias_set_in_the_ui_counts_as_no_episode_until_it_is_promoted(start_server: Start, mine: Mine, body: bytes):
    _, two, _ = mine.artifacts
    server = start_server(*mine.flags)
    server.wait_ready()
    mine.point(two)
    until(lambda: canary(server) is not None, server)
    text = "has no share (the model's tag canary_share), which counts as 0 %"
    assert (canary(server)["state"], canary(server)["reason"]) == ("idle", text)
    assert server.get("/readyz").json["warnings"] == [f"{mine.name}@canary: 1.1.0 {text}"]
    mine.set_share("90")
    until(lambda: canary(server)["state"] == "refused", server)
    assert "nobody promoted it to canary with carla-registry" in canary(server)["reason"]
    assert metric(server, "policy_refusals_total", reason="gates") == 1
    assert metric(server, "policy_canary_share", version="1.1.0") == 0
    assert {begins(server, body, episode) for episode in EPISODES} == {"1.0.0"}
    mine.promote(two, share=10.0)
    until(lambda: is_canary(two), server)
    until(lambda: server.get("/readyz").json["warnings"] == [], server)


def test_a_canary_that_does_not_fit_is_refused_and_production_goes_on(
    start_server: Start, registry: Registry, body: bytes
):
    one, two = registry.artifacts
    other = of_other_contract(one, "2.0.0")
    mine = publish(registry.server.home, one, two, other, damaged=again(two, "1.3.0"))
    server = start_server(*mine.flags)
    server.wait_ready()
    mine.promote(other, share=50.0)
    until(lambda: canary(server) is not None and canary(server)["state"] == "refused", server)
    assert "has another contract" in canary(server)["reason"]
    mine.promote(mine.artifacts[-1], share=50.0)
    until(lambda: (canary(server) or {}).get("version") == "1.3.0" and canary(server)["state"] == "refused", server)
    assert "digest" in canary(server)["reason"]
    assert metric(server, "policy_refusals_total", reason="integrity") > 0
    assert {begins(server, body, episode) for episode in EPISODES} == {"1.0.0"}
    mine.promote(two, share=50.0)
    until(lambda: is_canary(two), server)


def test_episodes_with_memory_go_on_with_the_version_that_made_their_state(
    start_server: Start, registry: Registry, remembering: Artifact
):
    one, two = again(remembering, "1.0.0"), again(remembering, "1.1.0")
    mine = publish(registry.server.home, one, two)
    mine.promote(two, share=50.0)
    server = start_server(*mine.flags)
    server.wait_ready()
    until(lambda: is_canary(two), server)
    [row] = rows_of({spec.name: spec.generate_value()[None] for spec in one.card.observation_spec})
    theirs, others = (an_episode(two.digest, 50.0, is_theirs) for is_theirs in (True, False))

    def step(episode: str, state: str | None = None) -> tuple[str, str]:
        given = row | ({"state": state} if state else {})
        answer = server.post("/predict", {"observations": [given]}, **{"X-Episode-Id": episode})
        assert answer.status == 200, answer.body
        return answer.json["version"], answer.json["actions"][0]["state"]

    assert (step(theirs)[0], step(others)[0]) == ("1.1.0", "1.0.0")
    state = step(theirs)[1]
    assert step(others, state)[0] == "1.1.0"  # the state says it, not the id
    mine.promote(two, share=0.0)
    until(lambda: canary(server)["share"] == 0.0, server)
    assert step(theirs, state)[0] == "1.1.0"
    assert step(theirs, step(others)[1])[0] == "1.0.0"
    mine.roll_back()
    until(lambda: is_canary(None), server)
    refused = server.post("/predict", {"observations": [row | {"state": state}]}, **{"X-Episode-Id": theirs})
    assert (refused.status, refused.json["error"]["code"]) == (409, "state_of_another_version")


def test_the_clients_episode_stays_with_its_version_and_begins_anew_after_a_rollback(start_server: Start, mine: Mine):
    one, two, _ = mine.artifacts
    mine.promote(two, share=50.0)
    server = start_server(*mine.flags)
    server.wait_ready()
    until(lambda: is_canary(two), server)
    [row] = [{spec.name: spec.generate_value() for spec in one.card.observation_spec}]
    with PolicyClient(server.url) as policy:
        episode = policy.start_episode(an_episode(two.digest, 50.0))
        episode.act(row)
        mine.promote(two, share=0.0)
        until(lambda: canary(server)["share"] == 0.0, server)
        episode.act(row)
        assert (episode.digest, dict(episode.restarts)) == (two.digest, {})
        mine.roll_back()
        until(lambda: is_canary(None), server)
        episode.act(row)
        assert (episode.digest, dict(episode.restarts)) == (one.digest, {"episode_of_another_version": 1})


def shown(artifact: Artifact) -> str:
    """A digest as the page has it."""
    return artifact.digest.removeprefix("sha256:")[:12]


@pytest.mark.browser
@pytest.mark.slow
def test_the_status_page_shows_both_side_by_side(start_server: Start, mine: Mine, body: bytes):
    from mlflow_ui import open_browser
    from playwright.sync_api import expect

    one, two, _ = mine.artifacts
    server = start_server(*mine.flags)
    server.wait_ready()
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("TMPDIR", "/tmp")  # the browser's socket has a path of at most 107 bytes
            page = stack.enter_context(open_browser()).new_page()
        page.goto(server.url)
        expect(page.locator("#title")).to_contain_text("1.0.0")
        expect(page.locator("#beside")).to_be_hidden()
        mine.promote(two, share=40.0)
        until(lambda: is_canary(two), server)
        for episode in EPISODES:
            begins(server, body, episode)
        theirs = sum(belongs(episode, two.digest, 40.0) for episode in EPISODES)
        rows = page.locator("#canary tr")
        expect(rows.nth(1)).to_have_text("version1.0.01.1.0")
        expect(rows.nth(2)).to_have_text(f"digest{shown(one)}Copy{shown(two)}Copy")
        expect(rows.nth(3)).to_contain_text("60 % of the episodes, and all that is no episode40 % of the episodes")
        expect(rows.nth(4)).to_have_text(f"requests{len(EPISODES) - theirs}{theirs}")
        mine.roll_back()
        expect(page.locator("#beside")).to_be_hidden()


def test_a_server_without_the_flag_follows_no_canary(start_server: Start, mine: Mine, body: bytes):
    _, two, _ = mine.artifacts
    mine.promote(two, share=100.0)
    server = start_server("--model", f"{mine.name}@production", "--poll-s", "0.5")
    server.wait_ready()
    assert {begins(server, body, episode) for episode in EPISODES} == {"1.0.0"}
    assert canary(server) is None


def test_a_canary_goes_on_while_the_registry_is_silent_and_none_begins_without_its_word(
    start_server: Start, mine: Mine, registry: Registry, body: bytes
):
    _, two, _ = mine.artifacts
    mine.promote(two, share=50.0)
    server = start_server(*mine.flags)
    server.wait_ready()
    until(lambda: is_canary(two), server)
    registry.server.kill()
    until(lambda: server.get("/metadata").json["registry"] == "unreachable", server)
    theirs = an_episode(two.digest, 50.0)
    assert begins(server, body, theirs) == "1.1.0"
    server.stop()
    server = start_server(*mine.flags)
    server.wait_ready()
    assert begins(server, body, theirs) == "1.0.0"
    registry.server.revive()
    mlflow.set_tracking_uri(None)
    until(lambda: is_canary(two), server)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--model", "mine@1.0.0", "--canary"], "canary: answers beside a version in production"),
        (["--model", "mine@staging", "--canary"], "needs --model NAME@production"),
        (["--model", "folder/@^1", "--canary"], "needs --model NAME@production"),
        (["--model", "mine@production", "--canary", "--digest", "sha256:" + "0" * 64], "lets one artifact alone"),
    ],
)
def test_a_canary_beside_anything_but_production_is_a_usage_error(flags: list[str], complaint: str):
    done = run_command("carla-serve", *flags)
    assert (done.code, complaint in done.err) == (2, True), done.err


def test_the_flag_can_be_a_variable():
    done = run_command("carla-serve", "--model", "mine@staging", env={"POLICY_CANARY": "true"})
    assert (done.code, "canary: answers beside" in done.err) == (2, True)
    done = run_command("carla-serve", "--model", "mine@production", env={"POLICY_CANARY": "maybe"})
    assert (done.code, "POLICY_CANARY='maybe': expected true or false" in done.err) == (2, True)
