"""The slot's held versions: which they are, whom they answer, and that their memory is given back."""

from __future__ import annotations

import gc
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from benchmarks.policies.two_policies import small_policy, write
from serve.errors import ApiError
from serve.policy.held import MAX_HELD, HeldVersion
from serve.policy.loading import load
from serve.policy.selection import ACTIVE, Selection, find_serving
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.settings import Settings


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [write(small_policy(f"1.{n}.0", n), tmp_path_factory.mktemp("policy")) for n in range(4)]


def serving(folder: Path, tmp_path: Path) -> Serving:
    loaded = load(folder, None, Settings(), tmp_path)
    assert isinstance(loaded, Serving), loaded
    return loaded


@pytest.fixture(scope="module")
def servings(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Serving]:
    """Loaded once, as no test changes them; whose memory is to be given back is loaded by its own test."""
    return [serving(folder, tmp_path_factory.mktemp("run")) for folder in folders]


def promote(slot: Slot, new: Serving) -> None:
    now = slot.serving
    slot.serve(0, new, None, None if now is None else HeldVersion(now, time.monotonic() + 60, time.time() + 60))


def test_at_most_two_versions_are_held_and_a_given_up_engine_is_freed_at_once(folders, tmp_path: Path):
    slot = Slot(tmp_path)
    engines = []
    gc.collect()
    gc.disable()  # what is freed is freed without the collector, which a busy worker runs late
    try:
        for folder in folders:
            loaded = serving(folder, tmp_path)
            engines.append(weakref.ref(loaded.engine))
            promote(slot, loaded)
            del loaded
        assert [each.serving.version for each in slot.held[0]] == ["1.2.0", "1.1.0"]
        assert len(slot.every) == 1 + MAX_HELD
        assert [engine() is None for engine in engines] == [True, False, False, False]
        slot.hold(0, ())
        assert [engine() is None for engine in engines] == [True, True, True, False]
    finally:
        gc.enable()


def test_a_version_that_is_served_again_is_held_no_longer(servings: list[Serving], tmp_path: Path):
    slot = Slot(tmp_path)
    one, two, *_ = servings
    promote(slot, one)
    promote(slot, two)
    slot.serve(0, one, None)  # a roll-back
    assert (slot.held, [each.version for each in slot.every]) == (((),), ["1.0.0"])


class Between:
    """Calls something before each instruction of the slot's own functions, as another thread could."""

    def __init__(self, between: Callable[[int], None]) -> None:
        self.between, self.count = between, 0

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != sys.modules[Slot.__module__].__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.count += 1
            sys.settrace(None)
            self.between(self.count)
            sys.settrace(self._trace)
        return self._trace

    def run(self, call: Callable[[], Any]) -> Any:
        """The result of a call."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return call()
        finally:
            sys.settrace(before)


def moves(servings: list[Serving], tmp_path: Path) -> dict[str, tuple[Callable[[], Slot], Callable[[Slot], None], str]]:
    """How a slot begins, what moves a version within it, and that version's digest."""
    one, two, *_ = servings

    def with_coming() -> Slot:
        slot = Slot(tmp_path)
        slot.serve(0, one, None)
        slot.prepare(0, two)
        return slot

    def with_held() -> Slot:
        slot = with_coming()
        promote(slot, two)
        return slot

    return {
        "coming to active": (with_coming, lambda slot: promote(slot, two), two.digest),
        "active to held": (with_coming, lambda slot: promote(slot, two), one.digest),
        "held to active": (with_held, lambda slot: slot.serve(0, one, None), one.digest),
    }


def test_a_version_that_moves_within_the_slot_is_found_at_every_moment(servings: list[Serving], tmp_path: Path):
    for name, (begin, move, digest) in moves(servings, tmp_path).items():
        slot = begin()
        missed: list[int] = []
        during = Between(lambda n, s=slot, d=digest, m=missed: None if s.of_episode(d, None) else m.append(n))
        during.run(lambda s=slot, mv=move: mv(s))
        assert (during.count > 20, missed) == (True, []), name


def test_who_looks_for_an_episode_finds_it_whenever_its_version_moves_meanwhile(
    servings: list[Serving], tmp_path: Path
):
    for name, (begin, move, digest) in moves(servings, tmp_path).items():
        at, last = 1, 1
        while at <= last:
            slot = begin()
            reading = Between(lambda n, s=slot, mv=move, at=at: mv(s) if n == at else None)
            found = reading.run(lambda s=slot, d=digest: s.of_episode(d, None))
            assert found is not None, (name, at)
            at, last = at + 1, reading.count
        assert last > 20


def test_an_episode_is_answered_by_what_is_active_coming_or_held(servings: list[Serving], tmp_path: Path):
    slot = Slot(tmp_path, ("a@production", "a@^1"))
    one, two, three, beside = servings
    promote(slot, one)
    slot.serve(1, beside, None)
    promote(slot, two)
    slot.prepare(0, three)
    slot.ready = True
    for each in (one, two, three):
        assert find_serving(slot, Selection(digest=each.digest)).digest == each.digest
    assert find_serving(slot, ACTIVE).digest == two.digest
    assert find_serving(slot, Selection(beside.version, digest=beside.digest)).digest == beside.digest
    for asked in (
        Selection(digest=beside.digest),  # it is not what answers by default, nor was it
        Selection("1.1.0", digest=one.digest),
        Selection(name=one.card.name, digest="sha256:" + "0" * 64),
    ):
        with pytest.raises(ApiError, match="begin the episode anew") as told:
            find_serving(slot, asked)
        assert (told.value.code, told.value.status) == ("episode_of_another_version", 409)
    with pytest.raises(ApiError) as told:
        find_serving(slot, Selection(name="other", digest=one.digest))
    assert told.value.code == "version_not_found"
    with pytest.raises(ApiError) as told:
        find_serving(slot, Selection(one.version))  # without the digest of an episode a held version is not served
    assert told.value.code == "version_not_found"
