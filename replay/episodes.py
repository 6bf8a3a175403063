"""What actors write: whole episodes, one replay item each."""

from typing import Any, Callable, Dict, Mapping, Optional

import dm_env
import numpy as np

from learners.agent import Column

Episodes = Dict[str, np.ndarray]

# How long one flush may block before the writer looks at the stop signal.
FLUSH_TIMEOUT_MS = 500
# Items sent before the server must have confirmed them.
MAX_UNCONFIRMED = 20


class EpisodeBuffer:
  """Collects the steps of E environments into whole episodes.

  Columns it knows: `observation [T+1, ...]`, `action`, `reward` and `discount`
  (`[T, ...]`) and `length []`. Entries beyond an episode's length are zero.
  """

  def __init__(self, columns: Mapping[str, Column], num_envs: int):
    """Allocates room for one episode per environment.

    Args:
      columns: layout of one replay item.
      num_envs: number of environments, E.

    Raises:
      ValueError: if a column is not one of those above.
    """
    known = ('observation', 'action', 'reward', 'discount', 'length')
    unknown = sorted(set(columns) - set(known))
    if unknown:
      raise ValueError(f'unknown replay columns {unknown}; known: {known}')
    self._arrays = {
        name: np.zeros((num_envs, *column.shape), column.dtype)
        for name, column in columns.items() if name != 'length'}
    self._length = np.zeros(num_envs, np.int32)

  @property
  def unstored_steps(self) -> int:
    """Environment steps in episodes that have not ended."""
    return int(self._length.sum())

  def add(self, timestep: dm_env.TimeStep,
          action: Optional[np.ndarray]) -> Optional[Episodes]:
    """Adds one vectorised step.

    Args:
      timestep: batched, as a `VectorEnvironment` returns it.
      action: `[E, A]` what led to it; None right after `reset`.

    Returns:
      The episodes that ended with this step, `[n, ...]` arrays, or None.
    """
    first = timestep.step_type == dm_env.StepType.FIRST
    if first.any():
      self._length[first] = 0
      for array in self._arrays.values():
        array[first] = 0
    moved = np.flatnonzero(~first)
    self._length[moved] += 1
    everyone = np.arange(len(self._length))
    if 'observation' in self._arrays:
      self._arrays['observation'][everyone, self._length] = timestep.observation
    step = self._length[moved] - 1
    for name, value in (('action', action), ('reward', timestep.reward),
                        ('discount', timestep.discount)):
      if name in self._arrays and len(moved):
        assert value is not None, f'{name} is missing after a step'
        self._arrays[name][moved, step] = value[moved]
    return self._take(timestep.step_type == dm_env.StepType.LAST)

  def _take(self, last: np.ndarray) -> Optional[Episodes]:
    """Copies out the episodes in the mask `last`, and forgets their steps."""
    if not last.any():
      return None
    episodes = {name: array[last] for name, array in self._arrays.items()}
    episodes['length'] = self._length[last]
    self._length[last] = 0
    return episodes


class ReverbWriter:
  """Appends whole episodes to a Reverb table, one step and one item each.

  A whole-episode append is one chunk: it inserts and samples far faster, in a
  tenth of the memory, than an append per step.
  """

  def __init__(self, client: Any, table: str, columns: Mapping[str, Column],
               should_stop: Callable[[], bool]):
    """Connects lazily on the first write.

    Args:
      client: a `reverb.Client`.
      table: the table's name.
      columns: layout of one item.
      should_stop: polled while the rate limiter holds an insert back.
    """
    self._client = client
    self._table = table
    self._columns = list(columns)
    self._should_stop = should_stop
    self._writer: Any = None

  def write(self, episodes: Episodes) -> bool:
    """Inserts episodes and waits until the server has them.

    Args:
      episodes: `[n, ...]` arrays, one per column.

    Returns:
      False if the program was stopped before the server confirmed.
    """
    if self._writer is None:
      self._writer = self._client.trajectory_writer(num_keep_alive_refs=1)
    for i in range(len(episodes['length'])):
      self._writer.append({name: episodes[name][i] for name in self._columns})
      self._writer.create_item(
          self._table, priority=1.0,
          trajectory={n: self._writer.history[n][-1] for n in self._columns})
      if (i + 1) % MAX_UNCONFIRMED == 0 and not self._flush():
        return False
    return self._flush()

  def _flush(self) -> bool:
    """Waits until all is confirmed; False if the program stops first."""
    import reverb
    while True:
      try:
        self._writer.flush(timeout_ms=FLUSH_TIMEOUT_MS)
        return True
      except reverb.errors.DeadlineExceededError:
        if self._should_stop():
          return False
