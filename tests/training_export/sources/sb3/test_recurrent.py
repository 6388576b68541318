"""RecurrentPPO of sb3-contrib: what its zip says, and that the export acts as sb3-contrib's own predict() does."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from sb3_contrib import RecurrentPPO
from sb3_policies import CHOICES, CHOOSE, DRIVE, FIRST, MIXED, PEDALS, SMALL_BOTH, SMALL_CNN, VECTOR, Toy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from benchmarks.recurrent import difference, exported, trained
from carla_mlflow import Engine
from carla_mlflow.contract.backend_names import BACKENDS
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.contract.field_card import FieldCard, observation_spec
from carla_mlflow.contract.memory import RESET, Memory
from carla_mlflow.errors import ExportError
from training_export.graphs.graph import to_torchscript
from training_export.graphs.onnx_export import to_onnx
from training_export.sources.draft import CardDraft
from training_export.sources.sb3.archive import identify
from training_export.sources.sb3.source import from_sb3
from training_export.sources.source import SourceOptions, open_source
from training_export.sources.trained import TrainedPolicy

IMAGE_CARD = replace(CHOOSE, observation={"observation": FieldCard("uint8", [3, 36, 36])})
KINDS: dict[str, tuple[str, Any, Any, CardDraft, dict[str, Any] | None, dict[str, Any]]] = {
    "plain": ("MlpLstmPolicy", VECTOR, PEDALS, DRIVE, None, {}),
    "two layers, normalised": ("MlpLstmPolicy", VECTOR, CHOICES, CHOOSE, {}, {"n_lstm_layers": 2}),
    "shared with the critic": (
        "MlpLstmPolicy",
        VECTOR,
        PEDALS,
        DRIVE,
        None,
        {"shared_lstm": True, "enable_critic_lstm": False, "lstm_kwargs": {"bias": False}},
    ),
    "images": ("CnnLstmPolicy", FIRST, CHOICES, IMAGE_CARD, None, {"enable_critic_lstm": False, **SMALL_CNN}),
    "mixed": ("MultiInputLstmPolicy", MIXED, PEDALS, DRIVE, {"norm_obs_keys": ["speed"]}, SMALL_BOTH),
}


def saved(folder: Path, name: str) -> tuple[Any, VecNormalize | None]:
    """A policy after 64 steps, with larger weights, saved as model.zip and, if normalised, vec.pkl."""
    policy, observation, action, _, normalise, kwargs = KINDS[name]
    env: Any = DummyVecEnv([lambda: Toy(copy.deepcopy(observation), action)])
    statistics = None
    if normalise is not None:
        env = statistics = VecNormalize(env, norm_reward=False, **normalise)
    kwargs = {"lstm_hidden_size": 12, "net_arch": [8], **kwargs}
    model = RecurrentPPO(policy, env, n_steps=32, batch_size=32, policy_kwargs=kwargs, seed=7, device="cpu")
    model.learn(64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            width = parameter[0].numel() if parameter.dim() > 1 else 9
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator) / width**0.5)
    model.save(folder / "model.zip")
    if statistics is not None:
        statistics.training = False
        statistics.save(str(folder / "vec.pkl"))
    return model, statistics


def predicted(model: Any, statistics: VecNormalize | None, steps: list[Any], begins: NDArray[np.bool_]) -> list[Any]:
    """The actions of sb3-contrib's own predict(), whose states it carries itself."""
    state, found = None, []
    for seen, begin in zip(steps, begins, strict=True):
        given = seen if statistics is None else statistics.normalize_obs(seen)
        action, state = model.predict(given, state, begin, deterministic=True)
        found.append(action.reshape(len(action), -1))
    return found


def graphs_of(policy: TrainedPolicy) -> Iterator[Callable[[dict[str, NDArray[Any]]], list[NDArray[np.float32]]]]:
    """The exported graph in torch and in ONNX Runtime; each takes the inputs by name."""
    examples = tuple(torch.from_numpy(array) for array in policy.inputs.example(3).values())
    scripted = torch.jit.load(io.BytesIO(to_torchscript(policy.graph, examples)))
    yield lambda inputs: [out.numpy() for out in scripted(*map(torch.from_numpy, inputs.values()))]
    session = InferenceSession(to_onnx(policy.graph, examples, policy.inputs.names), providers=["CPUExecutionProvider"])
    yield lambda inputs: session.run(None, inputs)


