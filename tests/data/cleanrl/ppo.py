"""A training script of the shape of CleanRL's ppo.py, for discrete actions: its Agent's attributes, its file."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv
from torch import nn
from torch.distributions import Categorical


def tower(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))


class Agent(nn.Module):
    def __init__(self, envs):
        super().__init__()
        inputs = int(np.prod(envs.single_observation_space.shape))
        self.critic = tower(inputs, 1)
        self.actor = tower(inputs, envs.single_action_space.n)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


def train(env_id, path):
    """Makes the steps and saves the agent."""
    envs = SyncVectorEnv([lambda: gym.make(env_id)])
    agent = Agent(envs)
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)
    obs, _ = envs.reset(seed=0)
    for _ in range(60):
        action, log_prob, _, _ = agent.get_action_and_value(torch.Tensor(obs))
        obs, reward, _, _, _ = envs.step(action.numpy())
        loss = -(log_prob * torch.Tensor(reward)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(agent.state_dict(), path)
    return agent
