"""Replay of single steps: frames are stored once, items refer to them.

Every environment writes one stream of rows. A row holds a frame and the action,
reward and discount that led to it; an episode begins with empty rows, so that
stacks can reach back before its start, and ends with empty rows, so that the
windows that begin close to its end have the length of all others. Items are
lists of rows, some of which they share with others.
"""

import dataclasses
from typing import (
  Any,
  Callable,
  Dict,
  Iterator,
  List,
  Mapping,
  NamedTuple,
  Optional,
  Protocol,
  Sequence,
  Tuple,
  Union,
)

import dm_env
import numpy as np

from learners.agent import Column
from learners.stream_spec import PairItems, StreamSpec, WindowItems


class Item(NamedTuple):
  """One item that can be made now.

  Rows are counted back from the newest, which is -1.

  Attributes:
    table: where it goes.
    columns: by name, the column of the rows and which rows of it, consecutive
      ones or just one.
  """
  table: str
  columns: Dict[str, Tuple[str, Union[slice, int]]]


Row = Dict[str, np.ndarray]


def row_columns(spec: StreamSpec) -> Dict[str, Column]:
  """Returns the layout of one row."""
  return {
      'frame': spec.frame,
      'action': Column((), 'int32'),
      'reward': Column(()),
      'discount': Column(()),
      # 1 where a step led to this row.
      'real': Column(()),
  }


def item_columns(spec: StreamSpec, table: str) -> Dict[str, Column]:
  """Returns the layout of one item of a table."""
  items = spec.tables[table].items
  if isinstance(items, PairItems):
    state = Column((spec.stack, *spec.frame.shape), spec.frame.dtype)
    return {'frames': state, 'later_frames': state, 'discount': Column(())}
  steps = (items.steps,)
  return {
      'frames': Column((spec.stack + items.steps, *spec.frame.shape),
                       spec.frame.dtype),
      'action': Column((), 'int32'),
      'reward': Column(steps),
      'discount': Column(steps),
      'real': Column(steps),
  }


def longest_item(spec: StreamSpec) -> int:
  """Returns how many rows back an item may reach, the newest included."""
  spans = [t.items.steps if isinstance(t.items, WindowItems)
           else t.items.max_gap for t in spec.tables.values()]
  # Rows that fill up windows come after the last one that pairs are made at.
  return spec.stack + max(spans) + _padding(spec)


def _padding(spec: StreamSpec) -> int:
  """Returns the empty rows at an episode's end."""
  return max((t.items.steps - 1 for t in spec.tables.values()
              if isinstance(t.items, WindowItems)), default=0)


@dataclasses.dataclass
class _Pending:
  """Pairs that wait for their second state: its time, by the first one's."""
  items: PairItems
  ends: Dict[int, int]


