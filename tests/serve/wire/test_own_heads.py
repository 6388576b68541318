"""What one connection keeps of the heads that name an episode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from serve.limits import MAX_OWN_HEAD_BYTES, MAX_OWN_HEADS
from serve.policy.slot import Slot
from serve.settings import Settings
from serve.web.app import create_app
from serve.web.unknown_routes import Routes
from serve.wire.incoming import IncomingRequest
from serve.wire.parsed_head import HeadParser, ParsedHead


@dataclass
class Bounds:
    """A server that wants a key."""

    head_parser: HeadParser
    max_body_bytes: int = 1000
    held_bytes: int = 0

    def limit_of(self, parsed: ParsedHead) -> int:
        return self.max_body_bytes


@pytest.fixture
def incoming(tmp_path: Path) -> IncomingRequest:
    settings = Settings(api_key="secret")
    return IncomingRequest(Bounds(HeadParser(settings, Routes(create_app(settings, Slot(tmp_path))).refusal)))


def head(episode_id: str, *lines: str, key: str = "secret", size: int = 0) -> bytes:
    fixed = [
        "POST /predict HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"X-Episode-Id: {episode_id}",
    ]
    text = "\r\n".join([*fixed, f"Authorization: Bearer {key}", *lines, "X-Fill: "])
    return (text.ljust(size - 4, "x") + "\r\n\r\n").encode()


def test_a_head_that_names_an_episode_is_kept_for_its_connection(incoming: IncomingRequest):
    for size in (0, MAX_OWN_HEAD_BYTES):
        incoming.read_head(head("car", size=size))
        assert incoming.own_heads[head("car", size=size)] is incoming.parsed


def test_refused_and_long_ones_and_those_with_an_id_of_their_own_are_not_kept(incoming: IncomingRequest):
    others = [head("car", key="wrong"), head("car", size=MAX_OWN_HEAD_BYTES + 1), head("car", "X-Request-Id: one")]
    for other in others:
        incoming.read_head(other)
        assert incoming.parsed is not None
        assert incoming.parsed.episode_id == "car"
    assert incoming.own_heads == {}


def test_many_episodes_take_no_more_memory_than_few(incoming: IncomingRequest):
    for index in range(3 * MAX_OWN_HEADS):
        incoming.read_head(head(f"car-{index}"))
        assert len(incoming.own_heads) <= MAX_OWN_HEADS
