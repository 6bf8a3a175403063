"""Small deterministic stand-ins for environments and replay."""

import dataclasses
from typing import Any, Dict, Optional, Sequence

import dm_env
from dm_env import specs
import numpy as np

from envs import vector
from envs.spec import EnvSpec
from learners.agent import HELD_OUT, ReplaySpec


def counting_spec(step_limit: int) -> EnvSpec:
  """Returns the static facts of a `CountingEnvironment`."""
  return EnvSpec(
      name='counting',
      obs_dim=2,
      action_dim=2,
      goal_indices=(0, 1),
      position_indices=(0, 1),
      step_limit=step_limit,
      success_radius=1.0,
      goal=(0.0, float(step_limit)))


class CountingEnvironment(dm_env.Environment):
  """Counts: its state is (episode number, steps in this episode).

  Episodes are numbered from 0. The reward of a step is the number of the step,
  so the return of an episode of T steps is T (T + 1) / 2.
  """

  def __init__(self, step_limit: int, terminate_at: Optional[int] = None):
    """Builds the environment.

    Args:
      step_limit: steps after which an episode is truncated (discount 1).
      terminate_at: steps after which it terminates (discount 0), or None.
    """
    self.spec = counting_spec(step_limit)
    self._terminate_at = terminate_at
    self._episode = -1
    self._elapsed = 0
    self._needs_reset = True

  def reset(self) -> dm_env.TimeStep:
    """Starts the next episode."""
    self._episode += 1
    self._elapsed = 0
    self._needs_reset = False
    return dm_env.restart(self._observation())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Counts one step, whatever the action."""
    del action
    if self._needs_reset:
      return self.reset()
    self._elapsed += 1
    reward = float(self._elapsed)
    if self._elapsed == self._terminate_at:
      self._needs_reset = True
      return dm_env.termination(reward, self._observation())
    if self._elapsed == self.spec.step_limit:
      self._needs_reset = True
      return dm_env.truncation(reward, self._observation())
    return dm_env.transition(reward, self._observation())

  def observation_spec(self) -> specs.Array:
    """Spec of an observation."""
    return vector.default_observation_spec(self.spec)

  def action_spec(self) -> specs.BoundedArray:
    """Spec of an action."""
    return vector.default_action_spec(self.spec)

  def _observation(self) -> np.ndarray:
    state = (self._episode, self._elapsed)
    return np.array([*state, *self.spec.goal], np.float32)


def numbered_episodes(lengths: Sequence[int],
                      max_length: int) -> Dict[str, np.ndarray]:
  """Returns episodes whose numbers tell where they were taken from.

  The state is (episode, time) and the action (episode, time, -1); entries past
  the end of an episode are NaN, so that reading them shows.

  Args:
    lengths: number of transitions of each episode.
    max_length: transitions there is room for, at least the largest length.

  Returns:
    `observation [M, max_length + 1, 4]`, `action [M, max_length, 3]` and
    `length [M]`.
  """
  num = len(lengths)
  observation = np.full((num, max_length + 1, 4), np.nan, np.float32)
  action = np.full((num, max_length, 3), np.nan, np.float32)
  for episode, length in enumerate(lengths):
    for t in range(length + 1):
      observation[episode, t] = (episode, t, -1, -1)
    for t in range(length):
      action[episode, t] = (episode, t, -1)
  return {'observation': observation, 'action': action,
          'length': np.array(lengths, np.int32)}


def random_episodes(replay: ReplaySpec, num_episodes: int, seed: int = 0,
                    num_actions: int = 0) -> Dict[str, Any]:
  """Returns a batch of random episodes that fits an agent's replay columns.

  The first episode has full length, the others ragged ones.

  Args:
    replay: what the agent reads; all its columns must be known here.
    num_episodes: episodes in the batch.
    seed: of the numbers.
    num_actions: how many actions there are where they are discrete, else 0.
  """
  rng = np.random.default_rng(seed)
  limit = replay.columns['action'].shape[0]
  makers = {
      'observation': lambda shape: rng.normal(size=shape),
      'action': lambda shape: (
          rng.integers(num_actions, size=shape) if num_actions else
          rng.uniform(-1.0, 1.0, shape)),
      'reward': lambda shape: rng.normal(size=shape),
      'episode_return': lambda shape: rng.normal(size=shape),
      'length': lambda shape: np.array(
          [limit, *rng.integers(1, limit + 1, num_episodes - 1)]),
  }
  episodes: Dict[str, Any] = {
      name: makers[name]((num_episodes, *column.shape)).astype(column.dtype)
      for name, column in replay.columns.items()
  }
  if replay.held_out_every:
    episodes[HELD_OUT] = random_episodes(
        dataclasses.replace(replay, held_out_every=0),
        replay.held_out_per_batch, seed + 1, num_actions)
  return episodes
