"""What actors write: whole episodes, one replay item each."""

from typing import Any, Callable, Dict, Mapping, Optional, Protocol

import dm_env
import numpy as np

from learners.agent import Column, HELD_OUT
from replay import tables

Episodes = Dict[str, np.ndarray]

# How long one flush may block before the writer looks at the stop signal.
FLUSH_TIMEOUT_MS = 500
# Items sent before the server must have confirmed them.
MAX_UNCONFIRMED = 20


class EpisodeWriter(Protocol):
  """Stores episodes; False means the program stopped first."""

  def write(self, episodes: Episodes) -> bool:
    """Stores `[n, ...]` episodes."""
    ...


class EpisodeBuffer:
  """Collects the steps of E environments into whole episodes.

  Columns it knows: `observation [T+1, ...]`, `action`, `reward` and `discount`
  (`[T, ...]`), `length []` and `episode_return []`, the sum of the rewards.
  Entries beyond an episode's length are zero.
  """

  def __init__(self, columns: Mapping[str, Column], num_envs: int,
               held_out_every: int = 0):
    """Allocates room for one episode per environment.

    Args:
      columns: layout of one replay item.
      num_envs: number of environments, E.
      held_out_every: the first of each so many episodes is marked in a further
        array `HELD_OUT`, `[n]` bool; 0 marks none and adds no array.

    Raises:
      ValueError: if a column is not one of those above.
    """
    known = ('observation', 'action', 'reward', 'discount', 'length',
             'episode_return')
    unknown = sorted(set(columns) - set(known))
    if unknown:
      raise ValueError(f'unknown replay columns {unknown}; known: {known}')
    self._arrays = {
        name: np.zeros((num_envs, *column.shape), column.dtype)
        for name, column in columns.items() if name not in known[-2:]}
    self._length = np.zeros(num_envs, np.int32)
    self._returns = 'episode_return' in columns
    self._return = np.zeros(num_envs)
    self._held_out_every = held_out_every
    self._num_finished = 0

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
      self._return[first] = 0.0
      for array in self._arrays.values():
        array[first] = 0
    moved = np.flatnonzero(~first)
    self._length[moved] += 1
    self._return[moved] += timestep.reward[moved]
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
    if self._returns:
      episodes['episode_return'] = self._return[last].astype(np.float32)
    num = len(episodes['length'])
    if self._held_out_every:
      numbers = self._num_finished + np.arange(num)
      episodes[HELD_OUT] = numbers % self._held_out_every == 0
    self._num_finished += num
    self._length[last] = 0
    return episodes


class ReverbWriter:
  """Appends whole episodes to a Reverb table, one step and one item each.

  A whole-episode append is one chunk: it inserts and samples far faster, in a
  tenth of the memory, than an append per step.
  """

  def __init__(self, client: Any, columns: Mapping[str, Column],
               should_stop: Callable[[], bool],
               priority: Optional[str] = None):
    """Connects lazily on the first write.

    Args:
      client: a `reverb.Client`.
      columns: layout of one item.
      should_stop: polled while the rate limiter holds an insert back.
      priority: the column that is an item's priority; None gives all the same.
    """
    self._client = client
    self._columns = list(columns)
    self._priority = priority
    self._should_stop = should_stop
    self._writer: Any = None

  def write(self, episodes: Episodes) -> bool:
    """Inserts episodes and waits until the server has them.

    Args:
      episodes: `[n, ...]` arrays, one per column; rows marked in `HELD_OUT`,
        if it is there, go to the table of that name.

    Returns:
      False if the program was stopped before the server confirmed.
    """
    if self._writer is None:
      self._writer = self._client.trajectory_writer(num_keep_alive_refs=1)
    num = len(episodes['length'])
    held_out = episodes.get(HELD_OUT, np.zeros(num, bool))
    for i in range(num):
      self._writer.append({name: episodes[name][i] for name in self._columns})
      self._writer.create_item(
          tables.HELD_OUT_TABLE if held_out[i] else tables.TABLE,
          priority=(float(episodes[self._priority][i]) if self._priority
                    else 1.0),
          trajectory={n: self._writer.history[n][-1] for n in self._columns})
      if (i + 1) % MAX_UNCONFIRMED == 0 and not flush(
          self._writer, self._should_stop):
        return False
    return flush(self._writer, self._should_stop)


def flush(writer: Any, should_stop: Callable[[], bool],
          max_unconfirmed: int = 0) -> bool:
  """Waits until the server has confirmed items; False if the program stops.

  Args:
    writer: a Reverb writer.
    should_stop: polled while the server does not confirm.
    max_unconfirmed: items that need not be confirmed yet.
  """
  import reverb
  while True:
    try:
      writer.flush(block_until_num_items=max_unconfirmed,
                   timeout_ms=FLUSH_TIMEOUT_MS)
      return True
    except reverb.errors.DeadlineExceededError:
      if should_stop():
        return False


class EpisodeRecorder:
  """Stores whole episodes: an actor's `Recorder`."""

  counts_steps = False

  def __init__(self, buffer: EpisodeBuffer, writer: EpisodeWriter):
    """Puts the parts together.

    Args:
      buffer: collects episodes.
      writer: stores them.
    """
    self._buffer = buffer
    self._writer = writer

  @property
  def unstored_steps(self) -> int:
    """Environment steps in episodes that have not ended."""
    return self._buffer.unstored_steps

  def record(self, timestep: dm_env.TimeStep, action: Optional[np.ndarray],
             params: Any) -> Optional[Mapping[str, np.ndarray]]:
    """Adds one vectorised step and stores the episodes that ended with it.

    Args:
      timestep: batched, as a `VectorEnvironment` returns it.
      action: `[E, ...]` what led to it; None right after `reset`.
      params: not needed.

    Returns:
      Which episodes were held out, if any are, or None if the program stopped
      before they were stored.
    """
    del params
    episodes = self._buffer.add(timestep, action)
    if episodes is None:
      return {}
    if not self._writer.write(episodes):
      return None
    return {n: episodes[n] for n in (HELD_OUT,) if n in episodes}
