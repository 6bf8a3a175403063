"""Two-dimensional point mazes, E of them stepped by one array operation.

Positions are (row, column), so "x" below means the row. Row 0 is the top line
of a map as written here; figures draw it at the bottom.
"""

import dataclasses
from typing import Any, Iterator, Optional, Sequence, Tuple

import jax.numpy as jnp
import numpy as np

from envs.lockstep import LockstepEnvironment, Outcome
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


class PointMaze(LockstepEnvironment):
  """E point mazes; implements `VectorEnvironment`."""

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
    super().__init__(
        maze_spec(layout_name, sample_goals, goal, start, jitter), num_envs)
    self._walls = LAYOUTS[layout_name].walls
    self._free_cells = np.argwhere(~self._walls)
    self._rng = np.random.default_rng(seed)
    self._position = np.zeros((num_envs, 2))
    self._goal = np.zeros((num_envs, 2))

  def _begin(self, mask: np.ndarray) -> None:
    num = int(mask.sum())
    if self.spec.goal is None or self.spec.start is None:
      self._position[mask] = self._sample_free(num)
      self._goal[mask] = self._sample_free(num)
    else:
      self._position[mask] = self._jittered_start(num)
      self._goal[mask] = np.array(self.spec.goal)

  def _advance(self, action: np.ndarray, mask: np.ndarray) -> None:
    noisy = action + self._rng.normal(0.0, ACTION_NOISE, action.shape)
    *_, moved = walk(np, self._walls, self._position, noisy)
    self._position = np.where(mask[:, np.newaxis], moved, self._position)

  def _outcome(self) -> Outcome:
    distance = np.linalg.norm(self._position - self._goal, axis=-1)
    return Outcome(
        observation=np.concatenate([self._position, self._goal], axis=-1),
        reward=distance < SUCCESS_RADIUS,
        # Nothing ends an episode but its step limit.
        terminated=np.zeros(self.num_envs, bool))

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
