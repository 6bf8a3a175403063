"""Mazes and the Towers of Hanoi as next-state tables. Nothing terminates.

A maze cell (r, c) of W columns is state r * W + c; wall cells have states too,
which nothing leads to. Row 0 is the top line of a map as written here; figures
draw it at the bottom.
"""

from typing import Callable, Mapping, NamedTuple, Optional, Tuple

import numpy as np

# Row and column steps: stay, down a row, up a row, right, left.
MAZE_MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
# Manhattan distance from which a maze's goal counts as reached.
MAZE_SUCCESS_DISTANCE = 1

# Pegs a disc is moved from and to.
HANOI_MOVES = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
NUM_PEGS = 3

REGION_FORMAT = "r_lo,c_lo:r_hi,c_hi, both corners included, like '0,6:4,9'"

_SPIRAL = (
    '11111111111/10000000000/10111111110/10100000010/10101111010/'
    '10101001010/10101101010/10100001010/10111111010/10000000010/11111111110')
_IMPOSSIBLE = (
    '010000000/010111110/010000100/011110101/010000100/010111110/'
    '000100010/010101011/010001010')


class Environment(NamedTuple):
  """A deterministic environment of S states and A actions.

  Attributes:
    name: a key of `ENVIRONMENTS`.
    next_state: `[S, A]` int, where an action leads.
    start: state every episode begins in.
    goal: state to be reached.
    second_goal: another one, where there is one.
    reached: `[S, S]` bool; `reached[s, g]` tells that s counts as reaching g.
    free: `[S]` bool, false for walls.
    shape: what states are unraveled to: (rows, columns) of a maze, (3,) * discs
      of the Towers of Hanoi.
  """
  name: str
  next_state: np.ndarray
  start: int
  goal: int
  second_goal: Optional[int]
  reached: np.ndarray
  free: np.ndarray
  shape: Tuple[int, ...]


def is_maze(environment: Environment) -> bool:
  """Tells a maze from the Towers of Hanoi."""
  return len(environment.shape) == 2


def maze(name: str,
         walls: np.ndarray,
         start: Tuple[int, int],
         goal: Tuple[int, int],
         second_goal: Optional[Tuple[int, int]] = None) -> Environment:
  """Builds a maze from its walls, `[H, W]` bool."""
  if walls.ndim != 2 or walls.dtype != bool:
    raise ValueError(f'expected walls [H, W] bool, got {walls.shape} of '
                     f'{walls.dtype}')
  shape = walls.shape
  cells = np.stack(np.unravel_index(np.arange(walls.size), shape), -1)
  here = np.arange(walls.size)
  columns = []
  for move in MAZE_MOVES:
    target = cells + move                                       # [S, 2]
    inside = np.all((target >= 0) & (target < shape), axis=-1)
    clipped = np.clip(target, 0, np.array(shape) - 1)
    allowed = inside & ~walls[clipped[:, 0], clipped[:, 1]]
    columns.append(np.where(
        allowed, np.ravel_multi_index(tuple(clipped.T), shape), here))
  apart = np.abs(cells[:, np.newaxis] - cells).sum(axis=-1)     # [S, S]

  def state(cell: Tuple[int, int]) -> int:
    return int(np.ravel_multi_index(cell, shape))

  return Environment(
      name=name, next_state=np.stack(columns, axis=-1), start=state(start),
      goal=state(goal),
      second_goal=None if second_goal is None else state(second_goal),
      reached=apart <= MAZE_SUCCESS_DISTANCE, free=~walls.ravel(), shape=shape)


def four_rooms(size: int) -> Environment:
  """Four rooms, each open to two others by doors two cells wide."""
  walls = np.zeros((size, size), bool)
  middle, first, second = size // 2, size // 4, 3 * size // 4
  doors = [first, first + 1, second, second + 1]
  walls[middle, :] = walls[:, middle] = True
  walls[middle, doors] = walls[doors, middle] = False
  # The published second goal belongs to the small maze.
  second_goal = (9, 6) if size == 10 else None
  name = 'four_rooms' if size == 10 else f'four_rooms_{size}'
  return maze(name, walls, (0, 0), (size - 1, size - 1), second_goal)


