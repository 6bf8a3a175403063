"""What a goal-conditioned environment says about itself."""

import dataclasses
from typing import Any, Callable, Optional, Protocol, Tuple

import dm_env
from dm_env import specs
import numpy as np

# Maps positions [..., P] and actions [..., A] to the positions passed through
# during that one step, [S, ..., P]. Written in JAX, so policies can jit it.
PositionPath = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class EnvSpec:
  """Static facts about a goal-conditioned environment.

  Observations are `[state, goal]`: the first `obs_dim` entries are the state,
  the rest the goal.

  Attributes:
    name: registered name.
    obs_dim: number of state entries in an observation.
    action_dim: number of action entries, each in [-1, 1].
    goal_indices: state entries that make up a goal.
    position_indices: state entries that hold the (x, y) position.
    step_limit: environment steps after which an episode is truncated.
    success_radius: distance to the goal below which a step is a success.
    start: fixed start position, or None when sampled.
    goal: fixed goal, or None when sampled.
    start_jitter: half-width of the uniform noise on the start, per axis.
    position_noise: standard deviation of one step's position noise, per axis.
    position_path: noise-free one-step position model, or None if unknown.
    bounds: lower and upper corner of the space positions live in, or None.
  """
  name: str
  obs_dim: int
  action_dim: int
  goal_indices: Tuple[int, ...]
  position_indices: Tuple[int, ...]
  step_limit: int
  success_radius: float
  start: Optional[Tuple[float, ...]] = None
  goal: Optional[Tuple[float, ...]] = None
  start_jitter: float = 0.0
  position_noise: float = 0.0
  position_path: Optional[PositionPath] = None
  bounds: Optional[Tuple[Tuple[float, ...], Tuple[float, ...]]] = None

  @property
  def goal_dim(self) -> int:
    """Number of entries in a goal."""
    return len(self.goal_indices)

  @property
  def observation_dim(self) -> int:
    """Number of entries in an observation: state and goal."""
    return self.obs_dim + self.goal_dim


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
    """Steps every environment; `action` is `[E, action_dim]`."""
    ...

  def observation_spec(self) -> specs.Array:
    """Spec of one environment's observation."""
    ...

  def action_spec(self) -> specs.BoundedArray:
    """Spec of one environment's action."""
    ...


def default_observation_spec(spec: EnvSpec) -> specs.Array:
  """Returns the float32 `[obs_dim + goal_dim]` observation spec."""
  return specs.Array((spec.observation_dim,), np.float32, name='observation')


def default_action_spec(spec: EnvSpec) -> specs.BoundedArray:
  """Returns the float32 `[action_dim]` action spec, bounded by -1 and 1."""
  return specs.BoundedArray(
      (spec.action_dim,), np.float32, -1.0, 1.0, name='action')
