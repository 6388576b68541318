"""The table of an evaluation, read as strictly as anything that others may write."""

from __future__ import annotations

import json

import pytest

from carla_mlflow.errors import RegistryError
from registry.gates.episodes import EpisodeRow, read_drives


def table(*rows: list[object]) -> bytes:
    return json.dumps({"columns": ["driver", "seed", "reward", "collision", "off_road"], "data": list(rows)}).encode()


def test_episodes_are_read_by_driver_and_seed_and_other_columns_are_left_out():
    columns = ["seed", "driver", "steer_jerk", "reward", "collision", "off_road"]
    data = [[8, "policy", 4.2, 280.5, False, True], [7, "policy", 0, 3, True, False], [7, "random", 1, 0, False, False]]
    read = read_drives(json.dumps({"columns": columns, "data": data}).encode())
    assert read["policy"] == (EpisodeRow("policy", 7, 3.0, True, False), EpisodeRow("policy", 8, 280.5, False, True))
    assert [row.failed for row in (*read["policy"], *read["random"])] == [True, True, False]


def test_an_episode_without_success_failed():
    columns = ["driver", "seed", "reward", "collision", "success"]
    ends = [[False, True], [False, False], [True, True]]
    data = [["policy", seed, -1.5, *end] for seed, end in enumerate(ends)]
    read = read_drives(json.dumps({"columns": columns, "data": data}).encode())
    assert [row.failed for row in read["policy"]] == [False, True, True]
    bare = json.dumps({"columns": columns[:4], "data": [["policy", 0, 1.0, False]]}).encode()
    with pytest.raises(RegistryError, match="has neither the column off_road nor success"):
        read_drives(bare)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "truncated"),
        (b"<html>", "JSON is malformed"),
        (b"[]", "Expected `object`"),
        (b'{"columns": ["seed"], "data": [[' + b"[" * 100_000, "ecursion"),
        (b"\xff\xfe", "malformed"),
        (b'{"columns": ["seed"], "data": [[1, 2]]}', "a row has more or fewer values than there are columns"),
        (b'{"columns": ["seed"], "data": [[1]]}', "missing required field `driver`"),
        (table(["policy", 0, None, False, False]), "Expected `float`, got `null` - at `$.reward`"),
        (table(["policy", 0, float("nan"), False, False]), "malformed"),
        (table(["policy", 0, float("inf"), False, False]), "malformed"),
        (table(["policy", 0, 1.0, False, False]).replace(b"1.0", b"1e999"), "out of range"),
        (table(["policy", 0, 1.0, "no", False]), "Expected `bool`, got `str` - at `$.collision`"),
        (table(["policy", 0, 1.0, 0, False]), "Expected `bool`, got `int`"),
        (table(["policy", 0.5, 1.0, False, False]), "Expected `int`, got `float`"),
        (table(*[["policy", 0, 1.0, False, False]] * 2), "seed 0 is there twice for policy"),
    ],
)
def test_what_is_no_table_of_episodes_is_refused_in_words(content: bytes, problem: str):
    with pytest.raises(RegistryError, match=r"^episodes\.json: .") as caught:
        read_drives(content)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
