"""Heads of several choices, and of flags: mode and samples, in numpy and in the graph."""

from __future__ import annotations

import numpy as np
import torch
from without_pedals import KINDS

from carla_mlflow import Engine
from carla_mlflow.contract.heads import mode, sample
from carla_mlflow.inference.sampling import row_generators
from training_export.graphs.head_modules import Flags, MultiChoice

SEVERAL = np.zeros(2, np.float32), np.array([2, 1], np.float32)
"""Bounds of two dimensions, of three and of two choices."""
TWO_FLAGS = np.zeros(2, np.float32), np.ones(2, np.float32)


def drawn(head: str, logits: list[float], bounds: tuple[np.ndarray, np.ndarray], rows: int = 4000) -> np.ndarray:
    repeated = np.tile(np.array(logits, np.float32), (rows, 1))
    observations = [np.arange(rows, dtype=np.float32)]
    return sample(head, {"logits": repeated}, *bounds, row_generators("sha256:0", 7, observations))


def test_each_dimension_takes_its_own_largest_logit_the_first_of_equal_ones():
    logits = np.array([[0, 2, 1, 5, 4], [3, 3, 0, -1, 0], [0, 0, 9, 1, 1]], np.float32)
    wanted = [[1, 0], [0, 1], [2, 0]]
    assert mode("multi_categorical", "mode", {"logits": logits}, *SEVERAL).tolist() == wanted
    assert MultiChoice((3, 2))(torch.from_numpy(logits)).tolist() == wanted


def test_a_flag_is_1_where_that_is_more_probable():
    logits = np.array([[0.1, -0.1], [0.0, 80.0]], np.float32)
    assert mode("bernoulli", "mode", {"logits": logits}, *TWO_FLAGS).tolist() == [[1, 0], [0, 1]]
    assert Flags()(torch.from_numpy(logits)).tolist() == [[1, 0], [0, 1]]


def test_choices_are_drawn_with_their_probabilities_each_dimension_by_itself():
    rows = drawn("multi_categorical", [0.0, float(np.log(2)), 0.0, float(np.log(3)), 0.0], SEVERAL)
    shares = np.bincount(rows[:, 0].astype(int), minlength=3) / len(rows)
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.03)
    assert abs(rows[:, 1].mean() - 0.25) < 0.03
    assert abs(np.corrcoef(rows.T)[0, 1]) < 0.06


def test_flags_are_drawn_with_their_probabilities_even_extreme_ones():
    rows = drawn("bernoulli", [float(np.log(3)), -200.0], TWO_FLAGS)
    assert abs(rows[:, 0].mean() - 0.75) < 0.03
    assert not rows[:, 1].any()
    assert drawn("bernoulli", [200.0, 0.0], TWO_FLAGS)[:, 0].all()


def test_a_sample_is_the_same_alone_and_for_the_same_seed_and_another_for_another():
    for name in ("several", "flags", "labelled"):
        kind = KINDS[name]
        engine = Engine(kind.artifact(), "cpu")
        rows = {"x": np.repeat(np.random.default_rng(0).normal(size=(1, len(kind.rows[0]))), 40, 0).astype(np.float32)}
        rows["x"] += np.linspace(-0.1, 0.1, 40, dtype=np.float32)[:, None]
        together = engine.act(rows, deterministic=False, seed=3)
        alone = [engine.act({"x": row[None]}, deterministic=False, seed=3).control[0] for row in rows["x"]]
        np.testing.assert_array_equal(together.control, alone)
        assert (together.control != engine.act(rows, deterministic=False, seed=4).control).any()
