"""Closed loop under latency: when an action applies, by simulated time alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from episode_policies import frames, stacks, watching
from numpy.typing import NDArray
from tests_support import Server, example_as

from benchmarks.failures.delaying import DelayingProxy
from carla_mlflow import Engine
from carla_mlflow.contract.answer import fallback_row
from carla_mlflow.errors import DrivingError
from carla_mlflow.latency.sources import Constant, LatencySource, Measured, Replayed
from carla_mlflow.latency.trace import Trace
from registry.gates.intervals import rate_bound
from registry.store.evidence import find_evidence
from training_export.__main__ import main
from training_export.evaluation.delayed import Delay, DelayedDriver, Simple
from training_export.evaluation.episode_driver import EpisodeDriver
from training_export.evaluation.evaluate import run_episodes
from training_export.evaluation.served import served
from training_export.racetrack.conditions import Conditions
from training_export.racetrack.driving import Episode, Observation, straight_ahead
from training_export.racetrack.fine import FINE_REVISION, STEP_US, STEPS, TICK_US, FineRacetrack

FALLBACK = np.array([0.0, 1.0, 0.0], np.float32)
SHORT = Conditions(episodes=2, first_seed=6, traffic=4, duration_s=3.0)


class Numbered:
    """Decides at every tick; its steering tells at which it was asked, as a hundredth a tick."""

    def __init__(self, holds: int = 1) -> None:
        self._holds, self.asked = holds, []

    def begin(self) -> None:
        self._tick, self.asked = 0, []

    @property
    def is_due(self) -> bool:
        return self._tick % self._holds == 0

    def skip(self, observation: Observation) -> None:
        self._tick += 1

    def decide(self, observation: Observation, budget_ms: float | None) -> NDArray[np.float32]:
        self.asked.append(self._tick)
        self._tick += 1
        return np.array([0.0, 0.0, self.asked[-1] / 100], np.float32)


def applied(driver: DelayedDriver, ticks: int) -> list[int | None]:
    """For each simulation step the tick at which its action was asked for; None for the fallback."""
    found: list[int | None] = []
    driver.begin_at(0)
    for tick in range(ticks):
        driver({})
        for step in range(STEPS):
            control = driver.at(tick * TICK_US + step * STEP_US)
            found.append(None if control[1] else round(float(control[2]) * 100))
    return found


def under(us: int, budget_ms: float | None = None) -> Delay:
    return Delay(Constant(us), budget_ms, FALLBACK)


@pytest.mark.parametrize(("us", "steps"), [(0, 0), (1, 1), (10_000, 1), (35_000, 4), (99_999, 10), (100_000, 10)])
def test_an_action_applies_at_the_first_step_after_it_has_landed(us: int, steps: int):
    driver = DelayedDriver(Numbered(), under(us))
    before = [None] * steps
    assert applied(driver, 3) == (before + [0] * 10 + [1] * 10 + [2] * 10)[: 3 * STEPS]


def test_one_request_is_under_way_and_ticks_meanwhile_are_only_seen():
    decides = Numbered()
    driver = DelayedDriver(decides, under(250_000))
    assert applied(driver, 9) == [None] * 25 + [0] * 30 + [3] * 30 + [6] * 5
    assert decides.asked == [0, 3, 6]


def test_an_action_that_holds_is_asked_for_once_and_begins_late():
    decides = Numbered(holds=4)
    driver = DelayedDriver(decides, under(35_000))
    assert applied(driver, 8) == [None] * 4 + [0] * 40 + [4] * 36
    assert decides.asked == [0, 4]


def test_frames_of_ticks_at_which_nobody_asks_are_kept():
    engine = Engine(watching(repeat=1), device="cpu")
    seen, driver = frames(6), of_engine(engine, Constant(250_000))
    driver.begin_at(0)
    for tick in seen:
        driver(tick)
    wanted = engine.act(stacks(seen, 3)).control[0]  # asked at ticks 0 and 3, and landed during tick 5
    np.testing.assert_array_equal(driver.at(550_000), wanted)


def test_past_the_budget_the_fallback_applies_and_the_next_tick_asks_again():
    us = [30_000, 80_000, 30_000, 30_000]
    driver = DelayedDriver(Numbered(), Delay(Replayed(Trace(us, [0] * 4)), 50, FALLBACK))
    assert applied(driver, 4) == [None] * 3 + [0] * 12 + [None] * 8 + [2] * 10 + [3] * 7
    assert (driver.late, [*driver.applied.us]) == (1, us)


def test_nothing_of_the_clock_is_in_a_drive_whose_latency_is_given(monkeypatch: pytest.MonkeyPatch):
    def no_clock() -> int:
        raise AssertionError("read")

    monkeypatch.setattr("time.perf_counter_ns", no_clock)
    applied(DelayedDriver(Numbered(), under(35_000, 20)), 3)


def drive(driver: DelayedDriver, conditions: Conditions = SHORT) -> list[Episode]:
    return run_episodes(driver, conditions, "under latency")


def bits(episodes: list[Episode]) -> list[tuple[object, ...]]:
    return [(e.seed, e.reward, e.crashed, e.off_road, e.speeds, e.steers, e.positions) for e in episodes]


def of_engine(engine: Engine, source: LatencySource, budget_ms: float | None = None) -> DelayedDriver:
    return DelayedDriver(EpisodeDriver(engine), Delay(source, budget_ms, fallback_row(engine.card.action)))


@pytest.fixture(scope="module")
def engine(example: Path) -> Engine:
    return Engine.open(example, device="cpu")


def test_an_episode_of_this_revision_goes_as_it_always_went():
    """Whoever changes these figures raises FINE_REVISION: evidence from before is another environment's."""
    episodes = drive(DelayedDriver(Simple(straight_ahead), under(35_000)))
    assert [(len(e.speeds), e.crashed, e.off_road) for e in episodes] == [(30, False, False), (23, False, True)]
    assert [e.reward for e in episodes] == pytest.approx([14.7658, 0.4818], abs=1e-3)
    assert FINE_REVISION == 1


