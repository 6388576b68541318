"""Heads in numpy and in torch, held against torch.distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import distributions as td

from carla_mlflow.contract.action_card import ActionCard, Control
from carla_mlflow.contract.heads import PARAMETERS, mode, sample
from carla_mlflow.inference.sampling import row_generators
from training_export.graphs.head_modules import head_module

RNG = np.random.default_rng(0)
ROWS = 1000
BOUNDS = {"acceleration": (-1.0, 3.0), "steer": (-0.5, 0.5)}
LOW, HIGH = np.array([-1.0, -0.5], np.float32), np.array([3.0, 0.5], np.float32)
TABLE = [Control(1, 0, 0), Control(0, 1, 0), Control(0, 0, 0.5), Control(0, 0, -0.5)]


def action(head: str, deterministic: str = "mode") -> ActionCard:
    fallback = {"throttle": 0.0, "brake": 1.0, "steer": 0.0}
    if head == "categorical":
        return ActionCard(head, {"choice": (0, 3)}, "table", 10, fallback, table=TABLE)
    return ActionCard(head, BOUNDS, "acceleration_steer", 10, fallback, deterministic)


def parameters(head: str) -> dict[str, np.ndarray]:
    def draw(low: float, high: float, width: int = 2) -> np.ndarray:
        return RNG.uniform(low, high, (ROWS, width)).astype(np.float32)

    return {
        "gaussian": {"mean": draw(-4, 4), "std": draw(0.01, 2)},
        "squashed_gaussian": {"mean": draw(-4, 4), "std": draw(0.01, 2)},
        "beta": {"alpha": draw(0.2, 3), "beta": draw(0.2, 3)},
        "categorical": {"logits": draw(-3, 3, 4)},
    }[head]


@pytest.mark.parametrize(
    ("head", "wanted"),
    [("gaussian", "mode"), ("squashed_gaussian", "mode"), ("beta", "mode"), ("beta", "mean"), ("categorical", "mode")],
)
def test_the_mode_in_the_graph_is_the_mode_in_numpy(head: str, wanted: str):
    given, section = parameters(head), action(head, wanted)
    module = head_module(section)
    graph = module(*(torch.from_numpy(given[name]) for name in PARAMETERS[head] if name != "std")).numpy()
    low, high = section.bounds
    np.testing.assert_allclose(graph, mode(head, wanted, given, low, high), rtol=1e-6, atol=1e-6)
    assert ((graph >= low) & (graph <= high)).all()


def test_the_mode_of_each_head_is_that_of_torch_distributions():
    for head, distribution in (
        ("gaussian", lambda p: td.Normal(p["mean"], p["std"]).mode),
        ("squashed_gaussian", lambda p: torch.tanh(td.Normal(p["mean"], p["std"]).mode)),
        ("beta", lambda p: td.Beta(p["alpha"] + 1, p["beta"] + 1).mode),
        ("categorical", lambda p: td.Categorical(logits=p["logits"]).mode[:, None]),
    ):
        given = parameters(head)
        expected = distribution({k: torch.from_numpy(v) for k, v in given.items()}).numpy()
        if head == "beta":
            given = {name: values + np.float32(1) for name, values in given.items()}
            expected = LOW + (HIGH - LOW) * expected
        if head == "squashed_gaussian":
            expected = LOW + (HIGH - LOW) * (expected + 1) / 2
        low, high = action(head).bounds
        found = mode(head, "mode", given, low, high)
        np.testing.assert_allclose(found, np.clip(expected, low, high), rtol=1e-5, atol=1e-6)


def test_the_mean_of_a_beta_is_that_of_torch_distributions():
    given = parameters("beta")
    expected = td.Beta(torch.from_numpy(given["alpha"]), torch.from_numpy(given["beta"])).mean.numpy()
    np.testing.assert_allclose(mode("beta", "mean", given, LOW, HIGH), LOW + (HIGH - LOW) * expected, atol=1e-6)


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [(3, 2, 2 / 3), (0.5, 2, 0), (1, 2, 0), (2, 0.5, 1), (2, 1, 1), (0.5, 1, 1 / 3), (1, 1, 0.5)],
)
def test_the_mode_of_a_beta_has_four_cases(alpha: float, beta: float, expected: float):
    given = {"alpha": np.full((1, 2), alpha, np.float32), "beta": np.full((1, 2), beta, np.float32)}
    unit = np.array([0, 0], np.float32), np.array([1, 1], np.float32)
    np.testing.assert_allclose(mode("beta", "mode", given, *unit), expected, atol=1e-6)
    module = head_module(ActionCard("beta", {"a": (0, 1), "b": (0, 1)}, "x", 1, {}))
    graph = module(torch.from_numpy(given["alpha"]), torch.from_numpy(given["beta"]))
    np.testing.assert_allclose(graph.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("more", "also"), [(4, 1), (1, 1), (1, 7), (3, 1000), (2**20, 1)])
def test_the_mode_of_a_beta_is_exact_a_few_roundings_above_1(more: int, also: int):
    ulp = np.finfo(np.float32).eps
    given = {"alpha": np.float32([[1 + more * ulp]]), "beta": np.float32([[1 + also * ulp]])}
    expected = more / (more + also)
    assert mode("beta", "mode", given, np.float32([0]), np.float32([1])).item() == pytest.approx(expected, abs=1e-7)
    module = head_module(ActionCard("beta", {"a": (0, 1)}, "x", 1, {}))
    traced = torch.jit.trace(module, tuple(torch.ones(2, 1) for _ in range(2)))
    for graph in (module, traced):
        found = graph(torch.from_numpy(given["alpha"]), torch.from_numpy(given["beta"])).item()
        assert found == pytest.approx(expected, abs=1e-7)


ONE_POLICY = {
    "gaussian": {"mean": [0.2, 5.0], "std": [0.1, 1.0]},
    "squashed_gaussian": {"mean": [0.3, -1.0], "std": [0.5, 0.2]},
    "beta": {"alpha": [2.0, 0.7], "beta": [3.0, 0.9]},
    "categorical": {"logits": [0.0, 1.0, -1.0, 0.5]},
}


@pytest.mark.parametrize("head", ["gaussian", "squashed_gaussian", "beta", "categorical"])
def test_samples_follow_the_distribution_and_stay_inside_the_bounds(head: str):
    rows = 20_000
    given = {name: np.tile(np.array(v, np.float32), (rows, 1)) for name, v in ONE_POLICY[head].items()}
    low, high = action(head).bounds
    generators = row_generators("digest", 7, [np.arange(rows, dtype=np.float32)])
    drawn = sample(head, given, low, high, generators)
    assert drawn.dtype == np.float32
    assert ((drawn >= low) & (drawn <= high)).all()
    torch.manual_seed(0)
    tensors = {k: torch.from_numpy(v) for k, v in given.items()}
    if head == "categorical":
        expected = td.Categorical(logits=tensors["logits"]).sample()[:, None].float().numpy()
    elif head == "beta":
        expected = LOW + (HIGH - LOW) * td.Beta(tensors["alpha"], tensors["beta"]).sample().numpy()
    else:
        normal = td.Normal(tensors["mean"], tensors["std"]).sample()
        stretched = LOW + (HIGH - LOW) * (torch.tanh(normal).numpy() + 1) / 2
        expected = stretched if head == "squashed_gaussian" else np.clip(normal.numpy(), low, high)
    for q in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(np.quantile(drawn, q, axis=0), np.quantile(expected, q, axis=0), atol=0.06)
    np.testing.assert_allclose(drawn.mean(axis=0), expected.mean(axis=0), atol=0.04)
