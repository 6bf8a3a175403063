"""Gymnasium's LunarLander, with its rewards as they come or at the end.

LunarLander-v3 of Gymnasium (v2 of older ones had a bug in its wind, which is
off here too) on the wheel `box2d` 2.3.10. Landing well is worth about 250; an
episode terminates when the lander crashes, leaves the screen or comes to rest,
and is truncated after 1000 steps.
"""

import os
from typing import Any, List

import dm_env
from dm_env import specs
import numpy as np

from envs import vector
from envs.spec import EnvSpec
from envs.vector import StackedEnvironments

STEP_LIMIT = 1000
_ID = 'LunarLander-v3'


def lunar_lander_spec(name: str) -> EnvSpec:
  """Returns the static facts of LunarLander under one of its names."""
  return EnvSpec(name=name, obs_dim=8, action_dim=0, num_actions=4,
                 step_limit=STEP_LIMIT)


def lunar_lander(name: str, sparse: bool, num_envs: int = 1,
                 seed: int = 0) -> StackedEnvironments:
  """Builds `num_envs` landers that step together.

  Args:
    name: what the environment is registered as.
    sparse: withhold rewards and pay their sum with the last step.
    num_envs: how many.
    seed: of all of them; each gets its own.
  """
  spec = lunar_lander_spec(name)
  seeds = np.random.SeedSequence(seed).generate_state(num_envs)
  landers: List[dm_env.Environment] = [
      LunarLander(spec, sparse, int(s)) for s in seeds]
  return StackedLanders(landers, spec)


class LunarLander(dm_env.Environment):
  """One lander behind dm_env's interface."""

  def __init__(self, spec: EnvSpec, sparse: bool, seed: int):
    """Builds the lander.

    Args:
      spec: its static facts.
      sparse: withhold rewards and pay their sum with the last step.
      seed: of all its episodes.
    """
    # Drawing needs no display then; the environment imports pygame for it.
    os.environ.setdefault('SDL_VIDEODRIVER', 'dummy')
    os.environ.setdefault('PYGAME_HIDE_SUPPORT_PROMPT', '1')
    import gymnasium
    self._spec, self._sparse = spec, sparse
    self._lander: Any = gymnasium.make(
        _ID, render_mode='rgb_array', max_episode_steps=spec.step_limit)
    self._seeds = np.random.default_rng(seed)
    self._needs_reset = True
    self._withheld = 0.0

  def reset(self) -> dm_env.TimeStep:
    """Starts a new episode."""
    self._needs_reset = False
    self._withheld = 0.0
    observation, _ = self._lander.reset(
        seed=int(self._seeds.integers(2**31)))
    return dm_env.restart(np.asarray(observation, np.float32))

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Steps once, or starts a new episode after the last step of one."""
    if self._needs_reset:
      return self.reset()
    observation, reward, terminated, truncated, _ = self._lander.step(
        int(action))
    observation, reward = np.asarray(observation, np.float32), float(reward)
    self._needs_reset = terminated or truncated
    if self._sparse:
      self._withheld += reward
      reward = self._withheld if self._needs_reset else 0.0
    if terminated:
      return dm_env.termination(reward, observation)
    if truncated:
      return dm_env.truncation(reward, observation)
    return dm_env.transition(reward, observation)

  def render(self) -> np.ndarray:
    """Draws the lander, `[H, W, 3]` uint8."""
    return np.asarray(self._lander.render())

  def observation_spec(self) -> specs.Array:
    """Spec of an observation."""
    return vector.default_observation_spec(self._spec)

  def action_spec(self) -> specs.BoundedArray:
    """Spec of an action."""
    return vector.default_action_spec(self._spec)


class StackedLanders(StackedEnvironments):
  """Several landers that step together and can be looked at."""

  def render(self) -> np.ndarray:
    """Draws the first lander, `[H, W, 3]` uint8."""
    lander = self._environments[0]
    assert isinstance(lander, LunarLander)
    return lander.render()
