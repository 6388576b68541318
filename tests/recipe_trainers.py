"""Trains tiny policies with the libraries of docs/how-to/recipes.md, each in a process: `recipe_trainers.py NAME`.

Each leaves in the current folder the files that the library leaves, and expected.npz: 1,000 observations, and the
action that the library itself takes for each when it does not explore.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import nn

WIDTH, ROWS = 6, 1000
SCALE = np.array([1, 5, 0.1, 3, 10, 0.5], dtype=np.float32)
"""Of each element, so that a policy without its normaliser's statistics would act otherwise."""


class Track(gym.Env):  # type: ignore[type-arg]
    """Random observations; the reward is for steering by the first and accelerating by the second element."""

    def __init__(self, discrete: bool = False) -> None:
        self.observation_space = spaces.Box(-5 * SCALE, 5 * SCALE)
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (2,))
        self._step = 0

    def _observe(self) -> Any:
        low, high = self.observation_space.low, self.observation_space.high
        self._last = np.clip(self.np_random.normal(size=WIDTH) * SCALE + SCALE, low, high).astype(np.float32)
        return self._last

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._step = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        wanted = np.tanh(self._last[:2])
        reward = -float(np.square(np.ravel(action)[:2] - wanted[: np.size(action)]).sum())
        self._step += 1
        return self._observe(), reward, self._step >= 20, False, {}


def rows() -> Any:
    """1,000 observations, some at the bounds, float32 (1000, 6)."""
    rng = np.random.default_rng(7)
    return np.clip(rng.normal(size=(ROWS, WIDTH)) * 2 * SCALE, -5 * SCALE, 5 * SCALE).astype(np.float32)


def keep(action: Any) -> None:
    np.savez("expected.npz", observation=rows(), action=np.asarray(action, dtype=np.float32).reshape(ROWS, -1))


def rsl_rl(kind: str = "MLPModel", distribution: str = "GaussianDistribution") -> None:
    from rsl_rl.env import VecEnv
    from rsl_rl.runners import OnPolicyRunner
    from tensordict import TensorDict

    class Cars(VecEnv):
        num_envs, num_actions, max_episode_length, device, cfg = 16, 2, 50, "cpu", {}

        def __init__(self) -> None:
            self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.long)
            self.rng = np.random.default_rng(0)

        def get_observations(self) -> TensorDict:
            self.last = torch.tensor((self.rng.normal(size=(self.num_envs, WIDTH)) + 1) * SCALE, dtype=torch.float32)
            return TensorDict({"policy": self.last}, batch_size=[self.num_envs])

        def step(self, actions: torch.Tensor) -> Any:
            reward = -(actions - torch.tanh(self.last[:, :2])).square().sum(-1)
            self.episode_length_buf += 1
            done = self.episode_length_buf >= self.max_episode_length
            self.episode_length_buf[done] = 0
            return self.get_observations(), reward, done, {"time_outs": done}

    memory = {"rnn_type": "lstm", "rnn_hidden_dim": 16, "rnn_num_layers": 1} if kind == "RNNModel" else {}
    model = {"class_name": kind, "hidden_dims": [32, 32], "activation": "elu", "obs_normalization": True, **memory}
    settings = {
        "num_steps_per_env": 8,
        "save_interval": 100,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": {**model, "distribution_cfg": {"class_name": distribution}},
        "critic": model,
        "algorithm": {"class_name": "PPO", "num_learning_epochs": 2, "num_mini_batches": 2, "learning_rate": 1e-2},
    }
    runner = OnPolicyRunner(Cars(), settings, log_dir=None)
    runner.learn(4)
    runner.save("model_1499.pt")
    runner.export_policy_to_jit(".")
    runner.export_policy_to_onnx(".")
    policy = runner.get_inference_policy()
    if kind == "RNNModel":
        keep_rollouts(lambda observed: policy(TensorDict({"policy": observed}, [len(observed)])), policy.reset)
    else:
        with torch.inference_mode():
            keep(policy(TensorDict({"policy": torch.from_numpy(rows())}, batch_size=[ROWS])))


def keep_rollouts(act: Any, reset: Any) -> None:
    """1,000 steps of a policy with a memory, in 8 cars whose episodes begin at steps of their own."""
    observed = rows().reshape(-1, 8, WIDTH)
    begins = np.random.default_rng(3).random(observed.shape[:2]) < 0.05
    begins[0] = True
    actions = []
    reset()  # of the environments in training, which were more
    with torch.inference_mode():
        for step, (row, begin) in enumerate(zip(observed, begins, strict=True)):
            if step:
                reset(torch.from_numpy(begin))
            actions.append(act(torch.from_numpy(row)).clone().numpy())
    np.savez("expected.npz", observation=observed, action=np.stack(actions), reset=begins)


def rsl_rl_beta() -> None:
    rsl_rl(distribution="BetaDistribution")


def rsl_rl_lstm() -> None:
    rsl_rl(kind="RNNModel")


