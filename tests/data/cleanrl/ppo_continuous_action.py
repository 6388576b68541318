"""A script of the shape of CleanRL's ppo_continuous_action.py: its Agent's attributes, its wrappers, its file."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv
from torch import nn
from torch.distributions import Normal


def make_env(env_id):
    def thunk():
        env = gym.wrappers.ClipAction(gym.wrappers.FlattenObservation(gym.make(env_id)))
        env = gym.wrappers.NormalizeObservation(env)
        return gym.wrappers.TransformObservation(env, lambda obs: np.clip(obs, -10, 10), env.observation_space)

    return thunk


def tower(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))


class Agent(nn.Module):
    def __init__(self, envs):
        super().__init__()
        inputs = int(np.prod(envs.single_observation_space.shape))
        actions = int(np.prod(envs.single_action_space.shape))
        self.critic = tower(inputs, 1)
        self.actor_mean = tower(inputs, actions)
        self.actor_logstd = nn.Parameter(torch.zeros(1, actions))

    def get_action_and_value(self, x, action=None):
        mean = self.actor_mean(x)
        probs = Normal(mean, self.actor_logstd.expand_as(mean).exp())
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action).sum(1), probs.entropy().sum(1), self.critic(x)


def train(env_id, path):
    """Makes the steps and saves the agent, and (CleanRL's file does not) what the environment normalises by."""
    envs = SyncVectorEnv([make_env(env_id)])
    agent = Agent(envs)
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)
    obs, _ = envs.reset(seed=0)
    for _ in range(60):
        action, log_prob, _, value = agent.get_action_and_value(torch.Tensor(obs))
        obs, reward, _, _, _ = envs.step(action.numpy())
        loss = -(log_prob * torch.Tensor(reward)).mean() + (value.squeeze(1) - torch.Tensor(reward)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(agent.state_dict(), path)
    statistics = envs.envs[0].get_wrapper_attr("obs_rms")
    np.savez("obs_rms.npz", mean=statistics.mean, var=statistics.var)
    return agent, envs
