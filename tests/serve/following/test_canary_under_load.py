"""While a canary comes, grows, is rolled back and goes to production, each episode has one version."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from canary_support import is_canary, publish
from following_support import Registry, until
from tests_support import Server

from benchmarks.support.episode_load import EpisodeLoad
from registry.rules.canary import belongs

pytestmark = [pytest.mark.xdist_group("following"), pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings


@pytest.mark.slow
def test_no_episode_is_answered_by_two_versions_and_none_by_one_that_was_rolled_back(
    start_server: Callable[..., Server], registry: Registry
):
    one, two = registry.artifacts
    mine = publish(registry.server.home, one, two)
    server = start_server(*mine.flags, "--workers", "2")
    server.wait_ready()
    port = int(server.url.rpartition(":")[2])

    def serves(version: str) -> bool:
        return server.get("/metadata").json["version"] == version

    with EpisodeLoad(port, registry.questions.bodies[0], cars=8, pause_s=0.02) as load:
        for _ in range(2):
            for share in (20.0, 60.0):
                mine.promote(two, share=share)
                until(lambda: is_canary(two, workers=2), server)
                until(lambda share=share: server.get("/metadata").json["canary"]["share"] == share, server)
                until(load.each_car_is_further(2), server)
            steady = time.monotonic()
            until(load.each_car_is_further(2), server)
            begun = load.record.begun_since(steady)
            assert begun
            assert all(
                (digest == two.digest) == belongs(episode, two.digest, 60.0) for episode, digest in begun.items()
            )
            mine.roll_back()
            until(lambda: is_canary(None, workers=2), server)
            left = time.monotonic()
            until(load.each_car_is_further(2), server)
            assert load.record.last_of(two.digest, left) == left
            mine.promote(two, share=30.0)
            until(lambda: is_canary(two, workers=2), server)
            before = dict(load.record.ended)
            mine.promote(two, "production")
            until(lambda: serves("1.1.0") and is_canary(None, workers=2), server)
            until(load.each_car_is_further(2), server)
            assert load.record.ended == before  # a promotion ends no episode
            mine.roll_back("production")
            until(lambda: serves("1.0.0"), server)
            until(load.each_car_is_further(2), server)
    assert load.record.failed == []
    assert load.record.ended.keys() == {"episode_of_another_version"}
    assert {len(digests) for digests in load.record.digests().values()} == {1}
    assert {digest for *_, digest in load.record.answers} == {one.digest, two.digest}