class LabExport(nn.Module):
    """What Isaac Lab 2 exports with rsl_rl 2 and 3: normaliser, actor, and `reset` (isaaclab_rl/rsl_rl/exporter.py)."""

    def __init__(self, memory: bool = False) -> None:
        super().__init__()
        from rsl_rl.modules import EmpiricalNormalization

        self.normalizer = EmpiricalNormalization(WIDTH)
        self.normalizer.update(torch.from_numpy(rows()))
        self.rnn = nn.LSTM(WIDTH, 16) if memory else nn.Identity()
        self.actor = nn.Sequential(nn.Linear(16 if memory else WIDTH, 32), nn.ELU(), nn.Linear(32, 2))
        self.register_buffer("hidden_state", torch.zeros(1, 1, 16))
        self.register_buffer("cell_state", torch.zeros(1, 1, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.actor(self.normalizer(x))

    @torch.jit.export
    def reset(self) -> None:
        pass


class LabMemory(LabExport):
    """Likewise with a hidden state, which is changed by each call."""

    def __init__(self) -> None:
        super().__init__(memory=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, (hidden, cell) = self.rnn(self.normalizer(x).unsqueeze(0), (self.hidden_state, self.cell_state))
        self.hidden_state[:] = hidden
        self.cell_state[:] = cell
        return self.actor(out.squeeze(0))

    @torch.jit.export
    def reset(self) -> None:
        self.hidden_state[:] = 0.0
        self.cell_state[:] = 0.0


def isaac_lab() -> None:
    torch.jit.script(LabMemory().eval()).save("recurrent.pt")
    policy = LabExport().eval()
    torch.jit.script(policy).save("policy.pt")
    names: dict[str, Any] = {"input_names": ["obs"], "output_names": ["actions"], "dynamic_axes": {}}
    torch.onnx.export(policy, (torch.zeros(1, WIDTH),), "policy.onnx", opset_version=11, dynamo=False, **names)
    with torch.inference_mode():
        keep(policy(torch.from_numpy(rows())))


def cleanrl(script: str, discrete: bool) -> Any:
    shutil.copy(Path(__file__).parent / "data" / "cleanrl" / f"{script}.py", ".")
    gym.register("Track-v0", Track, kwargs={"discrete": discrete})
    sys.path.append(".")
    return __import__(script).train("Track-v0", f"{script}.cleanrl_model")


def cleanrl_continuous() -> None:
    agent, envs = cleanrl("ppo_continuous_action", discrete=False)
    normalised = envs.envs[0]
    normalising = normalised.env  # clips what NormalizeObservation makes
    normalising.update_running_mean = False
    seen = np.stack([normalised.observation(normalising.observation(row)) for row in rows()])
    with torch.inference_mode():
        keep(agent.actor_mean(torch.Tensor(seen)))


def cleanrl_discrete() -> None:
    agent = cleanrl("ppo", discrete=True)
    with torch.inference_mode():
        keep(agent.actor(torch.from_numpy(rows())).argmax(1))


def rllib() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, address="local")

    class Configured(Track):
        def __init__(self, _: Any) -> None:
            super().__init__()

    settings = PPOConfig().environment(Configured).env_runners(num_env_runners=0)
    settings.learners(num_learners=0).rl_module(model_config={"fcnet_hiddens": [32, 32]})
    settings.training(train_batch_size_per_learner=128, minibatch_size=64, num_epochs=2, lr=1e-2)
    algorithm = settings.reporting(min_time_s_per_iteration=0).build_algo()
    try:
        algorithm.train()
        algorithm.save_to_path(str(Path("checkpoint").resolve()))
        module = algorithm.get_module()
        with torch.inference_mode():
            inputs = module.forward_inference({"obs": torch.from_numpy(rows())})["action_dist_inputs"]
            keep(module.get_inference_action_dist_cls().from_logits(inputs).to_deterministic().sample())
    finally:
        algorithm.stop()
        ray.shutdown()


def torchrl() -> None:
    from tensordict import TensorDict
    from tensordict.nn import NormalParamExtractor, TensorDictModule
    from torchrl.envs import ExplorationType, set_exploration_type
    from torchrl.modules import MLP, ProbabilisticActor, TanhNormal

    network = nn.Sequential(MLP(in_features=WIDTH, out_features=4, num_cells=[32, 32]), NormalParamExtractor())
    parameters = TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"])
    bounds = {"low": -torch.ones(2), "high": torch.ones(2)}
    actor = ProbabilisticActor(
        parameters, in_keys=["loc", "scale"], distribution_class=TanhNormal, distribution_kwargs=bounds
    )
    optimizer = torch.optim.Adam(actor.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    for _ in range(20):
        observed = torch.tensor((rng.normal(size=(64, WIDTH)) + 1) * SCALE, dtype=torch.float32)
        acted = actor(TensorDict({"observation": observed}, [64]))
        loss = (acted["action"] - torch.tanh(observed[:, :2])).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(actor.state_dict(), "actor.pt")
    with torch.inference_mode(), set_exploration_type(ExplorationType.DETERMINISTIC):
        keep(actor(TensorDict({"observation": torch.from_numpy(rows())}, [ROWS]))["action"])


if __name__ == "__main__":
    torch.manual_seed(0)
    globals()[sys.argv[1]]()
