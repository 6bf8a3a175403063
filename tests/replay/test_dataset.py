"""The learner's batches: from a real server, in a thread, on the device."""

import threading
import time

import jax
import numpy as np
import pytest

from learners.agent import Column, ReplaySpec, StepPacing
from replay.dataset import Prefetcher, reverb_batches
from replay.episodes import ReverbWriter
from replay.tables import TableLimits

COLUMNS = {'observation': Column((3, 2)), 'length': Column((), 'int32')}
SPEC = ReplaySpec(COLUMNS, episodes_per_batch=4,
                  pacing=StepPacing(1, 4, 1.0), max_steps=100)
NUM_ITEMS = 6
PATIENCE = 20.0


@pytest.fixture
def prefetch():
  """Yields `source -> started Prefetcher`; the threads end with the test."""
  started = []

  def start(source, **kwargs):
    started.append(Prefetcher(source, **kwargs))
    started[-1].start()
    return started[-1]

  before = set(threading.enumerate())
  yield start
  for prefetcher in started:
    prefetcher.stop()
  for thread in set(threading.enumerate()) - before:
    if thread.name == 'prefetcher':
      thread.join(PATIENCE)
      assert not thread.is_alive()


def running():
  """Returns the names of prefetching threads that are alive."""
  return [t.name for t in threading.enumerate() if t.name == 'prefetcher']


def wait_until(condition):
  deadline = time.monotonic() + PATIENCE
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)


@pytest.fixture
def filled(serve):
  """Returns the client of a server whose items hold their own number."""
  client = serve(COLUMNS, TableLimits(1, 100, 1.0, 1e6))
  numbers = np.arange(NUM_ITEMS)
  observation = np.zeros((NUM_ITEMS, 3, 2), np.float32)
  observation += numbers[:, np.newaxis, np.newaxis]
  ReverbWriter(client, COLUMNS, lambda: False).write(
      {'observation': observation, 'length': numbers.astype(np.int32)})
  return client


def test_a_server_yields_full_batches_on_the_device(filled, prefetch):
  device = jax.devices()[0]
  batches = prefetch(
      lambda: reverb_batches(filled.server_address, SPEC), device=device)
  seen = set()
  for _ in range(30):
    batch = batches.get(timeout=PATIENCE)
    assert set(batch) == set(COLUMNS)
    for name, column in COLUMNS.items():
      assert isinstance(batch[name], jax.Array)
      assert batch[name].devices() == {device}
      assert batch[name].shape == (4, *column.shape)
      assert batch[name].dtype == np.dtype(column.dtype)
    lengths = np.asarray(batch['length'])
    for observation, length in zip(batch['observation'], lengths):
      np.testing.assert_array_equal(observation, np.full((3, 2), length))
    seen.update(lengths.tolist())
  assert seen == set(range(NUM_ITEMS))


def test_stop_ends_the_thread_of_a_server_that_goes_on(filled, prefetch):
  batches = prefetch(lambda: reverb_batches(filled.server_address, SPEC))
  assert batches.get(timeout=PATIENCE) is not None
  assert running()
  batches.stop()
  wait_until(lambda: not running())


def numbers():
  """Yields batches that hold their number."""
  number = 0
  while True:
    yield {'number': np.full(2, number)}
    number += 1


def test_batches_keep_their_order(prefetch):
  batches = prefetch(numbers, depth=3)
  got = [int(batches.get(timeout=PATIENCE)['number'][0]) for _ in range(20)]
  assert got == list(range(20))


def test_no_more_is_fetched_than_there_is_room_for(prefetch):
  made = []

  def source():
    for batch in numbers():
      made.append(batch)
      yield batch

  batches = prefetch(source, depth=2)
  time.sleep(0.05)
  assert not made
  batches.get(timeout=PATIENCE)
  # Two are ready, the next is in the thread's hand.
  wait_until(lambda: len(made) == 4)
  time.sleep(0.05)
  assert len(made) == 4
  batches.get(timeout=PATIENCE)
  wait_until(lambda: len(made) == 5)


def test_an_error_in_the_source_is_raised_by_get(prefetch):
  def source():
    yield {'x': np.zeros(2)}
    raise KeyError('the seventh column')

  batches = prefetch(source)
  assert batches.get(timeout=PATIENCE) is not None
  with pytest.raises(KeyError, match='the seventh column'):
    batches.get(timeout=PATIENCE)
  wait_until(lambda: not running())


def test_an_error_before_the_first_batch_is_raised_by_get(prefetch):
  def source():
    raise ConnectionError('no server')

  with pytest.raises(ConnectionError, match='no server'):
    prefetch(source).get(timeout=PATIENCE)


def test_a_stream_that_ends_is_an_error(prefetch):
  batches = prefetch(lambda: iter([{'x': np.zeros(2)}]))
  assert batches.get(timeout=PATIENCE) is not None
  with pytest.raises(RuntimeError, match='ended the stream'):
    batches.get(timeout=PATIENCE)


def test_get_returns_none_when_nothing_comes(prefetch):
  release = threading.Event()

  def source():
    release.wait(PATIENCE)
    yield from numbers()

  batches = prefetch(source)
  try:
    assert batches.get(timeout=0.01) is None
  finally:
    release.set()
  assert batches.get(timeout=PATIENCE)['number'].tolist() == [0, 0]


def test_stop_ends_a_thread_that_waits_for_room(prefetch):
  batches = prefetch(numbers, depth=1)
  assert batches.get(timeout=PATIENCE) is not None
  batches.stop()
  wait_until(lambda: not running())
