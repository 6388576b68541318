"""The pages of history and diff: what they tell, in words and plots, and that texts of people stay texts."""

from __future__ import annotations

from pathlib import Path

import msgspec
from read_page import ReadPage, check_asks_nobody
from registry_policies import at_another_rate, example, steering

from carla_mlflow import Artifact, open_artifact
from carla_mlflow.artifact.artifact import seal
from registry.checks.comparison import compare
from registry.pages.diff import diff_page
from registry.pages.history import History, history_page
from registry.rules.alarms import Bar
from registry.rules.chain import next_link, problems
from registry.rules.journal import Bake, Entry, Move, read_entry
from registry.rules.judged import Judged
from registry.store.run_figures import RunFigures

RUN, OTHER = "a" * 32, "b" * 32
LINK = f"http://mlflow/#/experiments/1/runs/{RUN}"
SCRIPT = "<script>alert(1)</script>\x1b[31m"
NOON = 1_800_000_000.0


def journal(*moves: Move) -> list[Entry]:
    entries: list[Entry] = []
    for number, move in enumerate(moves, 1):
        link = next_link(entries, move)
        entries.append(read_entry(number, link.to_bytes().decode(), link.hash, True))
    return entries


def moved(kind: str, version: str, to: str, held: str | None, at: float, **more: object) -> Move:
    return msgspec.structs.replace(Move(kind, version, to, held, "ann", NOON + at), **more)  # type: ignore[arg-type]


def some_moves() -> list[Move]:
    judged = (Judged("driving", True, f"as good as before in {LINK}"), Judged("latency", False, "p99 30 ms"))
    return [
        moved("register", "0.1.0", "candidate", None, 0),
        moved("register", "0.2.0", "candidate", None, 10),
        moved("promote", "0.1.0", "production", None, 60, evidence=("overruled: evidence: none",)),
        moved("promote", "0.2.0", "canary", None, 100, share=5.0),
        moved("promote", "0.2.0", "production", "0.1.0", 3600, why="brakes earlier", evidence=(LINK, f"runs:/{OTHER}"),
              findings=judged, bake=Bake(1800.0, (Bar("fallback_rate>0.01", 0.01),))),
        moved("rollback", "0.1.0", "production", "0.2.0", 7200, why=SCRIPT),
        moved("set", "", "", None, 7300, settings={"gate.driving.margin": "0.1"}),
        moved("archive", "0.2.0", "archived", None, 7400),
    ]  # fmt: skip


def figures(run_id: str = RUN) -> RunFigures:
    metrics = {"policy/episodes": 60.0, "policy/success_rate": 0.95, "straight_ahead/episodes": 60.0}
    return RunFigures(run_id, "1", LINK, "evaluate", "0.2.0", NOON, metrics, {"env": "racetrack-v1"})


def test_a_history_tells_who_moved_what_when_and_shows_the_evidence_beside_it():
    entries = journal(*some_moves())
    text = history_page(
        History("mine", entries, problems(entries), ["production: bakes"], {RUN: figures()}, NOON + 1e4)
    )
    page = check_asks_nobody(text)
    for told in (
        "The journal is intact : 8 entries",
        "production 0.1.0 46 minutes ago",
        "Archived: 0.2.0",
        "0.2.0 → production (was 0.1.0): promote, bakes for 30m",
        "1 hour ago, by ann",
        "brakes earlier",
        "0.2.0 60 95.0%",
        "Gates: 1 overruled",
        "overruled latency: p99 30 ms",
        f"run {OTHER[:8]} (no longer there, or unread)",
        "settings of the gates: gate.driving.margin = 0.1",
        "0.2.0 → canary with 5 % of the episodes: promote",
    ):
        assert told in page.text, told
    assert {value for name, value in page.references if name == "href"} == {LINK}
    assert "straight ahead" not in page.text.replace("driving straight ahead", "")
    assert page.tags.count("svg") == 1


def test_a_plot_of_a_history_has_its_numbers_in_a_table_and_the_moves_stand_newest_first():
    entries = journal(*some_moves())
    page = ReadPage(history_page(History("mine", entries, now=NOON + 1e4)))
    words = page.text
    assert (
        words.index("0.2.0 → archived")
        < words.index("0.1.0 → production (was 0.2.0)")
        < words.index("0.1.0 registered")
    )
    assert words.count("production 0.2.0") == 1  # a row of the table: production, 0.2.0, from, until
    assert page.tags.count("figure") == page.tags.count("svg") == 1


def test_what_people_typed_is_text_in_a_history():
    moves = [
        *some_moves(),
        moved("promote", SCRIPT, SCRIPT, SCRIPT, 8000, who=SCRIPT, evidence=(f"margins: {SCRIPT}",)),
    ]
    text = history_page(History(SCRIPT, journal(*moves), [SCRIPT], [SCRIPT], unread=SCRIPT, now=NOON + 1e4))
    check_asks_nobody(text)
    assert "<script" not in text
    assert "\x1b" not in text


def test_a_broken_journal_is_told_on_the_page():
    first, *rest = journal(*some_moves())
    edited = read_entry(first.number, first.text.replace("ann", "bob"), first.stored_hash, True)
    broken = problems([edited, *rest])
    page = ReadPage(history_page(History("mine", [edited, *rest], broken, now=NOON + 1e4)))
    assert "The journal is not intact" in page.text
    assert "entry 1 was edited" in page.text
    unreadable = read_entry(1, "{", "", True)
    assert "Entry 1 can't be read" in ReadPage(history_page(History("mine", [unreadable], ["x"]))).text
    assert "None yet." in ReadPage(history_page(History("mine", []))).text


def changed_card(**card: object) -> Artifact:
    files = {name: example().files[name] for name in example().card.files}
    return seal(msgspec.structs.replace(example().card, version="0.2.0", **card), files)  # type: ignore[arg-type]


def page_of(new: Artifact) -> tuple[str, ReadPage]:
    comparison = compare(example(), new)
    text = diff_page(comparison, example().card, new.card, [Judged("driving", False, SCRIPT)])
    return text, check_asks_nobody(text)


def test_a_diff_shows_both_cards_with_the_differences_marked_and_how_far_actions_differ():
    text, page = page_of(changed_card(description=SCRIPT))
    assert "≠ description" in page.text
    assert "did not pass driving" in page.text
    assert text.count('class="differs"') == 2  # version and description
    assert "Each answer is the same." in page.text
    assert "<script" not in text


def test_a_diff_of_two_contracts_says_what_a_cars_code_depends_on():
    _, page = page_of(changed_card(action=at_another_rate(20.0)))
    assert "What a car's code depends on differs" in page.text
    assert "action.rate_hz: 10.0 → 20.0" in page.text
    assert "≠ action.rate_hz 10.0 20.0" in page.text


def test_a_diff_plots_how_often_actions_are_how_far_apart(tmp_path: Path):
    text, page = page_of(open_artifact(Path(steering(tmp_path, "0.2.0", 0.5))))
    assert page.tags.count("svg") == 4  # steering and acceleration, on the golden observations of both
    assert page.tags.count("figure") == 4
    assert "|Δ steer|, share of the rows up to the number below" in page.text
    assert "64 golden observations of 0.1.0" in page.text
    assert "≠ weights" in page.text
    assert "Each answer is the same." not in text
