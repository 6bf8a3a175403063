"""Streams in Reverb: tables, what actors write, what learners read."""

import queue
import threading
from typing import Any, Callable, Dict, Iterator, List, Sequence

from absl import logging
import numpy as np

from learners.stream_spec import StreamSpec, WindowItems
from replay import dataset, episodes, streams, tables
from replay.streams import Item, Row

# Batches whose priorities may wait to be sent.
MAX_WAITING = 16


def make_tables(spec: StreamSpec) -> List[Any]:
  """Builds the Reverb tables; runs inside the replay node.

  The learner keeps pace with the environment steps stored (replay/pacing.py),
  whichever items an update draws, so the limiters ask for one item each.
  """
  import reverb

  return [
      reverb.Table(
          name=name,
          # Priorities are stored with the exponent they are to be drawn with.
          sampler=(reverb.selectors.Prioritized(1.0) if table.prioritized
                   else reverb.selectors.Uniform()),
          remover=reverb.selectors.Fifo(),
          max_size=spec.max_items,
          rate_limiter=reverb.rate_limiters.MinSize(1),
          signature=tables.signature(streams.item_columns(spec, name)))
      for name, table in spec.tables.items()]


class ReverbStreams:
  """Writes each stream with a Reverb writer of its own."""

  def __init__(self, client: Any, spec: StreamSpec,
               should_stop: Callable[[], bool]):
    """Connects on the first row of each stream.

    Args:
      client: a `reverb.Client`.
      spec: what is stored.
      should_stop: polled while the server does not confirm.
    """
    self._client = client
    self._spec = spec
    self._should_stop = should_stop
    self._writers: Dict[int, Any] = {}

  def append(self, stream: int, row: Row) -> None:
    """Adds a row to a stream."""
    if stream not in self._writers:
      self._writers[stream] = self._connect()
    self._writers[stream].append(row)

  def create(self, stream: int, items: Sequence[Item],
             priority: float) -> bool:
    """Makes items of a stream's rows; False if the program stopped first."""
    writer = self._writers[stream]
    history = writer.history
    for item in items:
      writer.create_item(
          item.table, priority=priority,
          trajectory={name: history[column][rows]
                      for name, (column, rows) in item.columns.items()})
    return episodes.flush(
        writer, self._should_stop, episodes.MAX_UNCONFIRMED)

  def _connect(self) -> Any:
    reach = streams.longest_item(self._spec)
    writer = self._client.trajectory_writer(num_keep_alive_refs=reach)
    for name in streams.row_columns(self._spec):
      # An item then lies in two chunks or so, each little longer than itself.
      writer.configure((name,), num_keep_alive_refs=reach,
                       max_chunk_length=_chunk_length(self._spec))
    return writer


def _chunk_length(spec: StreamSpec) -> int:
  steps = [table.items.steps for table in spec.tables.values()
           if isinstance(table.items, WindowItems)]
  return spec.stack + max(steps, default=spec.stack)


def stream_batches(server_address: str,
                   spec: StreamSpec) -> Iterator[Dict[str, Any]]:
  """Yields batches of an update, by table, as NumPy arrays."""
  import tensorflow as tf

  def batches_of(name: str) -> Any:
    table = spec.tables[name]

    def fields(sample):
      data = dict(sample.data)
      if table.prioritized:
        data['probability'] = tf.cast(sample.info.probability, tf.float32)
        data['key'] = tf.bitcast(sample.info.key, tf.uint32)
      return data

    return dataset.table_batches(
        server_address, name, streams.item_columns(spec, name),
        table.items_per_batch, fields)

  return dataset.numpy_iterator(tf.data.Dataset.zip(
      {name: batches_of(name) for name in spec.tables}))


class PrioritySender:
  """Sends changed priorities to Reverb in a thread, off the training path."""

  def __init__(self, client: Any):
    """Prepares the thread; it starts with `start`.

    Args:
      client: a `reverb.Client`.
    """
    self._client = client
    self._queue: queue.Queue[Any] = queue.Queue(maxsize=MAX_WAITING)
    self.num_dropped = 0
    # It may hang in a call to a dead server, which nothing can end.
    self._thread = threading.Thread(
        target=self._send, name='priorities', daemon=True)

  def start(self) -> None:
    """Starts sending."""
    self._thread.start()

  def set_priorities(self, table: str, key: np.ndarray,
                     priority: np.ndarray) -> None:
    """Queues new priorities; drops them if too many wait already.

    Args:
      table: whose items they are.
      key: `[B]` uint64; items that are gone are let alone.
      priority: `[B]`.
    """
    try:
      self._queue.put_nowait((table, key, priority))
    except queue.Full:
      self.num_dropped += 1
      if self.num_dropped in (1, 1000):
        logging.warning('%d batches of priorities were not sent: the replay '
                        'server is slow', self.num_dropped)

  def _send(self) -> None:
    while True:
      table, key, priority = self._queue.get()
      try:
        self._client.mutate_priorities(
            table, updates=dict(zip(key.tolist(), priority.tolist())))
      except Exception as e:  # pylint: disable=broad-except
        # Replay that is gone ends the run elsewhere; priorities are no reason.
        logging.warning('priorities: %s', e)
