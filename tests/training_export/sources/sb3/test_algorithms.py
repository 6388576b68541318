"""Every algorithm of Stable-Baselines3 and sb3-contrib acts, exported, as its library's own predict."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import sb3_contrib
import torch
from gymnasium.spaces import Dict, Discrete, MultiBinary, MultiDiscrete

from benchmarks.policies.algorithms import CASES, CHOOSE, SAME_NETWORK, VECTOR, Unmoved, Untrained, save, untrained
from carla_mlflow.contract.field_card import FieldCard, observation_spec
from carla_mlflow.contract.memory import RESET, Memory
from carla_mlflow.errors import CardError, ExportError
from training_export.export.export import weights_hash
from training_export.export_flags import NOTES
from training_export.graphs.graph import to_torchscript
from training_export.graphs.onnx_export import to_onnx
from training_export.sources.draft import ActionDraft, CardDraft
from training_export.sources.from_file import load_script
from training_export.sources.sb3.algorithms import ALGORITHMS
from training_export.sources.sb3.archive import identify
from training_export.sources.sb3.source import from_sb3

ROWS = 64


def drawn(policy: Untrained) -> dict[str, np.ndarray]:
    """Observations; of a policy with a memory, each begins an episode."""
    rng = np.random.default_rng(3)
    rows = {
        spec.name: np.concatenate([spec.sample(rng, ROWS // 2), spec.corners(rng, ROWS // 2)])
        for spec in observation_spec(policy.trained.observation)
    }
    if policy.trained.states:
        rows |= {RESET: np.ones(ROWS, np.float32)} | Memory(policy.trained.states).initial(ROWS)
    return rows if policy.trained.valid is None else policy.trained.valid(rows)


def examples_of(policy: Untrained) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in policy.trained.inputs.example(3).values())


def run_torchscript(policy: Untrained, rows: dict[str, np.ndarray], folder: Path) -> list[np.ndarray]:
    (folder / "model.pt").write_bytes(to_torchscript(policy.trained.graph, examples_of(policy)))
    with torch.no_grad():
        outputs = load_script(folder / "model.pt")(*(torch.from_numpy(array) for array in rows.values()))
    return [output.numpy() for output in outputs]


def run_onnx(policy: Untrained, rows: dict[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    data = to_onnx(policy.trained.graph, examples_of(policy), tuple(rows))
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, rows)


def operations(policy: Untrained) -> str:
    """The traced graph as text, without the numbers that torch gives classes of the same name."""
    traced = torch.jit.trace(policy.trained.graph.eval(), examples_of(policy), check_trace=False)
    return re.sub(r"_mangle_\d+", "", str(traced.inlined_graph))


FAST = {"PPO", "SAC", "MaskablePPO"}
"""Algorithms whose every observation is tried among the tests that are not slow: of the others a choice is."""


def each_network() -> list[pytest.param]:
    """Every network that an algorithm has of its own; RecurrentPPO's others are in test_recurrent."""
    own = [(name, seen) for name, seen in CASES if name not in SAME_NETWORK]
    cases = [(name, seen) for name, seen in own if name != "RecurrentPPO" or seen == "Dict"]
    slow = [case for case in cases if case[0] not in FAST and case[1] != "choice"]
    return [pytest.param(*case, marks=[pytest.mark.slow] if case in slow else [], id="-".join(case)) for case in cases]


@pytest.mark.parametrize(("algorithm", "observation"), each_network())
def test_the_exported_graphs_act_as_the_library_does(algorithm: str, observation: str, tmp_path: Path):
    policy = untrained(algorithm, observation)
    rows = drawn(policy)
    wanted = policy.predict(rows)
    golden = policy.trained.answer(rows)
    assert policy.trained.training["algorithm"] == algorithm
    np.testing.assert_array_equal(golden.raw, wanted)
    assert len(np.unique(wanted, axis=0)) > 1, "the policy does something"
    following = {} if golden.rollouts is None else golden.rollouts.next
    for outputs in (run_torchscript(policy, rows, tmp_path), run_onnx(policy, rows)):
        for got, want in zip(outputs, [wanted, *golden.distribution.values(), *following.values()], strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=5e-6)  # sums over 3,888 pixels, in another order


@pytest.mark.parametrize(("algorithm", "observation"), [case for case in CASES if case[0] in SAME_NETWORK], ids=str)
def test_an_algorithm_of_the_same_network_as_another_exports_the_same_graph(algorithm: str, observation: str):
    policy, other = untrained(algorithm, observation), untrained(SAME_NETWORK[algorithm], observation)
    rows = drawn(policy)
    np.testing.assert_array_equal(policy.trained.answer(rows).raw, policy.predict(rows))
    assert policy.trained.training["algorithm"] == algorithm
    assert policy.trained.observation == other.trained.observation
    assert policy.trained.action == other.trained.action
    assert weights_hash(policy.trained.graph) == weights_hash(other.trained.graph)
    assert operations(policy) == operations(other)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_is_told_without_unpickling(algorithm: str, tmp_path: Path):
    save(algorithm, "vector", tmp_path / "model.zip")
    assert identify(tmp_path / "model.zip")[1]["algorithm"] == algorithm


