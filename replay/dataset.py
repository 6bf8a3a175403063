"""What learners read: batches prepared off the training path."""

import queue
import threading
from typing import Any, Callable, Iterator, Mapping, Optional

import jax

from learners.agent import Batch, Column, HELD_OUT, ReplaySpec
from replay import tables

# Batches held ready for the learner.
PREFETCH = 2


def reverb_batches(server_address: str, replay: ReplaySpec) -> Iterator[Batch]:
  """Yields batches of whole episodes from a Reverb server, as NumPy arrays."""
  import tensorflow as tf

  dataset = table_batches(server_address, tables.TABLE, replay.columns,
                          replay.episodes_per_batch)
  if replay.held_out_every:
    held_out = table_batches(server_address, tables.HELD_OUT_TABLE,
                             replay.columns, replay.held_out_per_batch)
    dataset = tf.data.Dataset.zip((dataset, held_out)).map(
        lambda items, held_out: {**items, HELD_OUT: held_out})
  return numpy_iterator(dataset)


def table_batches(
    server_address: str, table: str, columns: Mapping[str, Column], num: int,
    fields: Callable[[Any], Any] = lambda sample: sample.data) -> Any:
  """Returns a `tf.data.Dataset` of batches from one table.

  Args:
    server_address: of Reverb.
    table: its name.
    columns: layout of one item.
    num: items in a batch, and asked for ahead.
    fields: `sample -> tensors`, what of a Reverb sample goes into the batch.
  """
  import reverb

  layout = tables.signature(columns)
  return reverb.TrajectoryDataset(
      server_address=server_address,
      table=table,
      dtypes={name: spec.dtype for name, spec in layout.items()},
      shapes={name: spec.shape for name, spec in layout.items()},
      max_in_flight_samples_per_worker=num,
      num_workers_per_iterator=1,
  ).map(fields).batch(num, drop_remainder=True)


def numpy_iterator(dataset: Any) -> Iterator[Any]:
  """Yields what is in a `tf.data.Dataset` as NumPy arrays, in one thread."""
  import tensorflow as tf

  options = tf.data.Options()
  # The cores belong to the update.
  options.threading.private_threadpool_size = 1
  options.threading.max_intra_op_parallelism = 1
  # It draws from its creation on, which is at the first `next`.
  yield from dataset.with_options(options).as_numpy_iterator()


class Prefetcher:
  """Moves batches to the device in a thread, a bounded number ahead."""

  def __init__(self, make_batches: Callable[[], Iterator[Batch]],
               depth: int = PREFETCH,
               device: Optional[jax.Device] = None):
    """Prepares the thread; it starts with `start`.

    Args:
      make_batches: called once in the thread.
      depth: batches held ready.
      device: where they are put; None is JAX's default.
    """
    self._make_batches = make_batches
    self._device = device
    self._queue: queue.Queue[Any] = queue.Queue(maxsize=depth)
    self._wanted = threading.Event()
    self._stopped = threading.Event()
    self._thread = threading.Thread(
        target=self._fill, name='prefetcher', daemon=True)

  def start(self) -> None:
    """Starts to prepare; what is drawn is drawn after the first `get`.

    The first items there are would be all that there is to draw before.
    """
    self._thread.start()

  def get(self, timeout: float) -> Optional[Batch]:
    """Returns the next batch, or None if none came within `timeout` seconds.

    Raises:
      Exception: whatever ended the thread.
    """
    self._wanted.set()
    try:
      item = self._queue.get(timeout=timeout)
    except queue.Empty:
      return None
    if isinstance(item, BaseException):
      raise item
    return item

  def stop(self) -> None:
    """Tells the thread to end; it may still hang in a call to a dead server."""
    self._stopped.set()
    self._wanted.set()

  def _fill(self) -> None:
    try:
      batches = self._make_batches()
      self._wanted.wait()
      while not self._stopped.is_set():
        batch = next(batches, None)
        if batch is None:
          raise RuntimeError('the replay server ended the stream of batches')
        self._put(jax.device_put(batch, self._device))
    except BaseException as e:  # pylint: disable=broad-except
      # Raised again in the learner's own thread, by `get`.
      self._put(e)

  def _put(self, item: Any) -> None:
    while not self._stopped.is_set():
      try:
        self._queue.put(item, timeout=0.5)
        return
      except queue.Full:
        continue