def test_more_latency_drives_another_episode_and_equal_latency_the_same(engine: Engine):
    at_once, late = drive(of_engine(engine, Constant(0))), drive(of_engine(engine, Constant(200_000)))
    assert [e.reward for e in at_once] != [e.reward for e in late]
    assert bits(late) == bits(drive(of_engine(engine, Replayed(Trace([200_000])))))


def test_what_changes_within_a_tick_is_in_its_reward_and_the_car_sees_what_applies():
    env = FineRacetrack(lambda now_us: np.array([0, 0, 0.2 if now_us >= 50_000 else -0.2], np.float32))
    env.reset(seed=1)
    seen = env.step(np.array([0.0, -0.2]))[0]
    env.close()
    assert seen["steering"] == np.float32(0.2)
    assert env._steer_change == pytest.approx(0.2 + 0.4, abs=1e-6)


def test_a_measured_drive_is_driven_again_by_its_trace(engine: Engine, server: Server):
    with DelayingProxy(server.url, 0.12) as proxy, served(proxy.url, engine, "") as decides:
        measured = DelayedDriver(decides, Delay(Measured(), 500, FALLBACK))
        episodes = drive(measured, Conditions(2, 6, 4, 1.0))
    assert min(measured.applied.us) >= 120_000
    again = of_engine(engine, Replayed(measured.applied), 500)
    assert bits(drive(again, Conditions(2, 6, 4, 1.0))) == bits(episodes)
    assert again.applied.name == measured.applied.name


def test_what_a_server_answers_past_the_budget_is_late(engine: Engine, server: Server):
    with DelayingProxy(server.url, 0.2) as proxy, served(proxy.url, engine, "") as decides:
        measured = DelayedDriver(decides, Delay(Measured(), 50, FALLBACK))
        drive(measured, Conditions(1, 6, 0, 0.4))
    assert measured.late == len(measured.applied.us) == 4
    assert min(measured.applied.us) > 50_000


def test_a_server_of_another_version_is_refused(server: Server, tmp_path: Path):
    other = Engine.open(example_as(tmp_path, "0.9.0"), device="cpu")
    says = r"racetrack-policy 0\.1\.0 sha256:.* is not the policy that is evaluated.*--model racetrack-policy@0\.9\.0$"
    with pytest.raises(DrivingError, match=says):
        served(server.url, other, "").__enter__()