def test_a_masked_choice_never_wins_and_a_mask_without_any_gives_the_first_as_sb3_contrib_does():
    policy = untrained("MaskablePPO", "vector")
    rng = np.random.default_rng(0)
    seen = VECTOR.sample()[None].repeat(16, axis=0) + rng.normal(size=(16, 1)).astype(np.float32)
    rows = {
        "observation": seen.clip(-2, 2).astype(np.float32),
        "action_mask": np.uint8([[i >> bit & 1 for bit in range(4)] for i in range(16)]),
    }
    raw, logits = (output.detach() for output in policy.trained.graph(*map(torch.from_numpy, rows.values())))
    chosen = raw[:, 0].to(torch.int64).numpy()
    assert rows["action_mask"][np.arange(1, 16), chosen[1:]].all()
    np.testing.assert_array_equal(chosen, policy.predict(rows)[:, 0])
    assert chosen[0] == 0
    probabilities = logits.exp().numpy()
    assert (probabilities[1:][rows["action_mask"][1:] == 0] == 0).all(), "so a sample never takes a masked choice"


def test_masks_of_several_choices_lie_side_by_side(tmp_path: Path):
    space = MultiDiscrete([3, 2])
    model = sb3_contrib.MaskablePPO("MlpPolicy", Unmoved(VECTOR, space), seed=0, device="cpu")
    model.save(tmp_path / "model.zip")
    draft = CardDraft(ActionDraft("named", ["gear", "light"], fallback={"gear": 0, "light": 0}))
    found = from_sb3(tmp_path / "model.zip", draft, None, True, no_vecnormalize=True)
    assert found.observation["action_mask"].shape == [5]
    masks = found.valid({"action_mask": np.random.default_rng(0).integers(0, 2, (40, 5), np.uint8)})["action_mask"]
    assert masks[:, :3].any(axis=1).all()
    assert masks[:, 3:].any(axis=1).all()
    seen = np.random.default_rng(1).uniform(0, 2, (40, 3)).astype(np.float32)
    raw, logits = found.graph(torch.from_numpy(seen), torch.from_numpy(masks))
    wanted, _ = model.predict(seen, deterministic=True, action_masks=masks)
    np.testing.assert_array_equal(raw.detach(), wanted)
    golden = found.answer({"observation": seen, "action_mask": masks})
    np.testing.assert_allclose(logits.detach(), golden.distribution["logits"], rtol=1e-5, atol=1e-6)


def test_compared_observations_have_masks_that_allow_a_choice():
    policy = untrained("MaskablePPO", "vector")
    masks = policy.trained.valid({"action_mask": np.zeros((9, 4), np.uint8)})["action_mask"]
    assert (masks.sum(axis=1) == 1).all()
    assert len(np.unique(masks, axis=0)) == 4


@pytest.mark.parametrize("squash", [True, False])
@pytest.mark.parametrize("policy", ["MlpPolicy", "LinearPolicy"])
def test_ars_is_linear_or_not_and_squashed_or_not(policy: str, squash: bool, tmp_path: Path):
    found = untrained("ARS", "vector", policy=policy, squash_output=squash)
    rows = drawn(found)
    for outputs in (run_torchscript(found, rows, tmp_path), run_onnx(found, rows)):
        np.testing.assert_allclose(outputs[0], found.predict(rows), rtol=1e-5, atol=1e-6)


def test_ars_may_choose_from_a_table(tmp_path: Path):
    sb3_contrib.ARS("MlpPolicy", Unmoved(VECTOR, Discrete(4)), seed=0, device="cpu").save(tmp_path / "model.zip")
    found = from_sb3(tmp_path / "model.zip", CardDraft(CHOOSE), None, True, no_vecnormalize=True)
    assert (found.action.head, found.values is not None) == ("deterministic", True)
    rows = {"observation": VECTOR.sample()[None].repeat(3, axis=0)}
    np.testing.assert_array_equal(found.values(rows).argmax(axis=1), found.answer(rows).raw[:, 0])


def test_two_observations_with_the_names_of_masks_leave_none_for_the_librarys_own(tmp_path: Path):
    space = Dict({"action_mask": MultiBinary(4), "action_masks": MultiBinary(4)})
    model = sb3_contrib.MaskablePPO("MultiInputPolicy", Unmoved(space, Discrete(4)), seed=0, device="cpu")
    model.save(tmp_path / "model.zip")
    with pytest.raises(ExportError, match=r"observes both action_mask and action_masks, .* rename one"):
        from_sb3(tmp_path / "model.zip", CardDraft(CHOOSE), None, True, no_vecnormalize=True)


def test_flags_and_masks_of_the_authors_card_have_the_bounds_of_the_space(tmp_path: Path):
    space = Dict({"lights": MultiBinary(3)})
    model = sb3_contrib.MaskablePPO("MultiInputPolicy", Unmoved(space, Discrete(4)), seed=0, device="cpu")
    model.save(tmp_path / "model.zip")
    section = {"lights": FieldCard("uint8", [3]), "action_mask": FieldCard("uint8", [4])}
    draft = CardDraft(CHOOSE, section)
    found = from_sb3(tmp_path / "model.zip", draft, None, True, no_vecnormalize=True)
    assert {name: (field.low, field.high) for name, field in found.observation.items()} == dict.fromkeys(
        section, (0, 1)
    )
    wide = CardDraft(CHOOSE, {**section, "lights": FieldCard("uint8", [3], 0, 255)})
    with pytest.raises(CardError, match="observation lights: the policy takes no choices, low: 0, high: 1"):
        from_sb3(tmp_path / "model.zip", wide, None, True, no_vecnormalize=True)


def test_help_names_every_algorithm():
    named = NOTES.replace("QR-DQN", "QRDQN")
    for algorithm in ALGORITHMS:
        assert re.search(rf"\b{algorithm}\b", named), algorithm


def test_recurrent_ppo_takes_a_dict_without_multidiscrete():
    policy = untrained("RecurrentPPO", "Dict")
    assert set(policy.trained.observation) == {"camera", "command", "lidar_front", "lights", "speed"}
