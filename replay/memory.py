"""Replay in this process's memory, for runs in one thread."""

from typing import Any, Dict, Mapping

import numpy as np

from learners.agent import Column
from replay.episodes import Episodes


class MemoryReplay:
  """A FIFO of whole episodes with uniform sampling from its own generator."""

  def __init__(self, columns: Mapping[str, Column], min_items: int,
               max_items: int, seed: int):
    """Makes an empty replay.

    Args:
      columns: layout of one item.
      min_items: items needed before `sample`.
      max_items: items kept; the oldest go first.
      seed: of the sampling generator.
    """
    self._columns = dict(columns)
    self._min_items = min_items
    self._max_items = max_items
    self._arrays: Dict[str, np.ndarray] = {}
    self._capacity = 0
    self._inserts = 0
    self._rng = np.random.default_rng(seed)

  def __len__(self) -> int:
    return min(self._inserts, self._max_items)

  @property
  def ready(self) -> bool:
    """Whether there is enough to sample from."""
    return len(self) >= self._min_items

  def write(self, episodes: Episodes) -> bool:
    """Inserts `[n, ...]` episodes; always True, nothing holds it back."""
    num = len(episodes['length'])
    self._reserve(self._inserts + num)
    slots = np.arange(self._inserts, self._inserts + num) % self._max_items
    for name, array in self._arrays.items():
      array[slots] = episodes[name]
    self._inserts += num
    return True

  def sample(self, num: int) -> Episodes:
    """Draws `num` items uniformly with replacement.

    Raises:
      RuntimeError: before the minimum is stored.
    """
    if not self.ready:
      raise RuntimeError(
          f'replay holds {len(self)} items, sampling needs {self._min_items}')
    rows = self._rng.integers(len(self), size=num)
    return {name: array[rows] for name, array in self._arrays.items()}

  def save(self) -> Dict[str, Any]:
    """Returns everything needed to go on: contents, position, generator."""
    return {
        'inserts': self._inserts,
        'rng': self._rng.bit_generator.state,
        'arrays': {k: v[:len(self)].copy() for k, v in self._arrays.items()},
    }

  def restore(self, saved: Mapping[str, Any]) -> None:
    """Takes over what `save` returned."""
    self._inserts = int(saved['inserts'])
    self._rng.bit_generator.state = saved['rng']
    self._reserve(len(self))
    for name, array in saved['arrays'].items():
      self._arrays[name][:len(array)] = array

  def _reserve(self, num: int) -> None:
    """Grows the arrays so that they hold `num` items, up to the maximum."""
    num = min(num, self._max_items)
    if num <= self._capacity:
      return
    capacity = min(self._max_items, max(num, 2 * self._capacity, 64))
    for name, column in self._columns.items():
      grown = np.zeros((capacity, *column.shape), column.dtype)
      if self._capacity:
        grown[:self._capacity] = self._arrays[name]
      self._arrays[name] = grown
    self._capacity = capacity
