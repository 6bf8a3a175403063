"""Grid worlds of rooms seen as pixels, E of them stepped at once.

The frame shows the walls and the agent, not the goal. In a changing world the
goal moves and two hallways close once the run has made `change_at` steps; the
frames do not show that either.
"""

import dataclasses
from typing import Dict, Optional, Tuple

import numpy as np

from envs.lockstep import LockstepEnvironment, Outcome
from envs.spec import EnvSpec

Cell = Tuple[int, int]

WALL, AGENT = 128, 255
# Up, down, left, right.
MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
NUM_ACTIONS = len(MOVES)


@dataclasses.dataclass(frozen=True)
class Rooms:
  """One map, its start and goal, and what changes.

  Attributes:
    rows: a string per row, '#' is wall.
    start: (row, column) where episodes start.
    goal: (row, column) that ends an episode with a reward of 1.
    step_limit: steps after which an episode is truncated.
    change_at: environment steps of the run after which it is changed, or None.
    new_goal: the goal after the change.
    closed: hallways that are walls after the change.
  """
  rows: Tuple[str, ...]
  start: Cell
  goal: Cell
  step_limit: int
  change_at: Optional[int] = None
  new_goal: Optional[Cell] = None
  closed: Tuple[Cell, ...] = ()

  @property
  def walls(self) -> np.ndarray:
    """The wall grid `[H, W]` bool, before any change."""
    return np.array([[c == '#' for c in row] for row in self.rows])

  @property
  def numbers(self) -> np.ndarray:
    """The number of each free cell, in reading order, `[H, W]` int."""
    return np.cumsum(~self.walls).reshape(self.walls.shape) - 1

  @property
  def empty_frame(self) -> np.ndarray:
    """What is seen but for the agent, `[H, W]` uint8."""
    return np.where(self.walls, WALL, 0).astype(np.uint8)


_FOUR_ROOMS = tuple((
    '#############/#.....#.....#/#.....#.....#/#...........#/#.....#.....#/'
    '#.....#.....#/##.########.#/#.....#.....#/#.....#.....#/#.....#.....#/'
    '#...........#/#.....#.....#/#############').split('/'))


def _nine_rooms() -> Tuple[str, ...]:
  """Three by three rooms of 5 x 5 cells, a hallway between neighbours."""
  walls = np.zeros((19, 19), bool)
  walls[::6] = walls[:, ::6] = True
  for wall in (6, 12):
    for room in range(3):
      # Hallways lie off the middle, in turn on either side.
      middle = 6 * room + (2 if (room + wall // 6) % 2 else 4)
      walls[wall, middle] = walls[middle, wall] = False
  return tuple(''.join('#' if w else '.' for w in row) for row in walls)


_PLAIN: Dict[str, Rooms] = {
    'FourRooms': Rooms(_FOUR_ROOMS, (1, 1), (11, 11), 200),
    'NineRooms': Rooms(_nine_rooms(), (1, 1), (17, 17), 400),
}
LAYOUTS: Dict[str, Rooms] = {
    **_PLAIN,
    # The goal is elsewhere, and the straight way there is shut.
    'FourRoomsChanging': dataclasses.replace(
        _PLAIN['FourRooms'], change_at=30_000, new_goal=(1, 11),
        closed=((3, 6),)),
    'NineRoomsChanging': dataclasses.replace(
        _PLAIN['NineRooms'], change_at=60_000, new_goal=(1, 17),
        closed=((2, 6), (4, 12))),
}


def rooms_spec(name: str) -> EnvSpec:
  """Returns the static facts of the map called `name`."""
  layout = LAYOUTS[name]
  return EnvSpec(
      name=f'grid_{name}', obs_dim=0, action_dim=0, num_actions=NUM_ACTIONS,
      frame_shape=layout.walls.shape, num_places=int((~layout.walls).sum()),
      step_limit=layout.step_limit)


class GridRooms(LockstepEnvironment):
  """E grids; a `VectorEnvironment`, `Located` and `Changing`.

  Every step moves one cell, or none if a wall is in the way. An episode ends
  for good on the goal, with a reward of 1; a change takes effect with the next
  episode.
  """

  def __init__(self, name: str, num_envs: int = 1, seed: int = 0):
    """Builds the grids.

    Args:
      name: a key of `LAYOUTS`.
      num_envs: how many environments step together.
      seed: not needed; nothing is random.
    """
    del seed
    super().__init__(rooms_spec(name), num_envs)
    self._layout = layout = LAYOUTS[name]
    changed = layout.walls
    for cell in layout.closed:
      changed[cell] = True
    self._walls = np.stack([layout.walls, changed])       # [before or after]
    self._goals = np.array([layout.goal, layout.new_goal or layout.goal])
    self._empty_frame = layout.empty_frame
    self._numbers = layout.numbers
    self._change_due = False
    self._changed = np.zeros(num_envs, np.int64)
    self._cell = np.zeros((num_envs, 2), np.int64)

  def at_step(self, run_steps: int) -> None:
    """Changes the world if the run has made enough steps."""
    if self._layout.change_at is not None:
      self._change_due = run_steps >= self._layout.change_at

  def places(self) -> np.ndarray:
    """Returns the number `[E]` of each environment's cell, in reading order."""
    return self._numbers[self._cell[:, 0], self._cell[:, 1]]

  def _begin(self, mask: np.ndarray) -> None:
    self._changed[mask] = int(self._change_due)
    self._cell[mask] = self._layout.start

  def _advance(self, action: np.ndarray, mask: np.ndarray) -> None:
    wanted = self._cell + MOVES[action]
    free = ~self._walls[self._changed, wanted[:, 0], wanted[:, 1]] & mask
    self._cell = np.where(free[:, np.newaxis], wanted, self._cell)

  def _outcome(self) -> Outcome:
    there = (self._cell == self._goals[self._changed]).all(axis=1)
    return Outcome(frames(self._empty_frame, self._cell), there, there)


def frames(empty_frame: np.ndarray, cells: np.ndarray) -> np.ndarray:
  """Draws an agent into each of `[E, H, W]` copies of a frame.

  Args:
    empty_frame: `[H, W]` uint8.
    cells: `[E, 2]` where the agents are.
  """
  drawn = np.repeat(empty_frame[np.newaxis], len(cells), axis=0)
  drawn[np.arange(len(cells)), cells[:, 0], cells[:, 1]] = AGENT
  return drawn
