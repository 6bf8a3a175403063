"""What a goal-conditioned environment says about itself."""

import dataclasses
from typing import Any, Callable, Optional, Tuple

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
    action_noise: standard deviation of the noise on actions, per axis.
    position_noise: standard deviation of one step's position noise, per axis.
    position_path: noise-free one-step position model, or None if unknown.
    bounds: lower and upper corner of the space positions live in, or None.
    success_indices: goal entries whose distance is measured; None means all.
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
  action_noise: float = 0.0
  position_noise: float = 0.0
  position_path: Optional[PositionPath] = None
  bounds: Optional[Tuple[Tuple[float, ...], Tuple[float, ...]]] = None
  success_indices: Optional[Tuple[int, ...]] = None

  @property
  def goal_dim(self) -> int:
    """Number of entries in a goal."""
    return len(self.goal_indices)

  @property
  def observation_dim(self) -> int:
    """Number of entries in an observation: state and goal."""
    return self.obs_dim + self.goal_dim

  @property
  def goal_position(self) -> Optional[Tuple[float, ...]]:
    """The (x, y) position of the fixed goal, or None when it is sampled."""
    if self.goal is None:
      return None
    return tuple(self.goal[self.goal_indices.index(i)]
                 for i in self.position_indices)
