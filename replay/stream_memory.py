"""Streams in this process's memory, for runs in one thread."""

from typing import Any, Dict, Mapping, Sequence

import numpy as np

from learners.stream_spec import StreamSpec, StreamTable
from replay import streams
from replay.streams import Item, Row
from replay.sum_tree import SumTree

# Rows are kept for this share of the items more, as not every row has one.
_ROW_MARGIN = 0.25
# And for so many streams' longest items.
_MOST_STREAMS = 256
_FIRST_CAPACITY = 256


# Columns of items that have another name in the rows.
_SOURCES = {'frames': 'frame', 'later_frames': 'frame'}


def _shapes(spec: StreamSpec, table: str) -> Dict[str, Any]:
  """Returns the shape of each column of an item, and of one row of it."""
  rows = streams.row_columns(spec)
  return {name: (column.shape, rows[_SOURCES.get(name, name)].shape)
          for name, column in streams.item_columns(spec, table).items()}


class _Rows:
  """A ring of rows that grows up to its capacity."""

  def __init__(self, spec: StreamSpec, capacity: int):
    self._columns = streams.row_columns(spec)
    self._capacity = capacity
    self.num = 0
    self.arrays: Dict[str, np.ndarray] = {
        n: np.zeros((0, *c.shape), c.dtype) for n, c in self._columns.items()}

  @property
  def oldest(self) -> int:
    """Number of the oldest row kept."""
    return max(0, self.num - self._capacity)

  def append(self, row: Row) -> int:
    """Adds a row and returns its number."""
    self.reserve(self.num + 1)
    for name, array in self.arrays.items():
      array[self.num % self._capacity] = row[name]
    self.num += 1
    return self.num - 1

  def take(self, name: str, numbers: np.ndarray) -> np.ndarray:
    """Returns the entries of rows with the given numbers."""
    return self.arrays[name][numbers % self._capacity]

  def reserve(self, num: int) -> None:
    """Makes room for `num` rows, up to the capacity."""
    held = len(self.arrays['real'])
    if min(num, self._capacity) <= held:
      return
    wanted = min(self._capacity, max(num, 2 * held, _FIRST_CAPACITY))
    for name, column in self._columns.items():
      grown = np.zeros((wanted, *column.shape), column.dtype)
      grown[:held] = self.arrays[name]
      self.arrays[name] = grown


class _Table:
  """A ring of items, which are lists of row numbers."""

  def __init__(self, spec: StreamSpec, table: StreamTable, name: str):
    self.spec = table
    self.capacity = spec.max_items
    # By column of the items, `[capacity, ...]` numbers of rows, and the column
    # of those rows.
    self.rows = {
        column: np.zeros(
            (self.capacity, *shape[:len(shape) - len(row_shape)]), np.int64)
        for column, (shape, row_shape) in _shapes(spec, name).items()}
    self.sources = {column: _SOURCES.get(column, column)
                    for column in self.rows}
    self.tree = SumTree(self.capacity) if table.prioritized else None
    self.num = 0
    # Items before this one lost rows.
    self.oldest = 0

  def add(self, item: Item, recent: np.ndarray, priority: float,
          oldest_row: int) -> None:
    """Adds an item, and lets go those whose rows are gone."""
    slot = self.num % self.capacity
    for column, (_, rows) in item.columns.items():
      self.rows[column][slot] = recent[rows]
    if self.tree is not None:
      self.tree.set_one(slot, priority)
    self.num += 1
    self.oldest = max(self.oldest, self.num - self.capacity)
    frames = self.rows['frames']
    while frames[self.oldest % self.capacity].min() < oldest_row:
      if self.tree is not None:
        self.tree.set_one(self.oldest % self.capacity, 0.0)
      self.oldest += 1

  def draw(self, rng: np.random.Generator) -> np.ndarray:
    """Returns the numbers of items for one batch."""
    size = self.spec.items_per_batch
    if self.tree is None:
      return rng.integers(self.oldest, self.num, size=size)
    slots = self.tree.find(rng.random(size))
    # The newest item in each slot.
    return self.num - 1 - (self.num - 1 - slots) % self.capacity


