"""What a roll-back leaves behind, and what is archived, ends its episodes at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from following_support import Registry, again, served, until
from tests_support import Server

from benchmarks.policies.two_policies import NAME
from carla_mlflow import Artifact
from registry.moves.promotion import archive, promote, rollback
from registry.moves.terms import GateResult, MoveOptions
from registry.rules.reference import parse_reference
from registry.store.cache import default_cache
from registry.store.store import Store

pytestmark = [pytest.mark.xdist_group("following"), pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings
Start = Callable[..., Server]
_patches = itertools.count()


@pytest.fixture
def published(registry: Registry) -> Iterator[list[Artifact]]:
    """Three versions of this test's own, lower than all others, none of them in staging."""
    patch = next(_patches)
    artifacts = [again(registry.artifacts[0], f"0.{minor}.{patch}") for minor in (1, 2, 3)]
    for artifact in artifacts:
        registry.publish(artifact)
    yield artifacts
    Store().delete_alias(NAME, "staging")


def to_staging(artifact: Artifact) -> None:
    reference = parse_reference(f"{NAME}@{artifact.card.version}")
    options = MoveOptions(reason="a test", force=True)
    promote(Store(), reference, "staging", default_cache(), options, lambda *_: GateResult())


def back() -> None:
    rollback(Store(), NAME, "staging", default_cache(), MoveOptions(), lambda *_: GateResult())


def asks(server: Server, artifact: Artifact, registry: Registry) -> int | str:
    """The status, or the version that answered, of a request of an episode that this version began."""
    answer = server.post("/predict", registry.questions.bodies[0], **{"X-Episode-Digest": artifact.digest})
    return answer.headers["x-policy-version"] if answer.status == 200 else answer.status


def serves(server: Server, artifact: Artifact) -> None:
    until(lambda: served(server) == {artifact.card.version}, server)


def test_what_a_rollback_leaves_is_not_held_and_what_it_restores_is_there_at_once(
    start_server: Start, registry: Registry, published: list[Artifact]
):
    one, two, three = published
    to_staging(one)
    server = start_server("--model", f"{NAME}@staging", "--workers", "2", "--poll-s", "0.5")
    server.wait_ready()
    to_staging(three)
    serves(server, three)
    assert asks(server, one, registry) == one.card.version
    to_staging(two)  # down by a promotion: what is left is not older than what drives
    serves(server, two)
    assert asks(server, three, registry) == 409
    assert asks(server, one, registry) == one.card.version
    back()  # up to 0.3, which was there before
    serves(server, three)
    assert asks(server, two, registry) == 409
    back()
    serves(server, one)
    assert asks(server, three, registry) == 409
    assert asks(server, one, registry) == one.card.version


def test_what_is_archived_while_it_is_held_ends_its_episodes(
    start_server: Start, registry: Registry, published: list[Artifact]
):
    one, two, _ = published
    to_staging(one)
    server = start_server("--model", f"{NAME}@staging", "--poll-s", "0.5")
    server.wait_ready()
    to_staging(two)
    serves(server, two)
    assert asks(server, one, registry) == one.card.version
    archive(Store(), parse_reference(f"{NAME}@{one.card.version}"), MoveOptions(reason="a test", force=True))
    until(lambda: asks(server, one, registry) == 409, server)
    assert server.get("/metadata").json["held"] == []
