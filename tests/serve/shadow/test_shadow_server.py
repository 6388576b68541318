"""A server with a shadow: what it compares, what it refuses, and what it tells of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpcore
import pytest
from following_support import again, metric, of_other_contract, until, workers
from mlflow_ui import open_browser, open_page
from shadow_support import Asking, process_of, replayed, rings_of, shadow_of, wait_rows, wait_up
from tests_support import Server

from benchmarks.policies.two_policies import write
from carla_mlflow import Artifact, Engine, write_artifact
from carla_mlflow.contract.control_kinds import CONTROL_NAMES
from serve.record.files import open_recordings
from serve.record.ring_reader import RingReader
from serve.record.schema import in_share

Start = Callable[..., Server]
pytestmark = [pytest.mark.xdist_group("shadow")]


@pytest.fixture(scope="session")
def folders(champion: Artifact, other: Artifact, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The champion's folder and the other version's."""
    folder = tmp_path_factory.mktemp("versions")
    return write(champion, folder), write(other, folder)


def test_its_figures_are_those_of_a_replay_of_what_was_recorded(
    start_server: Start, folders: tuple[Path, Path], champion: Artifact, champions: Engine, tmp_path: Path
):
    served, shadow = map(str, folders)
    server = start_server(
        "--model", served, "--shadow", shadow, "--record", str(tmp_path / "recordings"), "--workers", "2"
    )
    server.wait_ready()
    wait_up(server)
    asking = Asking(server, champions)
    asking.ask(100)
    asking.ask(50, rows=3)
    assert server.post("/predict", {"observations": [{"state": [99.0] * 16}]}).status == 422
    wait_rows(server, 250)
    until(lambda: shadow_of(server)["skipped"] == {"no_action": 1}, server)
    found = shadow_of(server)
    assert (found["following"], found["version"], found["reason"]) == ("1.1.0", "1.1.0", None)
    [beside] = found["beside"]
    assert (beside["version"], beside["digest"], beside["rows"]) == ("1.0.0", champion.digest, 250)
    assert beside["figures"]["rows"] == 250
    assert metric(server, "policy_shadow_up") == 1
    assert metric(server, "policy_shadow_rows_total", version="1.1.0") == 250
    assert metric(server, "policy_shadow_difference_count", dimension="steer", version="1.1.0") == 250
    assert metric(server, "policy_shadow_skipped_total", reason="no_action") == 1
    opposed = beside["figures"]["brake_against_throttle"]
    assert metric(server, "policy_shadow_brake_disagreement_total", version="1.1.0") == opposed
    assert metric(server, "policy_shadow_disagreement_total", version="1.1.0") == beside["disagreements"] > 0
    assert server.stop() == 0
    assert beside["figures"] == replayed(tmp_path / "recordings", champion, folders[1])


def test_one_of_another_contract_is_refused_and_says_by_what_it_differs(
    start_server: Start, folders: tuple[Path, Path], champion: Artifact, champions: Engine, tmp_path: Path
):
    shadow = write(of_other_contract(champion, "2.0.0"), tmp_path)
    server = start_server("--model", str(folders[0]), "--shadow", str(shadow))
    server.wait_ready()
    until(lambda: "contract" in (shadow_of(server)["reason"] or ""), server)
    changes = "has another contract than what is served (action.rate_hz: 20.0 → 10.0)"
    assert shadow_of(server)["reason"] == f"2.0.0 {changes}"
    Asking(server, champions).ask(20)
    assert metric(server, "policy_shadow_up") == 0
    assert metric(server, "policy_shadow_rows_total") is None
    assert server.get("/readyz").json["ready"]
    [ring] = rings_of(server).glob("*.ring")
    until(lambda: rows_in(ring) == 20, server)
    kill_worker(server)
    until(lambda: not ring.exists(), server)  # though nobody reads it
    until(lambda: shadow_of(server)["skipped"] == {"overtaken": 20}, server)


def test_a_share_of_the_requests_is_compared_and_the_recording_has_its_own(
    start_server: Start, folders: tuple[Path, Path], champions: Engine, tmp_path: Path
):
    flags = ("--shadow-share", "0.5", "--record", str(tmp_path / "recordings"), "--record-share", "0.1")
    server = start_server("--model", str(folders[0]), "--shadow", str(folders[1]), *flags)
    server.wait_ready()
    wait_up(server)
    Asking(server, champions).ask(200)
    until(lambda: shadow_of(server)["counts"]["rows"] > 60, server)
    assert server.stop() == 0
    ids = [i for batch in open_recordings(tmp_path / "recordings").batches() for i in batch["request_id"].to_pylist()]
    assert 0 < len(ids) < 60
    assert all(in_share(None, request_id, 0.1) for request_id in ids)


def test_without_a_shadow_nothing_is_told_of_one(server: Server):
    assert server.get("/metadata").json["shadow"] is None
    assert metric(server, "policy_shadow_up") is None


class Rollouts:
    """Episodes of a policy with memory, whose state goes from answer to request."""

    def __init__(self, server: Server, engine: Engine) -> None:
        self._asking = Asking(server, engine)
        self._states: dict[str, str] = {}

    def step(self, *episodes: str) -> None:
        """One step of each episode, a request each."""
        for episode in episodes:
            row = self._asking.observed()
            if episode in self._states:
                row["state"] = self._states[episode]
            answer = self._asking.server.post("/predict", {"observations": [row]}, **{"X-Episode-Id": episode})
            assert answer.status == 200, answer.body
            [action] = answer.json["actions"]
            assert set(CONTROL_NAMES) <= action.keys()
            self._states[episode] = action["state"]


