"""carla-registry promote --bake, guard, compare and gates, as a user types them."""

from __future__ import annotations

import argparse
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from made_up_traffic import Growth, told_by_a_server
from registry_policies import NAME, registered
from tests_support import Finished, registry_here

from registry.commands.guard import _tell
from registry.moves.sync import sync
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own

AWAY = "http://127.0.0.1:1"
GOOD, BAD = Growth(1000, saturated=10), Growth(1000, saturated=990)


@pytest.fixture
def store(mlflow_home: Path, tmp_path: Path) -> Store:
    """0.1.0 in staging, whose promotions need no evidence."""
    store = Store()
    registered(store, tmp_path, "0.1.0", "0.2.0", staging="0.1.0")
    return store


def promote(*more: str) -> Finished:
    return registry_here("promote", f"{NAME}@0.2.0", "--to", "staging", *more)


def test_a_bake_is_journalled_with_its_alarms_and_told_in_history_and_list(store: Store):
    done = promote("--bake", "30m", "--alarm", "fallback_rate>0.01", "--alarm", "p99_ms>10")
    assert done.code == 0, done.err
    alarms = "  fallback_rate>0.01: the bar is 1 %\n  p99_ms>10: the bar is 10 ms for 1 %"
    assert f"bakes for 30m, with the alarms\n{alarms}" in done.out
    assert f"warning: nobody guards this bake, so nothing would roll it back: carla-registry guard {NAME}" in done.err
    told = registry_here("history", NAME).out
    assert "promote: 0.2.0 → staging (was 0.1.0), bakes for 30m" in told
    assert "staging: 0.2.0 bakes until" in told
    assert f"nobody guards it: carla-registry guard {NAME}" in told
    assert f"{NAME}: staging: 0.2.0 bakes until" in registry_here("list").out
    entry = json.loads(registry_here("history", NAME, "--json").out)["entries"][-1]
    assert entry["bake"]["duration_s"] == 1800
    assert [bar["alarm"] for bar in entry["bake"]["bars"]] == ["fallback_rate>0.01", "p99_ms>10"]


def test_a_bar_with_x_is_that_many_times_what_the_displaced_version_had(store: Store):
    with told_by_a_server(v0_1_0=Growth(100_000, saturated=20_000), v0_2_0=BAD) as url:
        done = promote("--bake", "1h", "--alarm", "saturation>2x", "--servers", url, "--json")
    assert done.code == 0, done.err
    assert f"carla-registry guard {NAME} --servers {url}" in done.err
    [bar] = json.loads(done.out)["bake"]["bars"]
    assert 0.4 < bar["value"] < 0.42  # the upper end of its 95 % interval, twice
    counted = "20 % of 100,000, at most 20.8 % with 95% confidence"  # twice that is the bar
    assert bar["of_displaced"] == f"2 times what 0.1.0 had in half an hour: {counted}"
    assert sync(store, NAME).entries[-1].move.bake.bars[0].value == bar["value"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--bake", "30m"), "a bake without an alarm would end well in any case: add --alarm, expected METRIC"),
        (("--alarm", "fallback_rate>0.01"), "--alarm and --servers belong to a bake: add --bake 30m"),
        (
            ("--bake", "30m", "--alarm", "saturation>2x"),
            "needs the figures of the version that drives now: add",
        ),
        (("--bake", "30m", "--alarm", "speed>3"), "there is no metric speed; there are fallback_rate"),
        (
            ("--bake", "30m", "--alarm", "saturation.stear>0.1"),
            f"servers count no saturation of stear; of {NAME} 0.2.0 there are throttle, brake, steer",
        ),
        (("--bake", "30m", "--alarm", "out_of_range.sped>1"), "servers count no out_of_range of sped"),
        (
            ("--bake", "30m", "--alarm", "saturation>2x", "--servers", AWAY),
            "none of the servers can be read, so that no alarm with x can be set",
        ),
    ],
)
def test_a_bake_that_could_not_work_is_refused_before_anything_moves(store: Store, flags, says: str):
    done = promote(*flags)
    assert (done.code, says in done.err) == (1, True), done.err
    assert store.holders(NAME) == {"staging": "0.1.0"}


@pytest.mark.parametrize(
    ("growth", "says"),
    [
        (Growth(10), "the servers counted 10 of 0.1.0 in the last half hour, and 30 are needed"),
        (Growth(90_000, saturated=80_000), "can never fire: saturation is a share, and"),
    ],
)
def test_figures_that_make_no_bar_are_refused(store: Store, growth: Growth, says: str):
    with told_by_a_server(v0_1_0=growth) as url:
        done = promote("--bake", "30m", "--alarm", "saturation>2x", "--servers", url)
    assert (done.code, says in done.err) == (1, True), done.err