@pytest.mark.parametrize("name", KINDS)
def test_the_export_acts_as_predict_does_from_step_to_step(name: str, tmp_path: Path):
    model, statistics = saved(tmp_path, name)
    _, observation, _, draft, _, _ = KINDS[name]
    policy = from_sb3(tmp_path / "model.zip", draft, tmp_path / "vec.pkl" if statistics else None, trust_pickle=True)
    rng, single = np.random.default_rng(0), not hasattr(observation, "spaces")
    specs = observation_spec(policy.observation)
    drawn = [{spec.name: spec.sample(rng, 3) for spec in specs} for _ in range(20)]
    begins = rng.random((20, 3)) < 0.2
    steps: list[Any] = [step["observation"] if single else step for step in drawn]
    wanted = predicted(model, statistics, steps, begins)
    for run in graphs_of(policy):
        state = Memory(policy.states).initial(3)
        for step, begin, action in zip(drawn, begins, wanted, strict=True):
            raw, *others = run({**step, RESET: begin.astype(np.float32), **state})
            state = dict(zip(policy.states, others[-len(policy.states) :], strict=True))
            np.testing.assert_allclose(raw, action, atol=2e-6)


@pytest.fixture(scope="module")
def model() -> RecurrentPPO:
    return trained(32)


@pytest.fixture(scope="module")
def engines(model: RecurrentPPO) -> dict[str, Engine]:
    return exported(model)


def test_the_thousand_steps_of_the_benchmark_hardly_drift_apart(model: RecurrentPPO, engines: dict[str, Engine]):
    for engine in engines.values():
        action, states = difference(model, engine, steps=200, episodes=4)
        assert action < 1e-5
        assert states < 1e-5


def test_the_card_says_the_states_with_the_batch_axis_first(tmp_path: Path):
    saved(tmp_path, "two layers, normalised")
    policy = from_sb3(tmp_path / "model.zip", CHOOSE, tmp_path / "vec.pkl", trust_pickle=True)
    assert policy.states == {"h": StateCard("float32", [2, 12]), "c": StateCard("float32", [2, 12])}
    assert policy.training["algorithm"] == "RecurrentPPO"


def test_it_is_identified_before_anything_is_unpickled(tmp_path: Path):
    saved(tmp_path, "plain")
    assert identify(tmp_path / "model.zip")[1]["algorithm"] == "RecurrentPPO"
    with pytest.raises(ExportError, match="RecurrentPPO policy with its spaces"):
        from_sb3(tmp_path / "model.zip", DRIVE, None, trust_pickle=False)


def test_a_section_state_that_is_not_the_policys_own_is_refused(tmp_path: Path):
    saved(tmp_path, "plain")
    card = tmp_path / "card.yaml"
    card.write_text(
        "action: {control: acceleration_steer, raw: [acceleration, steer], full_throttle: 2, full_brake: -3, "
        "full_right: 0.7}\nstate: {h: {dtype: float32, shape: [4]}}\n"
    )
    options = SourceOptions(str(tmp_path / "model.zip"), card, trust_pickle=True)
    with pytest.raises(ExportError, match="`state` is not the policy's own: h, c"):
        open_source(options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rollout_has_the_same_bits_alone_and_in_a_batch_of_64(engines: dict[str, Engine], backend: str):
    engine = engines[backend]
    rng = np.random.default_rng(2)
    steps = rng.uniform(-1, 1, (40, 64, 16)).astype(np.float32)

    def bits(rows: slice) -> list[bytes]:
        state, found = None, []
        for seen in steps:
            actions = engine.act({"observation": seen[rows]}, state=state)
            state = actions.state
            first = [actions.control, actions.raw, *actions.distribution.values(), *state.values()]
            found.append(b"".join(np.ascontiguousarray(part[-1]).tobytes() for part in first))
        return found

    alone = bits(slice(63, 64))
    assert bits(slice(0, 64)) == alone == bits(slice(43, 64))
