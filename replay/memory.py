"""Replay in this process's memory, for runs in one thread."""

from typing import Any, Dict, Mapping, Optional

import numpy as np

from learners.agent import Column, HELD_OUT, ReplaySpec
from replay.episodes import Episodes
from replay.tables import TableLimits

# When an item was inserted; kept where the oldest is not the first to go.
_ORDER = '_order'


class MemoryReplay:
  """A table of whole episodes, sampled uniformly from its own generator."""

  def __init__(self, columns: Mapping[str, Column], min_items: int,
               max_items: int, seed: int, priority: Optional[str] = None):
    """Makes an empty replay.

    Args:
      columns: layout of one item.
      min_items: items needed before `sample`.
      max_items: items kept.
      seed: of the sampling generator.
      priority: the column whose lowest entry goes first when there are more,
        the oldest among equals; None lets the oldest go.
    """
    self._columns = dict(columns)
    if priority is not None:
      self._columns[_ORDER] = Column((), 'int64')
    self._min_items = min_items
    self._max_items = max_items
    self._priority = priority
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
    if self._priority is not None:
      self._write_by_priority(episodes, self._priority)
      return True
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
    return {name: array[rows] for name, array in self._arrays.items()
            if name != _ORDER}

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

  def _write_by_priority(self, episodes: Episodes, priority: str) -> None:
    """Inserts one by one; each may push out the lowest, or itself."""
    for i, value in enumerate(episodes[priority]):
      slot = self._inserts
      if slot >= self._max_items:
        held = self._arrays[priority]
        # Least priority first, among equals the oldest.
        slot = int(np.lexsort((self._arrays[_ORDER], held))[0])
      if self._inserts < self._max_items or value >= held[slot]:
        for name, array in self._arrays.items():
          array[slot] = self._inserts if name == _ORDER else episodes[name][i]
      self._inserts += 1

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


class MemoryTables:
  """The tables of an agent: that of its episodes, and those held out."""

  def __init__(self, replay: ReplaySpec, limits: TableLimits, seed: int):
    """Makes empty tables.

    Args:
      replay: what the agent needs.
      limits: sizes of the tables.
      seed: of the sampling generators.
    """
    self._replay = replay
    self._episodes = MemoryReplay(
        replay.columns, limits.min_items, limits.max_items, seed,
        replay.priority if replay.remover == 'lowest_priority' else None)
    self._held_out = MemoryReplay(
        replay.columns, 1, limits.max_held_out,
        seed + 1) if limits.max_held_out else None

  def __len__(self) -> int:
    return len(self._episodes)

  @property
  def ready(self) -> bool:
    """Whether there is enough to sample from."""
    return self._episodes.ready and (
        self._held_out is None or self._held_out.ready)

  def write(self, episodes: Episodes) -> bool:
    """Inserts `[n, ...]` episodes, each into its table; always True."""
    if self._held_out is None:
      return self._episodes.write(episodes)
    mask = episodes[HELD_OUT]
    for table, rows in ((self._episodes, ~mask), (self._held_out, mask)):
      table.write({n: array[rows] for n, array in episodes.items()})
    return True

  def sample(self) -> Dict[str, Any]:
    """Draws one batch of the agent's update."""
    batch: Dict[str, Any] = self._episodes.sample(
        self._replay.episodes_per_batch)
    if self._held_out is not None:
      batch[HELD_OUT] = self._held_out.sample(self._replay.held_out_per_batch)
    return batch

  def set_priorities(self, table: str, key: np.ndarray,
                     priority: np.ndarray) -> None:
    """Refuses: episodes keep the priority they were written with."""
    raise ValueError(f'{table} has no priorities that change')

  def save(self) -> Dict[str, Any]:
    """Returns everything needed to go on; arrays by name in 'arrays'."""
    saved = self._episodes.save()
    if self._held_out is not None:
      apart = self._held_out.save()
      saved['arrays'].update({
          f'{HELD_OUT}/{n}': array
          for n, array in apart.pop('arrays').items()})
      saved[HELD_OUT] = apart
    return saved

  def restore(self, saved: Mapping[str, Any]) -> None:
    """Takes over what `save` returned."""
    prefix = f'{HELD_OUT}/'
    arrays = saved['arrays']
    self._episodes.restore({**saved, 'arrays': {
        n: array for n, array in arrays.items() if not n.startswith(prefix)}})
    if self._held_out is not None:
      self._held_out.restore({**saved[HELD_OUT], 'arrays': {
          n[len(prefix):]: array for n, array in arrays.items()
          if n.startswith(prefix)}})
