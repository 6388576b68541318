"""The follower's loop, step by step: what several references share, and what nobody wants any more."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from following_support import Registry, out_of_parity, until_true
from registry_proxy import RegistryProxy

from benchmarks.failures.dripping import DrippingRegistry
from benchmarks.policies.two_policies import NAME
from registry.store.cache import default_cache, partial_folders
from serve.following.follower import Follower
from serve.following.last_served import remember
from serve.run_folder import Followed
from serve.settings import Settings

pytestmark = [pytest.mark.xdist_group("following"), pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings

_aliases = (f"followed-{number}" for number in itertools.count())


@pytest.fixture
def aliases(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two of this test's own, held by 1.0.0 and 1.1.0."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    first, second = next(_aliases), next(_aliases)
    registry.point(first, "1")
    registry.point(second, "2")
    return first, second


def follower_of(folder: Path, *aliases: str, fetch_timeout_s: float = 30.0) -> Follower:
    first, *also = (f"{NAME}@{alias}" for alias in aliases)
    settings = Settings(model=first, also=",".join(also), device="cpu", fetch_timeout_s=fetch_timeout_s)
    (folder / "run").mkdir()
    return Follower(settings, folder / "run" / "follow.json")


def look_until(follower: Follower, happened: Callable[[Followed], object]) -> Followed:
    """Looks again and again; the registry answers each time."""
    seen: list[Followed] = []

    def is_so() -> bool:
        seen.append(follower.poll())
        assert seen[-1].registry == "ok"
        return bool(happened(seen[-1]))

    until_true(is_so)
    return seen[-1]


def all_here(followed: Followed) -> bool:
    return all(answer.path and answer.digest == answer.wanted for answer in followed.answers)


def test_files_that_can_not_be_had_are_no_outage_of_the_registry(registry, aliases, tmp_path, monkeypatch):
    first, second = aliases
    registry.point(second, "1")
    with RegistryProxy(registry.server.uri) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        follower = follower_of(tmp_path, first, second)
        look_until(follower, all_here)
        proxy.mood = "no-files"
        registry.point(first, "2")
        followed = look_until(follower, lambda followed: followed.refused)
        assert [(refused.version, refused.kind) for refused in followed.refused] == [("1.1.0", "other")]
        assert followed.refused[0].reason == "it could not be fetched and tried: no answer"
        assert [answer.version for answer in followed.answers] == ["1.0.0", "1.0.0"]
        assert [answer.warning for answer in followed.answers] == [None, None]
        assert follower._arrivals.get(registry.artifacts[1].digest) is None  # it waits before it tries again
        registry.point(second, "2")
        registry.point(first, "1")
        followed = look_until(follower, lambda followed: followed.answers[1].wanted == registry.artifacts[1].digest)
        assert followed.answers[0].wanted == registry.artifacts[0].digest
        proxy.mood = "pass"
        assert not look_until(follower, all_here).refused


def test_a_reference_that_gets_no_answer_keeps_no_other_from_its_own(registry, aliases, tmp_path, monkeypatch):
    with RegistryProxy(registry.server.uri) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        follower = follower_of(tmp_path, *aliases)
        look_until(follower, all_here)
        proxy.silent_about = aliases[0]
        registry.point(aliases[1], "1")
        followed = follower.poll()
        assert followed.registry == "unreachable"
        assert "does not answer; serving the last verified version" in followed.answers[0].warning
        assert (followed.answers[1].version, followed.answers[1].warning) == ("1.0.0", None)


def test_what_one_reference_has_the_others_have_at_once(registry, aliases, tmp_path):
    first, second = aliases
    registry.point(second, "1")
    follower = follower_of(tmp_path, first, second)
    look_until(follower, lambda followed: any(answer.path for answer in followed.answers))
    assert all_here(follower.poll())  # both of one arrival
    registry.point(second, "2")
    look_until(follower, all_here)
    registry.point(first, "2")
    assert all_here(follower.poll())  # nothing is fetched or tried again


def test_every_reference_on_a_version_that_is_refused_has_the_reason(registry, aliases, tmp_path):
    number = registry.publish(out_of_parity(registry.artifacts[0], "9.7.0"))
    for alias in aliases:
        registry.point(alias, number)
    follower = follower_of(tmp_path, *aliases)
    look_until(follower, lambda followed: followed.refused)
    followed = follower.poll()
    assert [answer.reason for answer in followed.answers] == [followed.refused[0].reason] * 2


def test_what_nobody_wants_any_more_is_forgotten_when_it_is_silent_or_here(registry, aliases, tmp_path, monkeypatch):
    alias, digest = aliases[0], registry.artifacts[1].digest
    with DrippingRegistry(registry.server.uri) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        follower = follower_of(tmp_path, alias, fetch_timeout_s=1.0)
        look_until(follower, all_here)
        proxy.drips = "/"
        registry.point(alias, "2")
        look_until(follower, lambda _: proxy.dripped and partial_folders(default_cache(), digest))
        registry.point(alias, "1")
        look_until(follower, lambda _: follower._arrivals.get(digest) is None)
        until_true(lambda: partial_folders(default_cache(), digest) == [])
        proxy.drips = None
        registry.point(alias, "2")
        look_until(follower, lambda _: follower._arrivals.get(digest))
        registry.point(alias, "1")
        until_true(lambda: follower._arrivals.get(digest).outcome)
        follower.poll()
        assert follower._arrivals.get(digest) is None


def said(caplog: pytest.LogCaptureFixture, level: str = "WARNING") -> list[str]:
    """What was logged so since it was asked last."""
    found = [record.getMessage() for record in caplog.records if record.levelname == level]
    caplog.clear()
    return found


def test_an_outage_is_said_once_however_often_one_looks_and_the_next_one_again(
    registry, aliases, tmp_path, monkeypatch, caplog
):
    with RegistryProxy(registry.server.uri) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        follower = follower_of(tmp_path, *aliases)
        look_until(follower, all_here)
        said(caplog)
        for _outage in range(2):
            proxy.mood = "500"
            looks = [follower.poll() for _ in range(4)]
            assert [followed.registry for followed in looks] == ["unreachable"] * 4
            [line] = said(caplog)
            assert line.startswith(f"{NAME}@{aliases[0]}: ")
            proxy.mood = "pass"
            assert follower.poll().registry == "ok"
            assert said(caplog) == []


def test_a_reference_that_the_registry_no_longer_knows_is_said_once_a_change_in_a_line_without_versions(
    registry, aliases, tmp_path, caplog
):
    alias = aliases[0]
    follower = follower_of(tmp_path, *aliases)
    look_until(follower, all_here)
    said(caplog)
    for _change in range(2):
        mlflow.MlflowClient().delete_registered_model_alias(NAME, alias)
        looks = [follower.poll() for _ in range(4)]
        assert said(caplog) == [f"{NAME}@{alias}: the registry no longer knows it"]
        assert {followed.answers[0].version for followed in looks} == {"1.0.0"}
        registry.point(alias, "1")
        assert follower.poll().answers[0].warning is None
        assert said(caplog) == []


def test_a_damaged_copy_that_an_outage_keeps_from_being_fetched_again_is_said_once(
    registry, aliases, tmp_path, monkeypatch, caplog
):
    with RegistryProxy(registry.server.uri) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        before = follower_of(tmp_path, aliases[0])
        [answer] = look_until(before, all_here).answers
        remember(Settings(model=NAME), f"{NAME}@{aliases[0]}", answer)
        (Path(answer.path) / "model.onnx").write_bytes(b"damaged")
        proxy.mood = "500"
        (tmp_path / "next").mkdir()
        follower = follower_of(tmp_path / "next", aliases[0])
        assert [follower.poll().answers[0].path for _ in range(4)] == [None] * 4
        [line] = said(caplog, "ERROR")
        assert ": the cached copy can't be used: model.onnx" in line
        proxy.mood = "pass"
        look_until(follower, all_here)
