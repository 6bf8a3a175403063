"""Two-dimensional point mazes, E of them stepped by one array operation.

Positions are (row, column), so "x" below means the row. Row 0 is the top line
of a map as written here; figures draw it at the bottom.
"""

import dataclasses
from typing import Any, Iterator, Optional, Sequence, Tuple

import dm_env
from dm_env import specs
import jax.numpy as jnp
import numpy as np

from envs import vector
from envs.spec import EnvSpec

NUM_SUBSTEPS = 10
SUBSTEP_SIZE = 0.1
ACTION_NOISE = 0.01
START_JITTER = 0.1
MAX_JITTER_DRAWS = 100
SUCCESS_RADIUS = 1.0


@dataclasses.dataclass(frozen=True)
class MazeLayout:
  """One map with its fixed start, goal and episode length.

  Attributes:
    rows: the wall grid, a string per row, '1' is wall.
    start: default (row, column) start.
    goal: default (row, column) goal.
    step_limit: steps per episode.
  """
  rows: Tuple[str, ...]
  start: Tuple[float, float]
  goal: Tuple[float, float]
  step_limit: int

  @property
  def walls(self) -> np.ndarray:
    """The wall grid as a `[H, W]` bool array."""
    return np.array([[c == '1' for c in row] for row in self.rows])


def _layout(grid: str, start: Tuple[float, float],
            goal: Tuple[float, float], step_limit: int) -> MazeLayout:
  return MazeLayout(tuple(grid.split('/')), start, goal, step_limit)


LAYOUTS = {
    'Small': _layout('0000/0000/0000/0000', (0.0, 0.0), (3.0, 3.0), 50),
    'Cross': _layout(
        '0000000/0001000/0001000/0111110/0001000/0001000/0000000',
        (0.0, 0.0), (6.0, 6.0), 50),
    'Impossible': _layout(
        '010000000/010111110/010000100/011110101/010000100/010111110/'
        '000100010/010101011/010001010',
        (9.0, 0.0), (7.0, 9.0), 50),
    'FourRooms': _layout(
        '00000100000/00000100000/00000000000/00000100000/00000100000/'
        '10111100000/00000111011/00000100000/00000100000/00000000011/'
        '00000100010',
        (0.0, 0.0), (10.0, 8.0), 50),
    'U': _layout(
        '000/010/010/010/110/010/010/010/000', (8.0, 0.0), (3.0, 0.0), 50),
    'Spiral11x11': _layout(
        '11111111111/10000000000/10111111110/10100000010/10101111010/'
        '10101001010/10101101010/10100001010/10111111010/10000000010/'
        '11111111110',
        (5.0, 5.0), (10.0, 10.0), 100),
    'Wall11x11': _layout(
        '00000000000/11111111110/00000000010/00000000010/00000000010/'
        '00000000010/00000000010/00000000010/00000000010/00000000010/'
        '00000000000',
        (2.0, 0.0), (0.0, 0.0), 100),
    'Maze11x11': _layout(
        '01000100010/01010101010/01010101010/01010101010/00010001010/'
        '11111111010/11100010010/11101010110/00001000110/01111111110/'
        '00000000000',
        (0.0, 0.0), (5.0, 4.0), 100),
}


def blocked(xp: Any, walls: Any, row: Any, col: Any) -> Any:
  """Tells which points lie in a wall or off the map.

  A coordinate equal to the map's size is still on the map.

  Args:
    xp: the array module, `numpy` or `jax.numpy`.
    walls: `[H, W]` bool.
    row: `[...]` float rows.
    col: `[...]` float columns.

  Returns:
    `[...]` bool.
  """
  height, width = walls.shape
  i = xp.clip(xp.floor(row).astype(np.int32), 0, height - 1)
  j = xp.clip(xp.floor(col).astype(np.int32), 0, width - 1)
  outside = (row < 0) | (row > height) | (col < 0) | (col > width)
  return outside | walls[i, j]


def walk(xp: Any, walls: Any, position: Any, action: Any) -> Iterator[Any]:
  """Yields the position after each substep of one noise-free step.

  Each substep moves the row, then the column; a blocked move is dropped. The
  substeps cannot be one array operation: each move depends on the last.

  Args:
    xp: the array module, `numpy` or `jax.numpy`.
    walls: `[H, W]` bool.
    position: `[..., 2]` (row, column).
    action: `[..., 2]`, clipped here to [-1, 1].

  Yields:
    `[..., 2]` positions, NUM_SUBSTEPS of them.
  """
  delta = xp.clip(action, -1.0, 1.0) * SUBSTEP_SIZE
  row, col = position[..., 0], position[..., 1]
  for _ in range(NUM_SUBSTEPS):
    new_row = row + delta[..., 0]
    row = xp.where(blocked(xp, walls, new_row, col), row, new_row)
    new_col = col + delta[..., 1]
    col = xp.where(blocked(xp, walls, row, new_col), col, new_col)
    yield xp.stack([row, col], axis=-1)