def test_a_duration_without_a_unit_is_a_wrong_usage(store: Store):
    done = promote("--bake", "30", "--alarm", "fallback_rate>0.01")
    assert (done.code, "'30' is no duration; expected such as 10s, 30m or 2h" in done.err) == (2, True)


def test_a_dry_run_says_what_would_bake_and_writes_nothing(store: Store):
    before = len(store.journal(NAME))
    done = promote("--bake", "30m", "--alarm", "fallback_rate>0.01", "--dry-run")
    assert (done.code, "bakes for 30m" in done.out, done.err) == (0, True, "")
    assert len(store.journal(NAME)) == before


def test_guard_rolls_back_and_says_so_by_its_exit_code(store: Store):
    assert promote("--bake", "30m", "--alarm", "saturation.steer>0.5").code == 0
    with told_by_a_server(v0_2_0=BAD) as url:
        done = registry_here("guard", NAME, "--servers", url, "--every", "0.1s", "--once")
    assert done.code == 1, done.err
    assert "staging: 0.2.0 → 0.1.0, as saturation.steer>0.5: 99 % (990 of 1,000), then 99 %" in done.out
    assert store.holders(NAME) == {"staging": "0.1.0"}
    assert "alarm saturation.steer>0.5: 99 %" in registry_here("history", NAME).out


def test_guard_ends_a_bake_that_went_well_and_needs_none(store: Store):
    assert promote("--bake", "0.2s", "--alarm", "saturation.steer>0.5").code == 0
    with told_by_a_server(v0_2_0=GOOD) as url:
        done = registry_here("guard", NAME, "--servers", url, "--every", "0.1s", "--once", "--json")
        assert done.code == 0, done.err
        assert [json.loads(line)["event"] for line in done.out.splitlines()][-1] == "ended"
        again = registry_here("guard", NAME, "--servers", url, "--once")
    assert (again.code, again.out) == (0, "")


@pytest.fixture
def asks_for_a_key() -> Iterator[str]:
    """The URL of a server that wants a key, and has no counters for those who have it."""

    class Asks(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers["Authorization"] == "Bearer secret"
            self.send_response(503 if is_known else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asks)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_servers_key_comes_from_a_file(store: Store, asks_for_a_key: str, tmp_path: Path):
    key = tmp_path / "key"
    key.write_text("secret\n")
    compare = ("compare", f"{NAME}@0.1.0", f"{NAME}@0.2.0", "--from", asks_for_a_key)
    assert f"{asks_for_a_key} asks for its key: pass --api-key-file FILE" in registry_here(*compare).err
    assert f"{asks_for_a_key} answered 503" in registry_here(*compare, "--api-key-file", str(key)).err
    key.write_text("wrong\n")
    refused = registry_here(*compare, "--api-key-file", str(key)).err
    assert f"{asks_for_a_key} does not take the key that --api-key-file names" in refused
    key.write_text("\n")
    empty = registry_here(*compare, "--api-key-file", str(key))
    assert (empty.code, "expected one line with the servers' key" in empty.err) == (1, True)


def test_compare_shows_two_versions_side_by_side(store: Store):
    with told_by_a_server(v0_1_0=Growth(1000, saturated=100), v0_2_0=Growth(500, saturated=250, fallbacks=20)) as url:
        compare = ("compare", f"{NAME}@staging", f"{NAME}@0.2.0", "--from", url, AWAY)
        done = registry_here(*compare)
        found = json.loads(registry_here(*compare, "--json").out)
    assert done.code == 0, done.err
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines()}
    assert rows["saturation.steer"] == ["10", "%", "50", "%"]
    assert rows["actions"] == ["1,000", "500"]
    assert f"warning: left out: {AWAY}" in done.err
    assert found[f"{NAME}@staging"]["version"] == "0.1.0"
    assert found[f"{NAME}@0.2.0"]["fallback_rate"] == pytest.approx(20 / 520)


def test_compare_wants_two_versions_and_a_server_that_answers(store: Store):
    same = registry_here("compare", f"{NAME}@staging", f"{NAME}@0.1.0", "--from", AWAY)
    assert (same.code, "are the same version, 0.1.0" in same.err) == (1, True)
    away = registry_here("compare", f"{NAME}@0.1.0", f"{NAME}@0.2.0", "--from", AWAY)
    assert (away.code, "none of the servers can be read" in away.err) == (3, True)


