"""Geometry of representations, and of the mazes they are of: pure functions."""

import collections
from typing import Deque, NamedTuple, Tuple

import numpy as np


class Projection(NamedTuple):
  """Vectors seen along a few directions.

  Attributes:
    points: `[K, D]` coordinates.
    shares: `[D]` part of all variance that lies along each direction.
  """
  points: np.ndarray
  shares: np.ndarray


def cosines(vectors: np.ndarray, vector: np.ndarray) -> np.ndarray:
  """Returns the cosine of each of `[K, N]` with `[N]`: `[K]` in [-1, 1]."""
  lengths = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(vector)
  products = vectors @ vector / np.maximum(lengths, np.finfo(np.float32).tiny)
  return np.clip(products, -1.0, 1.0)


def principal_components(vectors: np.ndarray, num: int) -> Projection:
  """Projects vectors `[K, N]` on the `num` directions they vary most along."""
  centred = vectors - vectors.mean(axis=0)
  _, spread, directions = np.linalg.svd(centred, full_matrices=False)
  variances = spread**2
  return Projection(centred @ directions[:num].T,
                    variances[:num] / max(variances.sum(), 1e-30))


def goal_sphere(vectors: np.ndarray, goal: np.ndarray) -> np.ndarray:
  """Puts directions on a sphere whose pole is the goal's.

  The height of a point is its cosine with the goal. Its bearing is that of the
  two directions, at right angles to the goal, which the unit vectors vary most
  along; what they leave out is made up for by moving the point out to the
  sphere, so that a short shadow on the two shows as a bearing all the same.

  Args:
    vectors: `[K, N]`, N >= 3.
    goal: `[N]`.

  Returns:
    `[K, 3]` of length 1.
  """
  unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
  pole = goal / np.linalg.norm(goal)
  height = cosines(vectors, goal)
  across = unit - height[:, np.newaxis] * pole
  _, _, directions = np.linalg.svd(
      across - across.mean(axis=0), full_matrices=False)
  shadow = across @ directions[:2].T
  length = np.linalg.norm(shadow, axis=-1, keepdims=True)
  radius = np.sqrt(np.maximum(1.0 - height**2, 0.0))[:, np.newaxis]
  bearing = shadow / np.maximum(length, np.finfo(np.float32).tiny)
  return np.concatenate([radius * bearing, height[:, np.newaxis]], axis=-1)


def path_lengths(walls: np.ndarray, goal: Tuple[int, int]) -> np.ndarray:
  """Returns the cells walked from each free cell to the goal's.

  Args:
    walls: `[H, W]` bool.
    goal: row and column of the goal's cell, a free one.

  Returns:
    `[H, W]`; infinite in walls and where no way leads to the goal.
  """
  lengths = np.full(walls.shape, np.inf)
  lengths[goal] = 0
  queue: Deque[Tuple[int, int]] = collections.deque([goal])
  while queue:
    row, column = queue.popleft()
    for cell in ((row + 1, column), (row - 1, column),
                 (row, column + 1), (row, column - 1)):
      inside = 0 <= cell[0] < walls.shape[0] and 0 <= cell[1] < walls.shape[1]
      if inside and not walls[cell] and np.isinf(lengths[cell]):
        lengths[cell] = lengths[row, column] + 1
        queue.append(cell)
  return lengths