class StreamCutter:
  """Turns the steps of one environment into rows and the items they complete.

  A window of n steps is made of every step, and a pair of every state but the
  last. The gap of a pair is geometric, cut off at the most allowed and at the
  end of the episode.
  """

  def __init__(self, spec: StreamSpec, rng: np.random.Generator):
    """Starts before the first episode.

    Args:
      spec: what is stored.
      rng: draws the gaps of pairs.
    """
    self._stack = spec.stack
    self._rng = rng
    self._empty: Row = {
        name: np.zeros(column.shape, column.dtype)
        for name, column in row_columns(spec).items()}
    self._windows = {name: table.items.steps
                     for name, table in spec.tables.items()
                     if isinstance(table.items, WindowItems)}
    self._pairs = {name: _Pending(table.items, {})
                   for name, table in spec.tables.items()
                   if isinstance(table.items, PairItems)}
    self._padding = _padding(spec)
    # Steps since the episode's first state.
    self._time = 0

  def begin(self, frame: np.ndarray) -> Iterator[Tuple[Row, List[Item]]]:
    """Yields the rows of an episode's first state."""
    self._time = 0
    for pending in self._pairs.values():
      pending.ends.clear()
    for _ in range(self._stack - 1):
      yield self._empty, []
    yield {**self._empty, 'frame': frame}, []
    self._plan_pairs()

  def add(self, frame: np.ndarray, action: int, reward: float, discount: float,
          last: bool) -> Iterator[Tuple[Row, List[Item]]]:
    """Yields the rows of one step, each with the items it completes.

    Args:
      frame: what the step led to.
      action: what was done.
      reward: of the step.
      discount: 0 if it ended the episode for good, else 1.
      last: whether the episode is over.
    """
    self._time += 1
    if last:
      self._replan_pairs()
    row = {
        'frame': frame,
        'action': np.asarray(action, np.int32),
        'reward': np.asarray(reward, np.float32),
        'discount': np.asarray(discount, np.float32),
        'real': np.asarray(1.0, np.float32),
    }
    yield row, self._windows_at(self._time) + self._pairs_at(self._time)
    if last:
      for time in range(self._time + 1, self._time + 1 + self._padding):
        yield self._empty, self._windows_at(time)
    else:
      self._plan_pairs()

  def _windows_at(self, time: int) -> List[Item]:
    """Returns the windows whose last row, of a given time, is the newest."""
    made = []
    for table, steps in self._windows.items():
      # Shorter windows are complete before all the empty rows are there.
      if steps <= time < self._time + steps:
        newest = slice(-steps, None)
        made.append(Item(table, {
            'frames': ('frame', slice(-steps - self._stack, None)),
            'action': ('action', -steps),
            'reward': ('reward', newest),
            'discount': ('discount', newest),
            'real': ('real', newest),
        }))
    return made

  def _pairs_at(self, time: int) -> List[Item]:
    """Returns the pairs whose second state is there at a given time."""
    made = []
    for table, pending in self._pairs.items():
      for start in [s for s, end in pending.ends.items() if end <= time]:
        end = pending.ends.pop(start)
        made.append(Item(table, {
            'frames': ('frame', self._state_at(start - time)),
            'later_frames': ('frame', self._state_at(end - time)),
            'discount': ('discount', end - time - 1)}))
    return made

  def _state_at(self, steps: int) -> slice:
    """Returns the rows of a state so many steps after the newest, at most 0."""
    return slice(steps - self._stack, steps or None)

  def _plan_pairs(self) -> None:
    """Draws when the pair that begins now is to end."""
    for pending in self._pairs.values():
      pending.ends[self._time] = self._time + self._draw_gap(
          pending.items, pending.items.max_gap)

  def _replan_pairs(self) -> None:
    """Draws again what would end after the episode does.

    This gives the distribution that is cut off at the end: a gap is either
    drawn within it at once, or drawn from it now. It may then end in the past.
    """
    for pending in self._pairs.values():
      for start, end in pending.ends.items():
        if end > self._time:
          pending.ends[start] = start + self._draw_gap(
              pending.items, self._time - start)

  def _draw_gap(self, items: PairItems, most: int) -> int:
    """Draws a gap from 1..most with P(gap) proportional to decay^gap."""
    if items.decay is None:
      return most
    mass = 1.0 - items.decay**most
    draw = np.log1p(-mass * self._rng.random()) / np.log(items.decay)
    return int(min(most, 1 + np.floor(draw)))


class StreamWriter(Protocol):
  """What takes the rows and items: Reverb, or this process's memory."""

  def append(self, stream: int, row: Row) -> None:
    """Adds a row to a stream."""
    ...

  def create(self, stream: int, items: Sequence[Item],
             priority: float) -> bool:
    """Makes items of a stream's rows; False if the program stopped first."""
    ...


class StreamRecorder:
  """Writes the steps of E environments, each into its own stream.

  An actor's `Recorder`: steps count as soon as they are recorded.
  """

  counts_steps = True
  unstored_steps = 0

  def __init__(self, spec: StreamSpec, num_envs: int, writer: StreamWriter,
               seed: int, first_stream: int = 0,
               priority: Callable[[Any], float] = lambda params: 1.0):
    """Starts E streams.

    Args:
      spec: what is stored.
      num_envs: environments, E.
      writer: takes the rows and items.
      seed: of the gaps between pairs.
      first_stream: number of the first environment's stream.
      priority: `params -> priority` of new items; the params are those that a
        step was acted with, or None.
    """
    rngs = np.random.default_rng(seed).spawn(num_envs)
    self._cutters = [StreamCutter(spec, rng) for rng in rngs]
    self._writer = writer
    self._first_stream = first_stream
    self._priority_of = priority
    self._priority: Tuple[Any, float] = (None, priority(None))

  def record(self, timestep: dm_env.TimeStep, action: Optional[np.ndarray],
             params: Any) -> Optional[Mapping[str, np.ndarray]]:
    """Stores one vectorised step.

    Args:
      timestep: batched, as a `VectorEnvironment` returns it.
      action: `[E]` what led to it; None right after `reset`.
      params: what the step was acted with; None in the warm-up.

    Returns:
      No further metrics, or None if the program stopped before all was stored.
    """
    if params is not self._priority[0]:
      # Looked up once for each set of params.
      self._priority = (params, self._priority_of(params))
    priority = self._priority[1]
    for i, cutter in enumerate(self._cutters):
      stream = self._first_stream + i
      frame = timestep.observation[i]
      if timestep.step_type[i] == dm_env.StepType.FIRST:
        rows = cutter.begin(frame)
      else:
        assert action is not None, 'a step has an action'
        rows = cutter.add(
            frame, action[i], timestep.reward[i], timestep.discount[i],
            timestep.step_type[i] == dm_env.StepType.LAST)
      for row, items in rows:
        self._writer.append(stream, row)
        if items and not self._writer.create(stream, items, priority):
          return None
    return {}