def test_gates_shows_and_sets_what_all_gates_ask_for_and_journals_it(store: Store):
    assert "gate.driving.margin" in registry_here("gates", NAME).out
    done = registry_here(
        "gates", NAME, "--set", "gate.driving.margin=0.02", "gate.shadow.min_rows=1000", "--reason", "a fleet of ten"
    )
    assert done.code == 0, done.err
    assert store.model_tags(NAME)["gate.driving.margin"] == "0.02"
    told = registry_here("history", NAME).out
    assert "set: gate.driving.margin = 0.02, gate.shadow.min_rows = 1000  by" in told
    assert "“a fleet of ten”" in told
    shown = json.loads(registry_here("gates", NAME, "--json").out)["settings"]
    assert shown["gate.driving.margin"] == {"value": "0.02", "from": "set"}
    back = registry_here("gates", NAME, "--set", "gate.driving.margin=")
    assert (back.code, "gate.driving.margin" in store.model_tags(NAME)) == (0, False)
    assert "nothing to change" in registry_here("gates", NAME, "--set", "gate.driving.margin=").out
    assert registry_here("history", NAME, "--check").code == 0


def test_a_setting_that_somebody_changed_in_mlflow_is_shown_as_such(store: Store):
    mlflow.MlflowClient().set_registered_model_tag(NAME, "gate.reward.margin", "0.2")
    assert "changed in MLflow, not by this command" in registry_here("gates", NAME).out


def test_gates_refuses_what_no_gate_could_read(store: Store):
    done = registry_here("gates", NAME, "--set", "gate.driving.margin=2", "gate.nothing=1")
    assert done.code == 1
    assert "gate.driving.margin='2': expected a share above 0 and at most 0.5" in done.err
    assert "'gate.nothing' is no setting of a gate" in done.err
    assert store.model_tags(NAME).keys() & {"gate.driving.margin", "gate.nothing"} == set()


def test_settings_are_protected_as_production_is(store: Store):
    mlflow.MlflowClient().set_registered_model_tag(NAME, "protected.production", "somebody-else")
    done = registry_here("gates", NAME, "--set", "gate.driving.margin=0.02")
    assert (done.code, "production is protected: only somebody-else may move it" in done.err) == (1, True)


def test_a_promotion_that_ends_a_bake_before_its_time_says_so_and_journals_it(store: Store, tmp_path: Path):
    assert promote("--bake", "30m", "--alarm", "p99_ms>10").code == 0
    registered(store, tmp_path, "0.3.0")
    done = registry_here("promote", f"{NAME}@0.3.0", "--to", "staging")
    assert done.code == 0, done.err
    said = re.search(r"warning: (0\.2\.0 had baked in staging for \d+s of 30m): that bake has ended", done.err)
    assert said is not None, done.err
    entry = json.loads(registry_here("history", NAME, "--json").out)["entries"][-1]
    assert said[1] in entry["evidence"]
    assert "bakes until" not in registry_here("history", NAME).out.splitlines()[-1]
    done = registry_here("rollback", NAME, "--stage", "staging")  # a roll-back needs no warning
    assert "had baked" not in done.err


def test_a_first_canary_bakes_beside_production_and_its_roll_back_leaves_none(store: Store):
    forced = ("--force", "--reason", "needs no evidence here")
    assert registry_here("promote", f"{NAME}@0.1.0", "--to", "production", *forced).code == 0
    canary = ("promote", f"{NAME}@0.2.0", "--to", "canary", "--share", "50", *forced)
    with told_by_a_server(v0_1_0=Growth(100_000, saturated=20_000), v0_2_0=BAD) as url:
        done = registry_here(*canary, "--bake", "30m", "--alarm", "saturation.steer>2x", "--servers", url)
        assert done.code == 0, done.err
        done = registry_here("guard", NAME, "--servers", url, "--every", "0.1s", "--once")
    assert done.code == 1, done.err
    assert "canary: 0.2.0 → none, as saturation.steer>2x: 99 %" in done.out
    assert "canary" not in store.holders(NAME)


def test_guard_says_that_it_asks_the_registry_again(capsys: pytest.CaptureFixture[str]):
    problems = {"registry": "no policy named mien", "http://car-1": "no answer"}
    _tell(argparse.Namespace(json=False, every=10.0), {}, [], problems)
    assert capsys.readouterr().out.splitlines() == ["no policy named mien (asks again every 10 s)", "no answer"]


@pytest.mark.parametrize("server", ["registry", "http://car-1", "unix:/run/policy.sock"])
def test_guard_says_what_answers_again(server: str, capsys: pytest.CaptureFixture[str]):
    _tell(argparse.Namespace(json=False, every=10.0), {server: "no answer"}, [], {})
    assert capsys.readouterr().out == f"{server} answers again\n"
