"""Draws in proportion to priorities that change."""

import numpy as np


class SumTree:
  """A binary tree whose leaves are priorities and whose nodes are sums.

  Changes and draws take the logarithm of the capacity, many at a time.
  """

  def __init__(self, capacity: int):
    """Makes a tree in which every priority is 0.

    Args:
      capacity: number of priorities.
    """
    self._depth = max(1, int(np.ceil(np.log2(capacity))))
    self._num_leaves = 2**self._depth
    # The children of node i are 2 i and 2 i + 1; the root is 1.
    self._nodes = np.zeros(2 * self._num_leaves)

  @property
  def total(self) -> float:
    """Sum of all priorities."""
    return float(self._nodes[1])

  def get(self, index: np.ndarray) -> np.ndarray:
    """Returns the priorities `[n]` of indices `[n]`."""
    return self._nodes[self._num_leaves + index]

  def set_one(self, index: int, priority: float) -> None:
    """Changes one priority, which is faster than a batch of one."""
    nodes, node = self._nodes, self._num_leaves + index
    nodes[node] = priority
    while node > 1:
      node //= 2
      nodes[node] = nodes[2 * node] + nodes[2 * node + 1]

  def set(self, index: np.ndarray, priority: np.ndarray) -> None:
    """Changes priorities; of an index given twice the last one counts."""
    node = self._num_leaves + np.asarray(index)
    self._nodes[node] = priority
    for _ in range(self._depth):
      node = np.unique(node // 2)
      self._nodes[node] = self._nodes[2 * node] + self._nodes[2 * node + 1]

  def find(self, uniform: np.ndarray) -> np.ndarray:
    """Returns the indices at `[n]` shares, in [0, 1), of the total."""
    left = np.asarray(uniform) * self.total
    node = np.ones(len(left), np.int64)
    for _ in range(self._depth):
      node = 2 * node
      smaller = self._nodes[node]
      # Rounding must not lead to a leaf without priority.
      right = (left >= smaller) & (self._nodes[node + 1] > 0)
      left = np.where(right, left - smaller, left)
      node = node + right
    return node - self._num_leaves
