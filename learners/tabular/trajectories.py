"""The newest trajectories, and pairs of a state and one of its futures."""

from typing import Tuple

import numpy as np


def sample_offsets(num_options: np.ndarray, discount: float,
                   rng: np.random.Generator) -> np.ndarray:
  """Draws o of 0..n-1 with a chance proportional to discount**o.

  Args:
    num_options: `[B]` int, n for each draw, at least 1.
    discount: between 0 and 1, both excluded.
    rng: consumed.

  Returns:
    `[B]` int.
  """
  if num_options.ndim != 1:
    raise ValueError(f'expected num_options [B], got {num_options.shape}')
  draws = rng.random(len(num_options))
  # The inverse of the truncated geometric distribution function.
  covered = draws * (1.0 - discount**num_options)
  offsets = np.floor(np.log1p(-covered) / np.log(discount)).astype(np.int64)
  # Rounding can reach the end when the draw is nearly 1.
  return np.minimum(offsets, num_options - 1)


class Trajectories:
  """Keeps the newest trajectories of one length, first in, first out."""

  def __init__(self, capacity: int, length: int):
    """Makes room for `capacity` trajectories of `length` states."""
    self._states = np.zeros((capacity, length), np.int32)
    self._num_added = 0

  def __len__(self) -> int:
    """Returns how many are stored."""
    return min(self._num_added, len(self._states))

  def add(self, path: np.ndarray) -> None:
    """Stores a trajectory, `[length]`; the oldest makes room if it must."""
    self._states[self._num_added % len(self._states)] = path
    self._num_added += 1

  def newest(self, num: int) -> np.ndarray:
    """Returns the last `num`, or fewer if there are, oldest first."""
    num = min(num, len(self))
    slots = np.arange(self._num_added - num, self._num_added)
    return self._states[slots % len(self._states)].copy()

  def sample(self, batch_size: int, discount: float, offset_zero: bool,
             rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
    """Draws pairs (s_i, s_j) from trajectories drawn with replacement.

    The time i is uniform over all but the last; j - i is geometric, truncated
    at the trajectory's end.

    Args:
      batch_size: B.
      discount: ratio of the chances of successive offsets.
      offset_zero: whether j may equal i.
      rng: consumed.

    Returns:
      The states at i and at j, `[B]` each.
    """
    length = self._states.shape[1]
    rows = rng.integers(len(self), size=batch_size)
    times = rng.integers(length - 1, size=batch_size)
    # Times to choose from: i or i + 1 up to the last.
    least = 0 if offset_zero else 1
    offsets = least + sample_offsets(length - least - times, discount, rng)
    return self._states[rows, times], self._states[rows, times + offsets]
