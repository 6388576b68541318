"""How long forwards are expected to take."""

from __future__ import annotations

from pathlib import Path

from carla_mlflow import Engine
from serve.policy.forward_times import ForwardTimes


def test_a_forward_is_expected_to_take_as_long_as_the_batch_shapes_that_it_consists_of():
    times = ForwardTimes({1: 0.4, 4: 0.5, 8: 0.75, 256: 20.0})
    assert [times.ms(rows) for rows in (1, 3, 4, 8, 12)] == [0.4, 0.5, 0.5, 0.75, 1.25]
    assert times.ms(1024) == 80.0
    assert times.ms(1025) == 80.4


def test_a_chunk_has_the_largest_batch_shape_that_takes_no_longer_than_it_may_or_than_two_rows_alone():
    times = ForwardTimes({1: 0.4, 4: 0.5, 8: 0.75, 256: 20.0})
    assert [times.rows_within(ms) for ms in (0.1, 0.6, 3.0, 19.9, 20.0, 60.0)] == [8, 8, 8, 8, 256, 768]


def test_a_policy_that_runs_row_by_row_has_chunks_of_several_rows():
    assert [ForwardTimes({1: ms}).rows_within(3.0) for ms in (0.5, 2.0, 10.0)] == [6, 2, 1]


def test_a_forward_that_takes_less_than_expected_corrects_its_batch_shapes_and_a_slower_one_changes_nothing():
    times = ForwardTimes({1: 1.0, 8: 3.0, 256: 20.0})
    times.observe(9, 2.0)
    assert (times.ms(1), times.ms(8), times.ms(256)) == (0.5, 1.5, 20.0)
    times.observe(9, 50.0)
    times.observe(256, 30.0)
    assert (times.ms(1), times.ms(8), times.ms(256)) == (0.5, 1.5, 20.0)


def test_fewer_rows_are_never_expected_to_take_longer_than_more():
    times = ForwardTimes({1: 4.0, 8: 2.0, 256: 20.0})  # one row was measured while the machine was busy
    assert (times.ms(1), times.ms(8)) == (2.0, 2.0)
    times.observe(256, 1.0)
    assert (times.ms(1), times.ms(8), times.ms(256)) == (1.0, 1.0, 1.0)


def test_every_batch_shape_of_a_policy_is_timed(example: Path):
    engine = Engine.open(example, device="cpu")
    times = ForwardTimes.measure(engine)
    assert times.shapes == engine.tile_rows
    assert all(times.ms(rows) > 0 for rows in times.shapes)
