"""An author's own environment, policy and baseline, as files in the working folder."""

from __future__ import annotations

from pathlib import Path

ENVIRONMENT = '''
import gymnasium as gym
import numpy as np

class Lane(gym.Env):
    """Keep to the middle of a lane for some steps; three metres off is a wall."""

    observation_space = gym.spaces.Box(-5.0, 5.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, length=12, jump=0.0):
        self.length, self.jump, self.taken = length, jump, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.offset, self.steps = float(self.np_random.uniform(-2.5, 2.5)), 0
        return self._see(), {}

    def step(self, action):
        self.taken.append(action)
        self.steps += 1
        self.offset += 0.5 * float(action[1])
        hit = abs(self.offset) > 3.0
        late = self.steps >= self.length
        info = {"crash": hit, "is_success": late and abs(self.offset) < 1.0, "note": "slippery"}
        return self._see(), -abs(self.offset), hit, late and not hit, info

    def _see(self):
        return np.array([self.offset + self.jump * (self.steps == 3), self.steps / 12], np.float32)

def make(length=12, jump=0.0):
    return Lane(length, jump)

def still(observation):
    return np.zeros(2, np.float32)

def nothing():
    return None

def leaves():
    raise SystemExit(0)

def breaks():
    raise RuntimeError("no simulator\\nhere")

number = 7
'''
POLICY = """
import torch

class Centre(torch.nn.Module):
    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return torch.stack([0.25 * torch.ones_like(observation[:, 0]), -observation[:, 0]], dim=1)

def build():
    return Centre()
"""
CARD = """
name: mine
version: 0.1.0
description: keeps to the middle
observation:
  observation: {dtype: float32, shape: [2], low: -5, high: 5}
action:
  head: deterministic
  raw: {acceleration: [-1, 1], steer: [-1, 1]}
  control: acceleration_steer
  rate_hz: 10
  fallback: {throttle: 0, brake: 1, steer: 0}
"""


def write_own_files(folder: Path) -> None:
    """my_env.py, my_policy.py and card.yaml."""
    (folder / "my_env.py").write_text(ENVIRONMENT)
    (folder / "my_policy.py").write_text(POLICY)
    (folder / "card.yaml").write_text(CARD)
