"""What an environment says about itself."""

import dataclasses
from typing import Any, Callable, Optional, Tuple

# Maps positions [..., P] and actions [..., A] to the positions passed through
# during that one step, [S, ..., P]. Written in JAX, so policies can jit it.
PositionPath = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class EnvSpec:
  """Static facts about an environment, with or without goals.

  Observations are `[state, goal]`: the first `obs_dim` entries are the state,
  the rest the goal. An environment without goals has no goal entries, and no
  success; what it is about is its reward.

  Attributes:
    name: registered name.
    obs_dim: number of state entries in an observation.
    action_dim: number of action entries, each in [-1, 1]; 0 where actions are
      discrete.
    step_limit: environment steps after which an episode is truncated.
    goal_indices: state entries that make up a goal; () means no goals.
    position_indices: state entries that hold the (x, y) position; () means
      there is none.
    success_radius: distance to the goal below which a step is a success.
    num_actions: number of discrete actions, 0 where actions are continuous.
    frame_shape: (height, width) where observations are uint8 pictures, which
      have no entries and no goals; () elsewhere.
    num_places: number of places that a `Located` environment tells apart.
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
  step_limit: int
  goal_indices: Tuple[int, ...] = ()
  position_indices: Tuple[int, ...] = ()
  success_radius: float = 0.0
  num_actions: int = 0
  frame_shape: Tuple[int, ...] = ()
  num_places: int = 0
  start: Optional[Tuple[float, ...]] = None
  goal: Optional[Tuple[float, ...]] = None
  start_jitter: float = 0.0
  action_noise: float = 0.0
  position_noise: float = 0.0
  position_path: Optional[PositionPath] = None
  bounds: Optional[Tuple[Tuple[float, ...], Tuple[float, ...]]] = None
  success_indices: Optional[Tuple[int, ...]] = None

  @property
  def has_goals(self) -> bool:
    """Whether episodes have a goal, whose reaching is success."""
    return bool(self.goal_indices)

  @property
  def has_position(self) -> bool:
    """Whether the state holds a position in the plane."""
    return len(self.position_indices) == 2

  @property
  def observation_shape(self) -> Tuple[int, ...]:
    """Shape of one observation."""
    return self.frame_shape or (self.observation_dim,)

  @property
  def observation_dtype(self) -> str:
    """NumPy dtype name of observations."""
    return 'uint8' if self.frame_shape else 'float32'

  @property
  def action_shape(self) -> Tuple[int, ...]:
    """Shape of one action: () where actions are discrete."""
    return () if self.num_actions else (self.action_dim,)

  @property
  def action_dtype(self) -> str:
    """NumPy dtype name of actions."""
    return 'int32' if self.num_actions else 'float32'

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
