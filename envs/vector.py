"""Many environments in one step: the interface, and ways to and from it."""

from typing import Protocol, runtime_checkable, Sequence

import dm_env
from dm_env import specs
import numpy as np

from envs.spec import EnvSpec


class VectorEnvironment(Protocol):
  """E environments that step in one call.

  `reset` and `step` return a `dm_env.TimeStep` whose four fields are arrays
  with leading dimension E. Each environment keeps dm_env's rules on its own:
  after its LAST step, the next `step` ignores its action and returns FIRST.
  """
  spec: EnvSpec
  num_envs: int

  def reset(self) -> dm_env.TimeStep:
    """Starts a new episode in every environment."""
    ...

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Steps every environment.

    Args:
      action: `[E, action_dim]`, or `[E]` int32 where actions are discrete.
    """
    ...

  def observation_spec(self) -> specs.Array:
    """Spec of one environment's observation."""
    ...

  def action_spec(self) -> specs.BoundedArray:
    """Spec of one environment's action; a `DiscreteArray` if it is discrete."""
    ...


@runtime_checkable
class Drawable(Protocol):
  """A vector environment that can be looked at."""

  def render(self) -> np.ndarray:
    """Draws the first environment, `[H, W, 3]` uint8."""
    ...


@runtime_checkable
class Changing(Protocol):
  """A vector environment that is not the same throughout a run."""

  def at_step(self, run_steps: int) -> None:
    """Takes note of the environment steps that the whole run has made."""
    ...


@runtime_checkable
class Located(Protocol):
  """A vector environment whose states lie in one of a number of places."""

  def places(self) -> np.ndarray:
    """Returns the number `[E]` of the place each environment is in."""
    ...


def check_actions(action: np.ndarray, num_envs: int, spec: EnvSpec) -> None:
  """Raises ValueError unless there is one action for each environment."""
  expected = (num_envs, *spec.action_shape)
  if action.shape != expected:
    raise ValueError(
        f'action shape: expected {expected}, got: {action.shape}')


def step_types(first: np.ndarray, last: np.ndarray) -> np.ndarray:
  """Returns the dm_env step type of each environment, `[E]` int32.

  Args:
    first: `[E]` bool, which have just begun an episode.
    last: `[E]` bool, which have ended one; beginning one counts before that.
  """
  kinds = dm_env.StepType
  return np.where(first, int(kinds.FIRST), np.where(
      last, int(kinds.LAST), int(kinds.MID))).astype(np.int32)


def default_observation_spec(spec: EnvSpec) -> specs.Array:
  """Returns the spec of observations: uint8 frames, or float32 vectors."""
  return specs.Array(spec.observation_shape, np.dtype(spec.observation_dtype),
                     name='observation')


def default_action_spec(spec: EnvSpec) -> specs.BoundedArray:
  """Returns the spec of actions.

  That is float32 `[action_dim]`, bounded by -1 and 1, or one int32 below
  `num_actions`.
  """
  if spec.num_actions:
    return specs.DiscreteArray(spec.num_actions, np.int32, name='action')
  return specs.BoundedArray(
      (spec.action_dim,), np.float32, -1.0, 1.0, name='action')


class SingleEnvironment(dm_env.Environment):
  """The dm_env face of a vector environment that holds exactly one."""

  def __init__(self, vector: VectorEnvironment):
    """Wraps `vector`.

    Args:
      vector: an environment with `num_envs == 1`.

    Raises:
      ValueError: if it holds another number of environments.
    """
    if vector.num_envs != 1:
      raise ValueError(
          f'SingleEnvironment needs num_envs == 1, got: {vector.num_envs}')
    self._vector = vector
    self._needs_reset = True

  @property
  def spec(self) -> EnvSpec:
    """Static facts about the environment."""
    return self._vector.spec

  def reset(self) -> dm_env.TimeStep:
    """Starts a new episode."""
    self._needs_reset = False
    return self._unbatch(self._vector.reset())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Steps once; before the first `reset` it starts an episode instead."""
    if self._needs_reset:
      return self.reset()
    action = np.asarray(action)
    return self._unbatch(self._vector.step(action[np.newaxis]))

  def observation_spec(self) -> specs.Array:
    """Spec of an observation."""
    return self._vector.observation_spec()

  def action_spec(self) -> specs.BoundedArray:
    """Spec of an action."""
    return self._vector.action_spec()

  def _unbatch(self, timestep: dm_env.TimeStep) -> dm_env.TimeStep:
    step_type = dm_env.StepType(int(timestep.step_type[0]))
    if step_type == dm_env.StepType.FIRST:
      return dm_env.restart(timestep.observation[0])
    return dm_env.TimeStep(
        step_type,
        float(timestep.reward[0]),
        float(timestep.discount[0]),
        timestep.observation[0])


class StackedEnvironments:
  """E separate dm_env environments behind the vector interface.

  For environments with no batched step of their own; it loops in Python.
  """

  def __init__(self, environments: Sequence[dm_env.Environment], spec: EnvSpec):
    """Stacks `environments`, which all satisfy `spec`.

    Args:
      environments: at least one environment.
      spec: their static facts.

    Raises:
      ValueError: if there are none.
    """
    if not environments:
      raise ValueError('StackedEnvironments needs at least one environment')
    self._environments = list(environments)
    self.spec = spec
    self.num_envs = len(self._environments)

  def reset(self) -> dm_env.TimeStep:
    """Starts a new episode in every environment."""
    return _stack([env.reset() for env in self._environments])

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Steps every environment with its row of `action`, `[E, ...]`."""
    if len(action) != self.num_envs:
      raise ValueError(f'action has {len(action)} rows, the environments are '
                       f'{self.num_envs}')
    return _stack([env.step(a) for env, a in zip(self._environments, action)])

  def observation_spec(self) -> specs.Array:
    """Spec of one environment's observation."""
    return self._environments[0].observation_spec()

  def action_spec(self) -> specs.BoundedArray:
    """Spec of one environment's action."""
    return self._environments[0].action_spec()


def _stack(timesteps: Sequence[dm_env.TimeStep]) -> dm_env.TimeStep:
  """Stacks time steps; a FIRST step's missing reward and discount are 0, 1."""
  return dm_env.TimeStep(
      step_type=np.array([int(t.step_type) for t in timesteps], np.int32),
      reward=np.array(
          [0.0 if t.reward is None else t.reward for t in timesteps],
          np.float32),
      discount=np.array(
          [1.0 if t.discount is None else t.discount for t in timesteps],
          np.float32),
      observation=np.stack([t.observation for t in timesteps]))