class PointMaze:
  """E point mazes in lockstep arrays; implements `VectorEnvironment`."""

  def __init__(self,
               layout_name: str,
               num_envs: int = 1,
               seed: int = 0,
               sample_goals: bool = False,
               goal: Optional[Sequence[float]] = None,
               start: Optional[Sequence[float]] = None,
               jitter: bool = True):
    """Builds the mazes.

    Args:
      layout_name: a key of `LAYOUTS`.
      num_envs: how many environments step together.
      seed: seeds this instance's own generator.
      sample_goals: draw start and goal uniformly from free cells each episode.
      goal: overrides the layout's goal.
      start: overrides the layout's start.
      jitter: start near the fixed start rather than on it.
    """
    self.num_envs = num_envs
    self.spec = maze_spec(layout_name, sample_goals, goal, start, jitter)
    self._walls = LAYOUTS[layout_name].walls
    self._free_cells = np.argwhere(~self._walls)
    self._rng = np.random.default_rng(seed)
    self._position = np.zeros((num_envs, 2))
    self._goal = np.zeros((num_envs, 2))
    self._elapsed = np.zeros(num_envs, np.int32)
    self._done = np.ones(num_envs, bool)

  def reset(self) -> dm_env.TimeStep:
    """Starts a new episode in every environment."""
    everyone = np.ones(self.num_envs, bool)
    self._begin(everyone)
    return self._timestep(everyone, np.zeros(self.num_envs, np.float32))

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Steps every environment; finished ones start a new episode instead."""
    action = np.asarray(action, np.float64)
    vector.check_actions(action, self.num_envs, self.spec)
    noisy = action + self._rng.normal(0.0, ACTION_NOISE, action.shape)
    *_, moved = walk(np, self._walls, self._position, noisy)
    first = self._done
    self._position = np.where(first[:, np.newaxis], self._position, moved)
    self._elapsed += 1
    if first.any():
      self._begin(first)
    distance = np.linalg.norm(self._position - self._goal, axis=-1)
    reward = (distance < SUCCESS_RADIUS) & ~first
    return self._timestep(first, reward.astype(np.float32))

  def observation_spec(self) -> specs.Array:
    """Spec of one environment's observation."""
    return vector.default_observation_spec(self.spec)

  def action_spec(self) -> specs.BoundedArray:
    """Spec of one environment's action."""
    return vector.default_action_spec(self.spec)

  def _begin(self, mask: np.ndarray) -> None:
    """Puts the environments in `mask` at the start of an episode."""
    num = int(mask.sum())
    if self.spec.goal is None or self.spec.start is None:
      self._position[mask] = self._sample_free(num)
      self._goal[mask] = self._sample_free(num)
    else:
      self._position[mask] = self._jittered_start(num)
      self._goal[mask] = np.array(self.spec.goal)
    self._elapsed[mask] = 0

  def _sample_free(self, num: int) -> np.ndarray:
    rows = self._rng.integers(len(self._free_cells), size=num)
    return self._free_cells[rows] + self._rng.uniform(size=(num, 2))

  def _jittered_start(self, num: int) -> np.ndarray:
    """Draws starts near the fixed one; redraws those that hit a wall."""
    assert self.spec.start is not None
    positions = np.tile(np.array(self.spec.start, np.float64), (num, 1))
    pending = np.ones(num, bool)
    for _ in range(MAX_JITTER_DRAWS):
      draws = np.array(self.spec.start) + self._rng.uniform(
          -self.spec.start_jitter, self.spec.start_jitter, (num, 2))
      accepted = pending & ~blocked(np, self._walls, draws[:, 0], draws[:, 1])
      positions[accepted] = draws[accepted]
      pending &= ~accepted
      if not pending.any():
        break
    return positions

  def _timestep(self, first: np.ndarray, reward: np.ndarray) -> dm_env.TimeStep:
    last = self._elapsed >= self.spec.step_limit
    step_type = vector.step_types(first, last)
    self._done = last & ~first
    observation = np.concatenate([self._position, self._goal], axis=-1)
    return dm_env.TimeStep(
        step_type=step_type,
        reward=reward,
        # The time limit truncates; nothing terminates a point maze.
        discount=np.ones(self.num_envs, np.float32),
        observation=observation.astype(np.float32))


def maze_spec(layout_name: str,
              sample_goals: bool = False,
              goal: Optional[Sequence[float]] = None,
              start: Optional[Sequence[float]] = None,
              jitter: bool = True) -> EnvSpec:
  """Returns the static facts of one point maze.

  Args:
    layout_name: a key of `LAYOUTS`.
    sample_goals: whether start and goal are drawn each episode.
    goal: overrides the layout's goal.
    start: overrides the layout's start.
    jitter: whether episodes start near the fixed start rather than on it.
  """
  layout = LAYOUTS[layout_name]
  height, width = layout.walls.shape

  def position_path(position, action):
    walls = jnp.asarray(layout.walls)
    return jnp.stack(list(walk(jnp, walls, position, action)))

  def fixed(override, default):
    if sample_goals:
      return None
    chosen = default if override is None else override
    return tuple(float(v) for v in chosen)

  return EnvSpec(
      name=f'point_{layout_name}',
      obs_dim=2,
      action_dim=2,
      goal_indices=(0, 1),
      position_indices=(0, 1),
      step_limit=layout.step_limit,
      success_radius=SUCCESS_RADIUS,
      start=fixed(start, layout.start),
      goal=fixed(goal, layout.goal),
      start_jitter=START_JITTER if jitter else 0.0,
      action_noise=ACTION_NOISE,
      position_noise=ACTION_NOISE * SUBSTEP_SIZE * NUM_SUBSTEPS,
      position_path=position_path,
      bounds=((0.0, 0.0), (float(height), float(width))))
