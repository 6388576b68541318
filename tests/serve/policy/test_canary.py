"""The slot's canary: which episodes begin with it, whom it answers, and what it leaves."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.policies.two_policies import small_policy, write
from registry.rules.canary import belongs
from serve.errors import ApiError
from serve.policy.canary import Canary
from serve.policy.held import HeldVersion
from serve.policy.loading import load
from serve.policy.selection import ACTIVE, Selection, find_serving
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.run_folder import Followed, Status
from serve.settings import Settings
from serve.telemetry.version_names import VersionNames

EPISODES = [f"route-{number}" for number in range(400)]


@pytest.fixture(scope="module")
def servings(tmp_path_factory: pytest.TempPathFactory) -> list[Serving]:
    folder = tmp_path_factory.mktemp("policies")
    loaded = [load(write(small_policy(f"1.{n}.0", n), folder), None, Settings(), folder) for n in range(3)]
    assert all(isinstance(each, Serving) for each in loaded)
    return loaded


@pytest.fixture
def slot(servings: list[Serving], tmp_path: Path) -> Slot:
    """1.0.0 in production, and 1.1.0 with 30 % of the episodes."""
    slot = Slot(tmp_path, ("mine@production",))
    slot.serve(0, servings[0], None)
    slot.put_canary(Canary(servings[1], 30.0, is_active=True))
    slot.ready = True
    return slot


def begun_with(slot: Slot) -> set[str]:
    """The episodes that begin with the canary."""
    assert slot.canary is not None
    found = {episode: find_serving(slot, Selection(episode_id=episode)) for episode in EPISODES}
    return {episode for episode, serving in found.items() if serving.digest == slot.canary.serving.digest}


def test_the_episodes_of_its_share_begin_with_it_and_all_else_with_the_active_version(slot, servings):
    digest = servings[1].digest
    assert begun_with(slot) == {episode for episode in EPISODES if belongs(episode, digest, 30.0)}
    assert find_serving(slot, ACTIVE).digest == servings[0].digest
    assert find_serving(slot, Selection("1.0.0", episode_id=EPISODES[0])).digest == servings[0].digest


@pytest.mark.parametrize(("share", "is_active"), [(0.0, True), (30.0, False)])
def test_none_begins_with_it_while_it_has_no_share_or_not_every_worker_has_it(slot, servings, share, is_active):
    slot.put_canary(Canary(servings[1], share, is_active))
    assert begun_with(slot) == set()
    assert find_serving(slot, Selection(digest=servings[1].digest)).digest == servings[1].digest  # began elsewhere


def test_an_episode_goes_on_with_the_version_that_began_it_whatever_the_share(slot, servings):
    for share in (0.0, 100.0):
        slot.put_canary(Canary(servings[1], share, is_active=True))
        for each in servings[:2]:
            assert find_serving(slot, Selection(digest=each.digest, episode_id="route-1")).digest == each.digest


def test_it_is_not_asked_by_its_version_except_for_an_episode_of_it(slot, servings):
    with pytest.raises(ApiError) as told:
        find_serving(slot, Selection("1.1.0"))
    assert told.value.code == "version_not_found"
    assert find_serving(slot, Selection("1.1.0", digest=servings[1].digest)).version == "1.1.0"


def test_a_canary_that_ended_answers_nothing(slot, servings):
    slot.put_canary(None)
    with pytest.raises(ApiError) as told:
        find_serving(slot, Selection(digest=servings[1].digest))
    assert (told.value.code, told.value.status) == ("episode_of_another_version", 409)
    assert [each.version for each in slot.every] == ["1.0.0"]


def test_a_canary_that_another_one_replaced_ends_its_episodes(slot, servings):
    before = HeldVersion(servings[1], time.monotonic() + 60, time.time() + 60)
    slot.put_canary(Canary(servings[2], 30.0, is_active=True), before)
    assert begun_with(slot) == {episode for episode in EPISODES if belongs(episode, servings[2].digest, 30.0)}
    assert find_serving(slot, Selection(digest=servings[1].digest)).version == "1.1.0"


def test_a_canary_that_becomes_active_is_found_throughout(slot, servings):
    slot.prepare(0, servings[1])
    slot.put_canary(None)
    assert find_serving(slot, Selection(digest=servings[1].digest)).version == "1.1.0"
    slot.serve(0, servings[1], "production")
    assert find_serving(slot, Selection(digest=servings[1].digest)).version == "1.1.0"


def of_version(serving: Serving, version: str) -> Serving:
    """A stand-in under another version, which answers nothing."""
    card = SimpleNamespace(version=version)
    return dataclasses.replace(serving, engine=SimpleNamespace(card=card, digest=f"sha256:{version}"))


@pytest.mark.parametrize("also", [0, 1, 4])
def test_however_many_canaries_there_were_the_active_version_and_the_canary_have_names(
    servings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, also: int
):
    names = VersionNames("TEST_NO_FOLDER")
    monkeypatch.setattr("serve.policy.slot.VERSIONS", names)
    slot = Slot(tmp_path, ("mine@production", *(f"other@{number}" for number in range(also))))
    slot.serve(0, servings[0], None)
    for number in range(6):
        version = f"2.{number}.0"
        slot.put_canary(Canary(of_version(servings[1], version), 5.0, is_active=True))
        for index in range(1, also + 1):
            slot.serve(index, of_version(servings[2], f"3.{number}.{index}"), None)
        assert {"1.0.0", version} < names.shown()
        slot.put_canary(None)


def test_a_worker_is_ready_once_the_canary_is_loaded_refused_or_none(servings, tmp_path: Path):
    digest = servings[1].digest
    for followed, refused, is_ready in (
        (Followed((Status(),)), set(), True),
        (Followed((Status(),), canary=Status()), set(), True),
        (Followed((Status(),), canary=Status(wanted=digest)), set(), False),
        (Followed((Status(),), canary=Status(wanted=digest)), {digest}, True),
        (Followed((Status(),), canary=Status(wanted=digest, reason="is archived")), set(), True),
    ):
        slot = Slot(tmp_path, ("mine@production",))
        slot.serve(0, servings[0], None)
        slot.followed = followed
        assert slot._has_everything(refused) == is_ready