def hanoi(discs: int) -> Environment:
  """The Towers of Hanoi: all discs go from peg 0 to peg 2.

  A state has one base-3 digit per disc, the peg it is on; disc 0, the smallest,
  is the most significant digit. Moves that break the rules change nothing.
  """
  shape = (NUM_PEGS,) * discs
  num_states = NUM_PEGS ** discs
  here = np.arange(num_states)
  pegs = np.stack(np.unravel_index(here, shape), -1)            # [S, discs]
  # The smallest disc of each peg; an empty one takes any.
  top = np.stack([
      np.where((pegs == peg).any(-1), (pegs == peg).argmax(-1), discs)
      for peg in range(NUM_PEGS)], axis=-1)                     # [S, pegs]
  columns = []
  for source, target in HANOI_MOVES:
    disc = top[:, source]
    legal = disc < top[:, target]
    place = NUM_PEGS ** (discs - 1 - np.where(legal, disc, 0))
    columns.append(np.where(legal, here + (target - source) * place, here))
  return Environment(
      name=f'hanoi_{discs}', next_state=np.stack(columns, axis=-1), start=0,
      goal=num_states - 1, second_goal=None,
      reached=np.eye(num_states, dtype=bool),
      free=np.ones(num_states, bool), shape=shape)


def _walls(rows: str, scale: int = 1) -> np.ndarray:
  """Reads a map, each cell of which becomes `scale` by `scale` cells."""
  walls = np.array([[c == '1' for c in row] for row in rows.split('/')])
  return walls.repeat(scale, axis=0).repeat(scale, axis=1)


ENVIRONMENTS: Mapping[str, Callable[[], Environment]] = {
    'four_rooms': lambda: four_rooms(10),
    'four_rooms_20': lambda: four_rooms(20),
    'spiral': lambda: maze('spiral', _walls(_SPIRAL), (5, 5), (10, 10)),
    'impossible': lambda: maze(
        'impossible', _walls(_IMPOSSIBLE, 3), (0, 0), (19, 25)),
    'empty': lambda: maze('empty', np.zeros((5, 5), bool), (0, 0), (4, 4)),
    'hanoi_3': lambda: hanoi(3),
    'hanoi_4': lambda: hanoi(4),
    'hanoi_5': lambda: hanoi(5),
}


def distances(next_state: np.ndarray, goal: int) -> np.ndarray:
  """Counts the fewest steps to a goal.

  Args:
    next_state: `[S, A]`.
    goal: a state.

  Returns:
    `[S]` float, infinite where no action leads to the goal.
  """
  if next_state.ndim != 2:
    raise ValueError(f'expected next_state [S, A], got {next_state.shape}')
  found = np.full(len(next_state), np.inf)
  found[goal] = 0.0
  for step in range(1, len(next_state)):
    new = np.isinf(found) & np.isfinite(found[next_state]).any(axis=-1)
    if not new.any():
      break
    found[new] = step
  return found


def parse_region(text: str) -> Tuple[int, int, int, int]:
  """Reads first row, first column, last row and last column of a region.

  Raises:
    ValueError: saying what is wrong with the text.
  """
  corners = [corner.split(',') for corner in text.split(':')]
  try:
    (row, column), (last_row, last_column) = [
        [int(n) for n in corner] for corner in corners]
  except ValueError as e:
    raise ValueError(f"got '{text}', needs {REGION_FORMAT}") from e
  if not (0 <= row <= last_row and 0 <= column <= last_column):
    raise ValueError(f"got '{text}', needs its first corner first and no "
                     'number below 0')
  return row, column, last_row, last_column


def region_mask(environment: Environment, text: str) -> np.ndarray:
  """Returns `[S]` bool, the free cells of a maze that lie in a region."""
  row, column, last_row, last_column = parse_region(text)
  inside = np.zeros(environment.shape, bool)
  inside[row:last_row + 1, column:last_column + 1] = True
  return inside.ravel() & environment.free


def absorbing(environment: Environment, inside: np.ndarray) -> Environment:
  """Makes the states `inside`, `[S]` bool, such that no action leaves them."""
  if inside.shape != environment.free.shape:
    raise ValueError(f'expected inside {environment.free.shape}, '
                     f'got {inside.shape}')
  stay = np.arange(len(inside))[:, np.newaxis]
  return environment._replace(next_state=np.where(
      inside[:, np.newaxis], stay, environment.next_state))
