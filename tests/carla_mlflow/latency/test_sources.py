"""Where latencies come from: the same request of the same episode has the same one, whoever drives."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carla_mlflow.errors import DrivingError
from carla_mlflow.latency.in_flight import InFlight, is_late
from carla_mlflow.latency.parse import parse_latency
from carla_mlflow.latency.sources import Constant, Measured, Replayed
from carla_mlflow.latency.trace import Trace, check_target, read_trace


def test_the_action_before_applies_until_the_next_has_landed():
    flight = InFlight("brake")
    flight.send("first", 35_000)
    assert [flight.at(now) for now in (0, 30_000, 34_999)] == ["brake"] * 3
    assert flight.is_under_way
    assert flight.at(35_000) == "first"
    assert not flight.is_under_way
    flight.send("second", 40_000)
    assert [flight.at(now) for now in (36_000, 40_000)] == ["first", "second"]


def test_an_answer_is_late_only_past_its_budget():
    assert [is_late(us, 100_000) for us in (99_999, 100_000, 100_001)] == [False, False, True]
    assert not is_late(10**9, None)


@pytest.mark.parametrize(("text", "us"), [("35ms", 35_000), ("0ms", 0), ("0.5ms", 500), ("60000ms", 60_000_000)])
def test_a_time_is_a_constant(text: str, us: int):
    source = parse_latency(text)
    assert source == Constant(us)
    assert {source.of(seed, request) for seed in range(3) for request in range(3)} == {us}
    assert source.condition(Trace()) == text


def test_measured_is_for_the_clock_and_is_named_by_what_applied():
    source, applied = parse_latency("measured"), Trace([1, 2], [7, 7])
    assert source == Measured()
    assert source.of(1, 0) is None
    assert source.condition(applied) == Replayed(applied).condition(Trace()) == applied.name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("35", "expected a time such as 35ms, a trace.parquet, or measured"),
        ("-1ms", "expected a time"),
        ("1e3ms", "expected a time"),
        ("60001ms", "expected 0ms to 60000ms"),
        ("none.parquet", "none.parquet: there is no such file"),
    ],
)
def test_what_names_no_latency_is_refused_in_a_line(text: str, complaint: str):
    with pytest.raises(DrivingError, match=complaint):
        parse_latency(text)


def test_a_trace_is_replayed_in_order_from_where_its_episode_began():
    replayed = Replayed(Trace([10, 20, 30, 40, 50], [5, 5, 6, 6, 6]))
    assert [replayed.of(6, request) for request in range(6)] == [30, 40, 50, 10, 20, 30]
    assert [replayed.of(5, request) for request in range(2)] == [10, 20]
    elsewhere = [replayed.of(9, request) for request in range(5)]
    assert sorted(elsewhere) == [10, 20, 30, 40, 50]
    assert elsewhere == [replayed.of(9, request) for request in range(5)]
    assert len({replayed.of(seed, 0) for seed in range(100, 200)}) == 5  # episodes begin at different rows


def test_a_trace_is_written_and_read_with_the_same_name(tmp_path: Path):
    trace = Trace([1234, 0, 35_000], [1, 1, 2])
    trace.write(tmp_path / "trace.parquet")
    again = read_trace(tmp_path / "trace.parquet")
    assert (again.us, again.seeds, again.name) == (trace.us, trace.seeds, trace.name)
    assert parse_latency(str(tmp_path / "trace.parquet")).condition(Trace()) == trace.name
    assert Trace([1234, 0, 35_001], [1, 1, 2]).name != trace.name
    assert Trace([1234, 0, 35_000]).name != trace.name


def test_a_trace_from_elsewhere_needs_latencies_alone(tmp_path: Path):
    pq.write_table(pa.table({"latency_ms": pa.array([1.5, 2.25], pa.float32()), "route": ["a", "b"]}), tmp_path / "t")
    assert [*read_trace(tmp_path / "t").us] == [1500, 2250]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"total_ms": [1.0]}, "has no column latency_ms, one row a request; there are total_ms"),
        ({"latency_ms": pa.array([], pa.float64())}, "has 0 rows"),
        ({"latency_ms": [1.0, -0.5]}, "row 1: latency_ms is -0.5; expected milliseconds from 0 to 60000"),
        ({"latency_ms": [1.0, None]}, "row 1: latency_ms is None"),
        ({"latency_ms": [float("nan")]}, "row 0: latency_ms is nan"),
        ({"latency_ms": ["1"]}, "row 0: latency_ms is '1'"),
        ({"latency_ms": [1.0], "seed": ["x"]}, "row 0: seed is 'x'; expected a whole number"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_row(tmp_path: Path, columns: dict, complaint: str):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(DrivingError, match=complaint):
        read_trace(tmp_path / "t.parquet")
    (tmp_path / "text.parquet").write_text("latency_ms\n1\n")
    with pytest.raises(DrivingError, match="can't be read as Parquet"):
        read_trace(tmp_path / "text.parquet")


def test_the_distribution_is_told_in_milliseconds():
    assert Trace([*range(0, 101_000, 1000)]).figures() == {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "max_ms": 100}
    assert Trace().figures() == {}


def test_a_folder_that_is_not_there_is_told_before_the_drive(tmp_path: Path):
    check_target(tmp_path / "trace.parquet")
    with pytest.raises(DrivingError, match="there is no such folder to write to"):
        check_target(tmp_path / "nowhere" / "trace.parquet")
