"""What environments that step together in arrays have in common."""

import abc
from typing import NamedTuple

import dm_env
from dm_env import specs
import numpy as np

from envs import vector
from envs.spec import EnvSpec


class Outcome(NamedTuple):
  """What a step has led to; what rewards and ends say at a FIRST is ignored.

  Attributes:
    observation: `[E, ...]`.
    reward: `[E]`.
    terminated: `[E]` bool, whose episode ended for good. Reaching the step
      limit is not meant: that truncates.
  """
  observation: np.ndarray
  reward: np.ndarray
  terminated: np.ndarray


class LockstepEnvironment(abc.ABC):
  """E environments in arrays: a `VectorEnvironment` short of its dynamics.

  It counts steps, ends episodes and starts new ones by dm_env's rules. A
  subclass says how episodes begin, what a step changes and what comes of it.
  """

  def __init__(self, spec: EnvSpec, num_envs: int):
    """Takes note of what does not change.

    Args:
      spec: static facts about one environment.
      num_envs: E.
    """
    self.spec = spec
    self.num_envs = num_envs
    self._elapsed = np.zeros(num_envs, np.int32)
    self._done = np.ones(num_envs, bool)

  @abc.abstractmethod
  def _begin(self, mask: np.ndarray) -> None:
    """Puts the environments in `mask`, `[E]`, at the start of an episode."""

  @abc.abstractmethod
  def _advance(self, action: np.ndarray, mask: np.ndarray) -> None:
    """Steps the environments in `mask`, `[E]`; `action` has a row for each."""

  @abc.abstractmethod
  def _outcome(self) -> Outcome:
    """Returns where everything is now."""

  def reset(self) -> dm_env.TimeStep:
    """Starts a new episode in every environment."""
    everyone = np.ones(self.num_envs, bool)
    self._start(everyone)
    return self._timestep(everyone)

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Steps every environment; finished ones start a new episode instead."""
    action = np.asarray(action)
    vector.check_actions(action, self.num_envs, self.spec)
    first = self._done
    self._advance(action, ~first)
    self._elapsed += 1
    if first.any():
      self._start(first)
    return self._timestep(first)

  def observation_spec(self) -> specs.Array:
    """Spec of one environment's observation."""
    return vector.default_observation_spec(self.spec)

  def action_spec(self) -> specs.BoundedArray:
    """Spec of one environment's action."""
    return vector.default_action_spec(self.spec)

  def _start(self, mask: np.ndarray) -> None:
    self._begin(mask)
    self._elapsed[mask] = 0

  def _timestep(self, first: np.ndarray) -> dm_env.TimeStep:
    observation, reward, terminated = self._outcome()
    terminated = terminated & ~first
    late = self._elapsed >= self.spec.step_limit
    self._done = (terminated | late) & ~first
    return dm_env.TimeStep(
        step_type=vector.step_types(first, self._done),
        reward=np.where(first, 0.0, reward).astype(np.float32),
        discount=(~terminated).astype(np.float32),
        # A copy: subclasses may change theirs in place.
        observation=observation.astype(self.spec.observation_dtype))