class StreamMemory:
  """The tables of an agent that learns from single steps."""

  def __init__(self, spec: StreamSpec, seed: int):
    """Makes empty tables.

    Args:
      spec: what the agent needs.
      seed: of the sampling generator.
    """
    reach = streams.longest_item(spec)
    self._spec = spec
    self._reach = reach
    self._rows = _Rows(spec, int(spec.max_items * (1.0 + _ROW_MARGIN))
                       + reach * _MOST_STREAMS)
    self._tables = {name: _Table(spec, table, name)
                    for name, table in spec.tables.items()}
    # Numbers of the newest rows of each stream, the newest last.
    self._recent: Dict[int, np.ndarray] = {}
    self._rng = np.random.default_rng(seed)

  def __len__(self) -> int:
    return min(t.num - t.oldest for t in self._tables.values())

  @property
  def ready(self) -> bool:
    """Whether there is something to sample in every table."""
    return len(self) > 0

  def append(self, stream: int, row: Row) -> None:
    """Adds a row to a stream."""
    recent = self._recent.get(stream)
    if recent is None:
      recent = self._recent[stream] = np.full(self._reach, -1, np.int64)
    recent[:-1] = recent[1:]
    recent[-1] = self._rows.append(row)

  def create(self, stream: int, items: Sequence[Item],
             priority: float) -> bool:
    """Makes items of a stream's rows; always True, nothing holds it back."""
    recent = self._recent[stream]
    for item in items:
      self._tables[item.table].add(
          item, recent, priority, self._rows.oldest)
    return True

  def sample(self) -> Dict[str, Dict[str, np.ndarray]]:
    """Draws one batch of the agent's update, by table.

    Raises:
      RuntimeError: before there is anything to draw.
    """
    if not self.ready:
      raise RuntimeError('replay is empty')
    return {name: self._batch(table) for name, table in self._tables.items()}

  def set_priorities(self, table: str, key: np.ndarray,
                     priority: np.ndarray) -> None:
    """Changes the priorities of items that are still there.

    Args:
      table: whose items they are.
      key: `[B]` uint64, as a batch has them.
      priority: `[B]`.
    """
    held = self._tables[table]
    assert held.tree is not None, f'{table} has no priorities'
    number = key.astype(np.int64)
    there = number >= held.oldest
    held.tree.set(number[there] % held.capacity, priority[there])

  def _batch(self, table: _Table) -> Dict[str, np.ndarray]:
    number = table.draw(self._rng)
    slot = number % table.capacity
    batch = {column: self._rows.take(table.sources[column], rows[slot])
             for column, rows in table.rows.items()}
    if table.tree is not None:
      batch['probability'] = (
          table.tree.get(slot) / table.tree.total).astype(np.float32)
      batch['key'] = number.astype(np.uint64).view(np.uint32).reshape(-1, 2)
    return batch

  def save(self) -> Dict[str, Any]:
    """Returns everything needed to go on; arrays by name in 'arrays'."""
    arrays = {f'row/{name}': array for name, array in self._rows.arrays.items()}
    for name, table in self._tables.items():
      kept = np.arange(table.oldest, table.num) % table.capacity
      arrays.update({f'{name}/{column}': rows[kept]
                     for column, rows in table.rows.items()})
      if table.tree is not None:
        arrays[f'{name}/priority'] = table.tree.get(kept)
    return {
        'rows': self._rows.num,
        'tables': {name: [table.oldest, table.num]
                   for name, table in self._tables.items()},
        'rng': self._rng.bit_generator.state,
        'arrays': arrays,
    }

  def restore(self, saved: Mapping[str, Any]) -> None:
    """Takes over what `save` returned; streams begin with new episodes."""
    arrays = saved['arrays']
    self._rng.bit_generator.state = saved['rng']
    self._rows.num = int(saved['rows'])
    self._rows.reserve(len(arrays['row/real']))
    for name, array in self._rows.arrays.items():
      array[:len(arrays[f'row/{name}'])] = arrays[f'row/{name}']
    for name, table in self._tables.items():
      table.oldest, table.num = saved['tables'][name]
      kept = np.arange(table.oldest, table.num) % table.capacity
      for column, rows in table.rows.items():
        rows[kept] = arrays[f'{name}/{column}']
      if table.tree is not None and len(kept):
        table.tree.set(kept, arrays[f'{name}/priority'])