def test_with_memory_it_carries_its_own_and_skips_what_it_did_not_see_begin(
    start_server: Start, remembering: Artifact, tmp_path: Path
):
    versions = (remembering, again(remembering, "1.1.0"))
    served, shadow = (write_artifact(tmp_path / artifact.card.version, artifact).path for artifact in versions)
    flags = ("--shadow", str(shadow), "--record", str(tmp_path / "recordings"), "--workers", "2")
    server = start_server("--model", str(served), *flags)
    server.wait_ready()
    wait_up(server)
    rollouts = Rollouts(server, Engine(remembering, "cpu"))
    for _ in range(10):
        rollouts.step("a", "b", "c")
    wait_rows(server, 30)
    [beside] = shadow_of(server)["beside"]
    before = process_of(server)
    before.kill()
    until(lambda: shadow_of(server)["starts"] == 2, server)
    wait_up(server)
    for _ in range(5):
        rollouts.step("a", "d")
    wait_rows(server, 35)
    until(lambda: shadow_of(server)["skipped"] == {"episode_start": 5}, server)
    assert server.stop() == 0
    whole = replayed(tmp_path / "recordings", remembering, shadow)
    assert whole["rows"] == 40  # a replay has seen the beginning of every episode
    assert beside["figures"]["rows"] == 30


def test_its_first_steps_are_those_of_a_replay_to_the_bit_also_with_memory(
    start_server: Start, remembering: Artifact, tmp_path: Path
):
    versions = (remembering, again(remembering, "1.1.0"))
    served, shadow = (write_artifact(tmp_path / artifact.card.version, artifact).path for artifact in versions)
    server = start_server("--model", str(served), "--shadow", str(shadow), "--record", str(tmp_path / "recordings"))
    server.wait_ready()
    wait_up(server)
    rollouts = Rollouts(server, Engine(remembering, "cpu"))
    for _ in range(20):
        rollouts.step("a", "b", "c")
    wait_rows(server, 60)
    [beside] = shadow_of(server)["beside"]
    assert server.stop() == 0
    assert beside["figures"] == replayed(tmp_path / "recordings", remembering, shadow)


def test_a_damaged_one_is_refused_and_the_champion_is_not_concerned(
    start_server: Start, folders: tuple[Path, Path], other: Artifact, champions: Engine, tmp_path: Path
):
    shadow = write(other, tmp_path)
    golden = shadow / "golden.npz"
    golden.write_bytes(golden.read_bytes()[:-1] + b"?")
    server = start_server("--model", str(folders[0]), "--shadow", str(shadow))
    server.wait_ready()
    until(lambda: "golden.npz" in (shadow_of(server)["reason"] or ""), server)
    assert str(tmp_path) not in server.get("/metadata").body.decode()
    Asking(server, champions).ask(5)
    assert server.get("/readyz").json["ready"]


def test_the_rings_are_gone_when_the_server_has_ended(
    start_server: Start, folders: tuple[Path, Path], champions: Engine
):
    server = start_server("--model", str(folders[0]), "--shadow", str(folders[1]))
    server.wait_ready()
    wait_up(server)
    rings = rings_of(server)
    assert len(list(rings.glob("*.ring"))) == 1
    Asking(server, champions).ask(5)
    wait_rows(server, 5)
    shadow = process_of(server)
    assert server.stop() == 0
    assert not rings.exists()
    assert not shadow.is_running()


def rows_in(ring: Path) -> int:
    """Rows that a worker has put into its ring."""
    reader = RingReader(ring)
    try:
        return reader.missing
    finally:
        reader.close()


def kill_worker(server: Server) -> None:
    """Kills the only worker, and waits for the next one."""
    [worker] = [each for each in workers(server) if "serve.shadow.start" not in each.cmdline()]
    worker.kill()
    server.pool.close()
    server.pool = httpcore.ConnectionPool(max_connections=1)
    server.wait_ready()


def test_the_ring_of_a_worker_that_died_is_read_and_freed(
    start_server: Start, folders: tuple[Path, Path], champions: Engine
):
    server = start_server("--model", str(folders[0]), "--shadow", str(folders[1]))
    server.wait_ready()
    wait_up(server)
    Asking(server, champions).ask(5)
    wait_rows(server, 5)
    [ring] = rings_of(server).glob("*.ring")
    kill_worker(server)
    until(lambda: not ring.exists(), server)
    Asking(server, champions).ask(5)
    wait_rows(server, 10)


def test_the_status_page_shows_it(start_server: Start, folders: tuple[Path, Path], champions: Engine):
    server = start_server("--model", str(folders[0]), "--shadow", str(folders[1]))
    server.wait_ready()
    wait_up(server)
    Asking(server, champions).ask(12)
    wait_rows(server, 12)
    with open_browser() as browser, open_page(browser) as page:
        page.goto(server.url)
        page.get_by_text("follow-me 1.1.0 is compared").wait_for()
        page.get_by_text("12 rows beside 1.0.0").wait_for()
        page.get_by_text("difference of steer: mean").wait_for()
        assert page.locator("#of-shadow-acceleration rect").count() > 10
