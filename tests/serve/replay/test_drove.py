"""What drove: by the recording, by the registry's journal, and where they disagree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_recordings import driven, write
from registry_policies import NAME, changed, enter, to_production

from benchmarks.policies.two_policies import small_policy
from benchmarks.policies.two_policies import write as write_policy
from carla_mlflow import Engine
from registry.rules.chain import next_link
from registry.rules.journal import Entry, Kind, Move, read_entry
from registry.rules.reference import parse_reference
from registry.store.store import Store
from serve.replay.drove import FOLLOW_S, HOLD_S, Drove, Journal

DIGESTS = {version: f"sha256:{version}" for version in ("0.1.0", "0.2.0")}
SECOND = 10**9


def journal(*moves: tuple[float, Kind, str, str], followed: tuple[str, ...] = ()) -> Journal:
    """Moves at times in seconds."""
    entries: list[Entry] = []
    for when, kind, version, to in moves:
        link = next_link(entries, Move(kind, version, to, None, "ann", when))
        entries.append(read_entry(len(entries) + 1, link.to_bytes().decode(), link.hash, True))
    return Journal(entries, DIGESTS, [parse_reference(text) for text in followed])


PROMOTIONS = journal((100, "promote", "0.1.0", "production"), (1000, "promote", "0.2.0", "production"))


def rows(version: str, *seconds: float, by: Journal | None = PROMOTIONS) -> list[tuple[str, bool]]:
    drove = Drove(by)
    drove.add(DIGESTS[version], version, np.array([int(second * SECOND) for second in seconds]))
    return [(span.journal, span.disagrees) for span in drove.spans()]


def test_a_version_that_held_an_alias_agrees():
    assert rows("0.1.0", 100, 500, 999) == [("0.1.0 held production", False)]
    assert rows("0.2.0", 1000, 5000) == [("0.2.0 held production", False)]


def test_a_version_that_drove_before_its_promotion_disagrees():
    assert rows("0.2.0", 900, 1100) == [("production was 0.1.0", True), ("0.2.0 held production", False)]
    assert rows("0.1.0", 50) == [("nothing held an alias", True)]


def test_a_replaced_version_may_be_followed_late_and_end_its_episodes_but_not_longer():
    assert rows("0.1.0", 1000 + FOLLOW_S) == [("replaced 60 s before, being followed", False)]
    assert rows("0.1.0", 1000 + HOLD_S) == [("replaced 360 s before, answering its episodes", False)]
    assert rows("0.1.0", 1001 + HOLD_S) == [("production was 0.2.0", True)]


def test_what_moved_after_a_promotion_changes_nothing_for_the_version_that_it_replaced():
    moves: list[tuple[float, Kind, str, str]] = [
        (100, "promote", "0.1.0", "production"),
        (1000, "promote", "0.2.0", "production"),
        (1005, "register", "0.3.0", "candidate"),
        (1100, "promote", "0.2.0", "staging"),
    ]
    assert rows("0.1.0", 1010, by=journal(*moves)) == [("replaced 10 s before, being followed", False)]
    assert rows("0.1.0", 1120, by=journal(*moves)) == [("replaced 120 s before, answering its episodes", False)]
    late = [(told.split(",")[0], disagrees) for told, disagrees in rows("0.1.0", 1001 + HOLD_S, by=journal(*moves))]
    assert late == [("production was 0.2.0", True)]


def test_another_digest_than_was_registered_disagrees():
    drove = Drove(PROMOTIONS)
    drove.add("sha256:forged", "0.1.0", np.array([500 * SECOND]))
    drove.add("sha256:new", "0.3.0", np.array([600 * SECOND]))
    assert [(span.journal, span.disagrees) for span in drove.spans()] == [
        ("0.1.0 is registered with sha256:0.1.0", True),
        ("0.3.0 is not registered", True),
    ]


def test_only_the_alias_that_the_server_followed_counts():
    moves = ((100, "promote", "0.1.0", "production"), (200, "promote", "0.2.0", "staging"))
    assert rows("0.2.0", 300, by=journal(*moves)) == [("0.2.0 held staging", False)]
    assert rows("0.2.0", 300, by=journal(*moves, followed=("mine@staging",))) == [("0.2.0 held staging", False)]
    assert rows("0.2.0", 300, by=journal(*moves, followed=("mine@production",))) == [("production was 0.1.0", True)]


def test_a_version_that_the_server_was_told_to_serve_agrees_whatever_holds_the_aliases():
    also = journal((100, "promote", "0.1.0", "production"), followed=("mine@production", "mine@^0.2"))
    assert rows("0.2.0", 300, by=also) == [("the server was to serve mine@^0.2", False)]
    exact = journal((100, "promote", "0.1.0", "production"), followed=("mine@0.2.0",))
    assert rows("0.2.0", 300, by=exact) == [("the server was to serve mine@0.2.0", False)]
    assert rows("0.1.0", 300, by=exact) == [("the server was to serve mine@0.2.0", True)]


def test_without_a_journal_nothing_is_said_of_it():
    assert rows("0.1.0", 1, 2, by=None) == [("", False)]


def test_spans_come_in_order_with_their_rows_and_times():
    drove = Drove(None)
    for second in (3, 1, 2):
        drove.add(DIGESTS["0.1.0"], "0.1.0", np.array([second * SECOND, second * SECOND + 1]))
    drove.add(DIGESTS["0.2.0"], "0.2.0", np.array([0]))
    found = [(span.version, span.rows, span.first, span.last) for span in drove.spans()]
    assert found == [("0.2.0", 1, 0, 0), ("0.1.0", 6, SECOND, 3 * SECOND + 1)]


@pytest.mark.filterwarnings("ignore")  # MLflow's own
@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_registrys_journal_is_asked_and_its_artifacts_are_found(
    version: str, mlflow_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import time

    from serve.replay.command import main

    store = Store()
    for number in ("0.1.0", "0.2.0"):
        enter(store, changed(tmp_path, number, description=number))
    to_production(store, "0.1.0")
    found = store.find(NAME, version)
    assert found is not None
    from registry.store.cache import default_cache, fetch_to_cache

    engine = Engine(fetch_to_cache(store, found, default_cache()), "cpu")
    began = time.time_ns() + SECOND
    folder = write(tmp_path / "rec", [(engine, driven(engine, began=began))], more={"reference": f"{NAME}@production"})
    path = write_policy(small_policy("1.0.0", 1), tmp_path)  # another server's policy, which is in no registry
    other = Engine.open(path, device="cpu")
    earlier = driven(other, began=began - SECOND)
    write(folder, [(other, earlier)], node="bus", more={"reference": f"{other.card.name}@production"})
    code = main([str(folder), "--json", "--artifacts", str(path)])
    told = json.loads(capsys.readouterr().out)
    spans, again = ({each["digest"]: each for each in told[part]} for part in ("drove", "again"))
    assert (code, again[engine.digest]["equal"], told["asked_journal"]) == (0, 40, True)
    assert (spans[other.digest]["journal"], spans[other.digest]["disagrees"]) == ("", False)
    span = spans[engine.digest]
    held = {"0.1.0": ("0.1.0 held production", False), "0.2.0": ("production was 0.1.0", True)}
    assert (span["journal"], span["disagrees"]) == held[version]