@pytest.mark.slow
@pytest.mark.parametrize("ms", [35, 150])
def test_a_delay_before_the_real_server_drives_as_the_same_latency_in_simulation(
    engine: Engine, server: Server, ms: int
):
    conditions = Conditions(episodes=3, first_seed=6, traffic=4, duration_s=5.0)
    with DelayingProxy(server.url, ms / 1e3) as proxy, served(proxy.url, engine, "") as decides:
        measured = DelayedDriver(decides, Delay(Measured(), None, FALLBACK))
        real = drive(measured, conditions)
    simulated = drive(of_engine(engine, Constant(ms * 1000)), conditions)
    failed = [(a.succeeded, b.succeeded) for a, b in zip(real, simulated, strict=True)]
    worse, better = failed.count((False, True)), failed.count((True, False))
    # Neither is shown to fail more often.
    assert -rate_bound(better, worse, len(real)) <= 0 <= rate_bound(worse, better, len(real))
    again = drive(of_engine(engine, Replayed(measured.applied)), conditions)
    assert bits(again) == bits(real)  # however late this machine let answers come
    limit = (ms // 100 + 1) * 100_000  # until then it is the same tick that asks next
    late = {seed for seed, us in zip(measured.applied.seeds, measured.applied.us, strict=True) if us >= limit}
    for one, other in zip(real, simulated, strict=True):
        if one.seed not in late:
            assert one.succeeded == other.succeeded
            assert one.distance_m == pytest.approx(other.distance_m, rel=0.05)


FLAGS = ["--episodes", "2", "--duration", "1", "--traffic", "0"]


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_evidence_has_the_latency_and_its_distribution(
    mlflow_home: Path, example: Path, engine: Engine, capsys: pytest.CaptureFixture[str]
):
    trace = mlflow_home / "trace.parquet"
    Trace([20_000, 40_000, 120_000]).write(trace)
    command = ["evaluate", str(example), "--log", "--latency", str(trace), "--budget-ms", "100", *FLAGS]
    assert main([*command, "--trace", str(mlflow_home / "applied.parquet")]) == 0
    assert "trace:" in capsys.readouterr().out
    found = find_evidence(engine.digest)
    assert found is not None
    assert found.problem is None
    assert found.conditions["latency"] == Trace([20_000, 40_000, 120_000]).name
    assert (found.conditions["budget_ms"], found.conditions["first_seed"]) == ("100.0", "1000000")
    assert found.conditions["env_version"].endswith(", revision 1, in steps of 10 ms revision 1")
    assert found.latency is not None
    assert found.latency.kind == "trace"
    assert found.latency.figures.keys() == {"p50_ms", "p90_ms", "p99_ms", "max_ms"}
    assert found.latency.figures["max_ms"] == 120
    again = ["evaluate", str(example), "--log", "--latency", f"runs:/{found.run_id}/latency.parquet", *FLAGS]
    assert main([*again, "--budget-ms", "100"]) == 0
    newest = find_evidence(engine.digest)
    assert newest is not None
    assert newest.run_id != found.run_id
    assert newest.drives == found.drives
    assert newest.conditions == found.conditions


def test_a_policy_is_evaluated_through_a_server_and_again_by_what_was_measured_there(
    server: Server, tmp_path: Path, example: Path, capsys: pytest.CaptureFixture[str]
):
    trace = str(tmp_path / "trace.parquet")
    assert main(["evaluate", str(example), "--through", server.url, "--trace", trace, *FLAGS]) == 0
    measured = capsys.readouterr().out.splitlines()
    assert main(["evaluate", str(example), "--latency", trace, *FLAGS]) == 0
    again = capsys.readouterr().out.splitlines()
    [first], [second] = ([line for line in lines if line.startswith("latency ")] for lines in (measured, again))
    assert "(measured): p50 " in first
    assert second == first.replace("measured", "trace")
    assert [line for line in again if line != second] == [line for line in measured if line != first]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--latency", "measured"], "--latency measured needs --through URL"),
        (["--budget-ms", "50"], "--budget-ms needs a latency: --latency 35ms, or --through URL"),
        (["--trace", "t.parquet"], "--trace needs a latency"),
        (
            ["--latency", "5ms", "--env", "x.py:f", "--success-key", "ok"],
            "--latency is for the racetrack, not for --env",
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags: list[str], complaint: str, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "nothing", *flags]) == 2
    assert complaint in capsys.readouterr().err


def test_what_is_no_latency_is_refused_before_the_policy_is_loaded(capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "nothing", "--latency", "35"]) == 1
    told = capsys.readouterr().err
    assert "latency '35': expected a time such as 35ms" in told
    assert "loading" not in told
